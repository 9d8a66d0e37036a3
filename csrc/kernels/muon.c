/* SPDX-License-Identifier: MIT
 * What Muon does beside its matrix products: one pass over memory before them, and one behind. */
#include "kernels.h"
#include "pool.h"
#include "simd.h"

struct muon_job {
    float *p, *m, *grad;
    int64_t n;
    float beta, rest, grad_scale, rate, keep;
};

static void momentum_block(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct muon_job *job = argument;
    const int64_t end = mg_block_end(job->n, MG_ELEMENTS_PER_TASK, index);
    for (int64_t i = index * MG_ELEMENTS_PER_TASK; i < end; i += MG_LANES) {
        const int64_t left = end - i;
        const vf g = job->rest * (mg_load_n(job->grad + i, left) * job->grad_scale);
        const vf m = job->beta * mg_load_n(job->m + i, left) + g;
        mg_store_n(job->m + i, m, left);
        mg_store_n(job->grad + i, job->beta * m + g, left);
    }
}

void mg_nesterov_momentum(float *grad, float *m, int64_t n, float beta, float rest, float grad_scale)
{
    struct muon_job job = {.m = m, .grad = grad, .n = n, .beta = beta, .rest = rest, .grad_scale = grad_scale};
    mg_parallel(momentum_block, &job, mg_blocks(n, MG_ELEMENTS_PER_TASK));
}

static void descent_block(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct muon_job *job = argument;
    const int64_t end = mg_block_end(job->n, MG_ELEMENTS_PER_TASK, index);
    for (int64_t i = index * MG_ELEMENTS_PER_TASK; i < end; i += MG_LANES) {
        const int64_t left = end - i;
        const vf p = mg_load_n(job->p + i, left), u = mg_load_n(job->grad + i, left);
        mg_store_n(job->p + i, job->keep * p - job->rate * u, left);
        mg_store_n(job->grad + i, mg_set(0.0f), left);
    }
}

void mg_descend(float *p, float *update, int64_t n, float rate, float keep)
{
    struct muon_job job = {.p = p, .grad = update, .n = n, .rate = rate, .keep = keep};
    mg_parallel(descent_block, &job, mg_blocks(n, MG_ELEMENTS_PER_TASK));
}
