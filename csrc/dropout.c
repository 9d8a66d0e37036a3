/* SPDX-License-Identifier: MIT
 * Sixteen random bits an element, four elements a draw: probabilities are multiples of 1/65536.  The mask is made
 * again in the backward rather than stored. */
#include "kernels.h"
#include "pool.h"
#include "random.h"

struct job {
    float *y;
    const float *x, *branch;
    int64_t n;
    uint64_t key;
    uint32_t threshold; /* an element is dropped where its 16 bits are below */
    float scale;
};

/* The factors of elements 4q .. 4q+3: 0 or 1/(1-p). */
static inline void factors(float f[4], const struct job *job, int64_t q)
{
    uint64_t bits = mg_random_bits(job->key, (uint64_t)q);
    for (int i = 0; i < 4; i++) f[i] = (uint32_t)(bits >> (16 * i) & 0xffff) < job->threshold ? 0.0f : job->scale;
}

static void dropout_task(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    int64_t end = mg_block_end(job->n, MG_ELEMENTS_PER_TASK, index);
    for (int64_t i = index * MG_ELEMENTS_PER_TASK; i < end; i += 4) {
        float f[4];
        factors(f, job, i / 4);
        for (int64_t j = i; j < i + 4 && j < end; j++) job->y[j] = job->x[j] * f[j - i];
    }
}

static void residual_task(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    int64_t end = mg_block_end(job->n, MG_ELEMENTS_PER_TASK, index);
    for (int64_t i = index * MG_ELEMENTS_PER_TASK; i < end; i += 4) {
        float f[4];
        factors(f, job, i / 4);
        for (int64_t j = i; j < i + 4 && j < end; j++) job->y[j] = job->x[j] + job->branch[j] * f[j - i];
    }
}

static void add_task(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    int64_t end = mg_block_end(job->n, MG_ELEMENTS_PER_TASK, index);
    for (int64_t i = index * MG_ELEMENTS_PER_TASK; i < end; i++) job->y[i] = job->x[i] + job->branch[i];
}

static struct job make_job(float *y, const float *x, const float *branch, int64_t n, float p, uint64_t key)
{
    return (struct job){y, x, branch, n, key, (uint32_t)(p * 65536.0f + 0.5f), 1.0f / (1.0f - p)};
}

void mg_dropout(float *y, const float *x, int64_t n, float p, uint64_t key)
{
    struct job job = make_job(y, x, x, n, p, key);
    mg_parallel(dropout_task, &job, mg_blocks(n, MG_ELEMENTS_PER_TASK));
}

void mg_residual_forward(float *y, const float *x, const float *branch, int64_t n, float p, uint64_t key)
{
    struct job job = make_job(y, x, branch, n, p, key);
    mg_parallel(p > 0.0f ? residual_task : add_task, &job, mg_blocks(n, MG_ELEMENTS_PER_TASK));
}
