/* SPDX-License-Identifier: MIT
 * The way to experts and back: rows of tokens are copied to where their experts' rows stand side by side, and results are
 * added up by token.  A task owns tokens, so no sum depends on the number of threads. */
#include "kernels.h"
#include "pool.h"
#include "simd.h"

struct job {
    float *out, *d_factors;
    const float *in, *rows, *factors;
    const int32_t *places;
    int64_t N, k, C;
};

static void run(mg_task task, struct job *job)
{
    mg_parallel(task, job, mg_blocks(job->N, mg_rows_per_task(job->k * job->C)));
}

/* The place of choice j of token n. */
static const int32_t *places_of(const struct job *job, int64_t n) { return job->places + n * job->k; }

#define EACH_TOKEN(n) \
    for (int64_t n = index * mg_rows_per_task(job->k * job->C), \
                 end = mg_block_end(job->N, mg_rows_per_task(job->k * job->C), index); \
         n < end; n++)

static void dispatch(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    EACH_TOKEN(n)
        for (int64_t j = 0; j < job->k; j++)
            memcpy(job->out + places_of(job, n)[j] * job->C, job->in + n * job->C, (size_t)job->C * sizeof *job->in);
}

/* out[n] = sum over its choices, in order, of factor * rows[place]; without factors, of the rows. */
static void combine(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    EACH_TOKEN(n)
        for (int64_t i = 0; i < job->C; i += MG_LANES) {
            vf sum = {0};
            for (int64_t j = 0; j < job->k; j++)
                sum += mg_load_n(job->rows + places_of(job, n)[j] * job->C + i, job->C - i)
                    * (job->factors ? job->factors[n * job->k + j] : 1.0f);
            mg_store_n(job->out + n * job->C + i, sum, job->C - i);
        }
}

static void combine_backward(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    EACH_TOKEN(n)
        for (int64_t j = 0; j < job->k; j++) {
            const int64_t at = places_of(job, n)[j] * job->C;
            const float factor = job->factors[n * job->k + j], *dy = job->in + n * job->C;
            job->d_factors[n * job->k + j] = mg_dot(dy, job->rows + at, job->C);
            for (int64_t i = 0; i < job->C; i++) job->out[at + i] = factor * dy[i];
        }
}

void mg_dispatch_forward(float *rows, const float *x, const int32_t *places, int64_t N, int64_t k, int64_t C)
{
    run(dispatch, &(struct job){.out = rows, .in = x, .places = places, .N = N, .k = k, .C = C});
}

void mg_dispatch_backward(float *dx, const float *drows, const int32_t *places, int64_t N, int64_t k, int64_t C)
{
    run(combine, &(struct job){.out = dx, .rows = drows, .places = places, .N = N, .k = k, .C = C});
}

void mg_combine_forward(float *y, const float *rows, const float *factors, const int32_t *places, int64_t N, int64_t k,
    int64_t C)
{
    run(combine, &(struct job){.out = y, .rows = rows, .factors = factors, .places = places, .N = N, .k = k, .C = C});
}

void mg_combine_backward(float *drows, float *dfactors, const float *dy, const float *rows, const float *factors,
    const int32_t *places, int64_t N, int64_t k, int64_t C)
{
    run(combine_backward, &(struct job){.out = drows, .d_factors = dfactors, .in = dy, .rows = rows, .factors = factors,
        .places = places, .N = N, .k = k, .C = C});
}
