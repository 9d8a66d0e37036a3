/* SPDX-License-Identifier: MIT */
#include "kernels.h"
#include "pool.h"
#include "simd.h"

struct job {
    float *dx, *y;
    const float *dy, *x;
    int64_t n;
};

static inline vf positive(vf x) { return mg_select(x < mg_set(0.0f), mg_set(0.0f), x); } /* NaN stays NaN */

static void forward_task(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    int64_t end = mg_block_end(job->n, MG_ELEMENTS_PER_TASK, index);
    for (int64_t i = index * MG_ELEMENTS_PER_TASK; i < end; i += MG_LANES) {
        vf x = positive(mg_load_n(job->x + i, end - i));
        mg_store_n(job->y + i, x * x, end - i);
    }
}

static void backward_task(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    int64_t end = mg_block_end(job->n, MG_ELEMENTS_PER_TASK, index);
    for (int64_t i = index * MG_ELEMENTS_PER_TASK; i < end; i += MG_LANES) {
        vf x = positive(mg_load_n(job->x + i, end - i)), dy = mg_load_n(job->dy + i, end - i);
        mg_store_n(job->y + i, x * x, end - i);
        mg_store_n(job->dx + i, 2.0f * dy * x, end - i);
    }
}

void mg_relu2_forward(float *y, const float *x, int64_t n)
{
    struct job job = {0, y, 0, x, n};
    mg_parallel(forward_task, &job, mg_blocks(n, MG_ELEMENTS_PER_TASK));
}

void mg_relu2_backward(float *dx, float *y, const float *dy, const float *x, int64_t n)
{
    struct job job = {dx, y, dy, x, n};
    mg_parallel(backward_task, &job, mg_blocks(n, MG_ELEMENTS_PER_TASK));
}
