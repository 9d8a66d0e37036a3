/* SPDX-License-Identifier: MIT
 * The sigmoid form needs one exp and one division and keeps its relative accuracy for negative x, where 1 + tanh
 * would cancel. */
#include "gelu.h"
#include "kernels.h"
#include "pool.h"
#include "simd.h"

struct forward_job {
    float *y;
    const float *x;
    int64_t n;
};

struct backward_job {
    float *dx, *y;
    const float *dy, *x;
    int64_t n;
};

static void forward_task(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct forward_job *job = argument;
    int64_t end = mg_block_end(job->n, MG_ELEMENTS_PER_TASK, index);
    for (int64_t i = index * MG_ELEMENTS_PER_TASK; i < end; i += MG_LANES) {
        vf x = mg_load_n(job->x + i, end - i);
        mg_store_n(job->y + i, x * mg_gelu_gate(x), end - i);
    }
}

static void backward_task(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct backward_job *job = argument;
    int64_t end = mg_block_end(job->n, MG_ELEMENTS_PER_TASK, index);
    for (int64_t i = index * MG_ELEMENTS_PER_TASK; i < end; i += MG_LANES) {
        vf x = mg_load_n(job->x + i, end - i), dy = mg_load_n(job->dy + i, end - i);
        vf s = mg_gelu_gate(x);
        vf du = mg_gelu_gate_slope(x);
        mg_store_n(job->y + i, x * s, end - i);
        mg_store_n(job->dx + i, dy * (s + x * s * (1.0f - s) * du), end - i);
    }
}

void mg_gelu_forward(float *y, const float *x, int64_t n)
{
    struct forward_job job = {y, x, n};
    mg_parallel(forward_task, &job, mg_blocks(n, MG_ELEMENTS_PER_TASK));
}

void mg_gelu_backward(float *dx, float *y, const float *dy, const float *x, int64_t n)
{
    struct backward_job job = {dx, y, dy, x, n};
    mg_parallel(backward_task, &job, mg_blocks(n, MG_ELEMENTS_PER_TASK));
}
