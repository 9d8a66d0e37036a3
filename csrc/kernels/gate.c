/* SPDX-License-Identifier: MIT */
#include "kernels.h"
#include "recurrence.h"

struct job {
    float *y, *dx, *dz;
    const float *dy, *x, *z;
    int64_t n;
};

static void forward_task(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    int64_t end = mg_block_end(job->n, MG_ELEMENTS_PER_TASK, index);
    for (int64_t i = index * MG_ELEMENTS_PER_TASK; i < end; i += MG_LANES)
        mg_store_n(job->y + i, mg_load_n(job->x + i, end - i) * mg_sigmoid(mg_load_n(job->z + i, end - i)), end - i);
}

static void backward_task(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    int64_t end = mg_block_end(job->n, MG_ELEMENTS_PER_TASK, index);
    for (int64_t i = index * MG_ELEMENTS_PER_TASK; i < end; i += MG_LANES) {
        vf s = mg_sigmoid(mg_load_n(job->z + i, end - i)), dy = mg_load_n(job->dy + i, end - i);
        mg_store_n(job->dz + i, dy * mg_load_n(job->x + i, end - i) * s * (1.0f - s), end - i);
        mg_store_n(job->dx + i, dy * s, end - i);
    }
}

void mg_gate_forward(float *y, const float *x, const float *z, int64_t n)
{
    struct job job = {.y = y, .x = x, .z = z, .n = n};
    mg_parallel(forward_task, &job, mg_blocks(n, MG_ELEMENTS_PER_TASK));
}

void mg_gate_backward(float *dx, float *dz, const float *dy, const float *x, const float *z, int64_t n)
{
    struct job job = {.dx = dx, .dz = dz, .dy = dy, .x = x, .z = z, .n = n};
    mg_parallel(backward_task, &job, mg_blocks(n, MG_ELEMENTS_PER_TASK));
}
