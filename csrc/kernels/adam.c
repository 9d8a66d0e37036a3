/* SPDX-License-Identifier: MIT
 * One pass over memory: 32 bytes a parameter are read and written, which is what bounds it.  The gradient is zeroed
 * on the way: a pass of its own would read it from memory once more. */
#include "kernels.h"
#include "pool.h"
#include "simd.h"

#include <math.h>

#define BLOCK 65536

struct sum_job {
    const float *x;
    double *sums;
    int64_t n;
};

static void sum_block(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct sum_job *job = argument;
    int64_t end = mg_block_end(job->n, BLOCK, index);
    double sums[8] = {0}; /* independent chains */
    int64_t i = index * BLOCK;
    for (; i + 8 <= end; i += 8)
        for (int j = 0; j < 8; j++) sums[j] += (double)job->x[i + j] * (double)job->x[i + j];
    for (; i < end; i++) sums[0] += (double)job->x[i] * (double)job->x[i];
    job->sums[index] = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

double mg_sum_squares(const float *x, double *scratch, int64_t n)
{
    struct sum_job job = {x, scratch, n};
    int64_t blocks = mg_blocks(n, BLOCK);
    mg_parallel(sum_block, &job, blocks);
    double sum = 0;
    for (int64_t b = 0; b < blocks; b++) sum += scratch[b];
    return sum;
}

struct adam_job {
    float *p, *m1, *m2, *grad;
    int64_t n;
    float lr, beta1, beta2, rest1, rest2, eps, weight_decay, correction1, correction2, grad_scale;
};

static inline vf square_root(vf v)
{
    for (int i = 0; i < MG_LANES; i++) v[i] = sqrtf(v[i]); /* becomes one instruction */
    return v;
}

static void adam_block(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct adam_job *a = argument;
    int64_t end = mg_block_end(a->n, BLOCK, index);
    for (int64_t i = index * BLOCK; i < end; i += MG_LANES) {
        int64_t m = end - i;
        vf g = mg_load_n(a->grad + i, m) * a->grad_scale;
        vf p = mg_load_n(a->p + i, m);
        vf m1 = a->beta1 * mg_load_n(a->m1 + i, m) + a->rest1 * g;
        vf m2 = a->beta2 * mg_load_n(a->m2 + i, m) + a->rest2 * g * g;
        vf update = m1 / a->correction1 / (square_root(m2 / a->correction2) + a->eps);
        mg_store_n(a->grad + i, mg_set(0.0f), m);
        mg_store_n(a->m1 + i, m1, m);
        mg_store_n(a->m2 + i, m2, m);
        mg_store_n(a->p + i, p - a->lr * (update + a->weight_decay * p), m);
    }
}

void mg_adam_step(float *p, float *m1, float *m2, float *grad, int64_t n, float lr, float beta1, float beta2,
    float rest1, float rest2, float eps, float weight_decay, float correction1, float correction2, float grad_scale)
{
    struct adam_job job = {p, m1, m2, grad, n, lr, beta1, beta2, rest1, rest2, eps, weight_decay, correction1,
        correction2, grad_scale};
    mg_parallel(adam_block, &job, mg_blocks(n, BLOCK));
}
