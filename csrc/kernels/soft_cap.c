/* SPDX-License-Identifier: MIT
 * tanh u is u (1 + u^2 P(u^2)) where u^2 < 0.3, to 1e-9, for what exp gives there has lost the digits of small u. */
#include "kernels.h"
#include "pool.h"
#include "simd.h"

struct job {
    float *y;
    const float *dy, *x;
    int64_t n;
    float cap;
};

static inline vf tanh_of(vf u)
{
    vf s = u * u, e = mg_exp(-2.0f * mg_max(u, -u));
    vf p = mg_set(-0.006299524118490144f);
    p = p * s + 0.02108898841000517f;
    p = p * s - 0.05385637397604329f;
    p = p * s + 0.13332623526716514f;
    p = p * s - 0.3333331862185034f;
    vf large = (1.0f - e) / (1.0f + e);
    large = mg_select(u < mg_set(0.0f), -large, large);
    return mg_select(s < mg_set(0.3f), u + u * s * p, large);
}

static void forward_task(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    int64_t end = mg_block_end(job->n, MG_ELEMENTS_PER_TASK, index);
    for (int64_t i = index * MG_ELEMENTS_PER_TASK; i < end; i += MG_LANES)
        mg_store_n(job->y + i, job->cap * tanh_of(mg_load_n(job->x + i, end - i) / job->cap), end - i);
}

static void backward_task(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    int64_t end = mg_block_end(job->n, MG_ELEMENTS_PER_TASK, index);
    for (int64_t i = index * MG_ELEMENTS_PER_TASK; i < end; i += MG_LANES) {
        vf y = tanh_of(mg_load_n(job->x + i, end - i) / job->cap);
        mg_store_n(job->y + i, mg_load_n(job->dy + i, end - i) * (1.0f - y * y), end - i);
    }
}

void mg_soft_cap_forward(float *y, const float *x, int64_t n, float cap)
{
    struct job job = {y, 0, x, n, cap};
    mg_parallel(forward_task, &job, mg_blocks(n, MG_ELEMENTS_PER_TASK));
}

void mg_soft_cap_backward(float *dx, const float *dy, const float *x, int64_t n, float cap)
{
    struct job job = {dx, dy, x, n, cap};
    mg_parallel(backward_task, &job, mg_blocks(n, MG_ELEMENTS_PER_TASK));
}
