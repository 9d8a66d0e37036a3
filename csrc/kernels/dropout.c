/* SPDX-License-Identifier: MIT
 * Sixteen random bits an element, four elements a draw: probabilities are multiples of 1/65536.  The mask is made
 * again in the backward rather than stored. */
#include "kernels.h"
#include "pool.h"
#include "random.h"
#include "simd.h"

struct job {
    float *y;
    const float *x, *branch;
    const uint64_t *keys;
    int64_t n, tasks; /* elements and tasks of a window */
    int32_t threshold; /* an element is dropped where its 16 bits are below */
    float scale;
};

typedef uint16_t draws __attribute__((vector_size(2 * MG_LANES)));
_Static_assert(sizeof(draws) == sizeof(mg_words), "four draws a word");

/* The factors of elements i .. i + MG_LANES - 1 of a window, i a multiple of MG_LANES: 0 or 1/(1-p). */
static inline vf factors(const struct job *job, uint64_t key, int64_t i)
{
    mg_words words = mg_random_words(key, (uint64_t)i / 4);
    vi bits = __builtin_convertvector((draws)words, vi);
    return mg_select(bits < job->threshold, mg_set(0.0f), mg_set(job->scale));
}

static void dropout_task(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    const int64_t window = index / job->tasks, block = index % job->tasks;
    const int64_t end = mg_block_end(job->n, MG_ELEMENTS_PER_TASK, block);
    const float *x = job->x + window * job->n;
    float *y = job->y + window * job->n;
    for (int64_t i = block * MG_ELEMENTS_PER_TASK; i < end; i += MG_LANES)
        mg_store_n(y + i, mg_load_n(x + i, end - i) * factors(job, job->keys[window], i), end - i);
}

static void residual_task(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    const int64_t window = index / job->tasks, block = index % job->tasks;
    const int64_t end = mg_block_end(job->n, MG_ELEMENTS_PER_TASK, block);
    const float *x = job->x + window * job->n, *branch = job->branch + window * job->n;
    float *y = job->y + window * job->n;
    for (int64_t i = block * MG_ELEMENTS_PER_TASK; i < end; i += MG_LANES) {
        vf kept = mg_load_n(branch + i, end - i) * factors(job, job->keys[window], i);
        mg_store_n(y + i, mg_load_n(x + i, end - i) + kept, end - i);
    }
}

static void add_task(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    const int64_t window = index / job->tasks, block = index % job->tasks, first = window * job->n;
    const int64_t end = first + mg_block_end(job->n, MG_ELEMENTS_PER_TASK, block);
    for (int64_t i = first + block * MG_ELEMENTS_PER_TASK; i < end; i++) job->y[i] = job->x[i] + job->branch[i];
}

static struct job make_job(float *y, const float *x, const float *branch, const uint64_t *keys, int64_t n, float p)
{
    return (struct job){y, x, branch, keys, n, mg_blocks(n, MG_ELEMENTS_PER_TASK), (int32_t)(p * 65536.0f + 0.5f),
        1.0f / (1.0f - p)};
}

void mg_dropout(float *y, const float *x, const uint64_t *keys, int64_t B, int64_t n, float p)
{
    struct job job = make_job(y, x, x, keys, n, p);
    mg_parallel(dropout_task, &job, B * job.tasks);
}

void mg_residual_forward(float *y, const float *x, const float *branch, const uint64_t *keys, int64_t B, int64_t n,
    float p)
{
    struct job job = make_job(y, x, branch, keys, n, p);
    mg_parallel(p > 0.0f ? residual_task : add_task, &job, B * job.tasks);
}
