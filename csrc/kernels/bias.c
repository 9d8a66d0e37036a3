/* SPDX-License-Identifier: MIT
 * The gradient sums over all rows, as rmsnorm.c does it: blocks cut by N alone into rows of scratch, added in order. */
#include "kernels.h"
#include "pool.h"
#include "simd.h"

struct job {
    float *y;
    const float *x; /* the bias, or dy */
    int64_t N, M, rows;
};

static void forward_rows(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    const int64_t M = job->M;
    for (int64_t n = index * job->rows; n < mg_block_end(job->N, job->rows, index); n++)
        for (int64_t i = 0; i < M; i += MG_LANES) {
            float *y_i = job->y + n * M + i;
            mg_store_n(y_i, mg_load_n(y_i, M - i) + mg_load_n(job->x + i, M - i), M - i);
        }
}

static void backward_rows(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    const int64_t M = job->M;
    float *partial = job->y + index * M;
    memset(partial, 0, (size_t)M * sizeof *partial);
    for (int64_t n = index * job->rows; n < mg_block_end(job->N, job->rows, index); n++)
        for (int64_t i = 0; i < M; i += MG_LANES) {
            vf sum = mg_load_n(partial + i, M - i) + mg_load_n(job->x + n * M + i, M - i);
            mg_store_n(partial + i, sum, M - i);
        }
}

void mg_bias_forward(float *y, const float *bias, int64_t N, int64_t M)
{
    struct job job = {y, bias, N, M, mg_rows_per_task(M)};
    mg_parallel(forward_rows, &job, mg_blocks(N, job.rows));
}

void mg_bias_backward(float *dbias, float *scratch, const float *dy, int64_t N, int64_t M)
{
    struct job job = {scratch, dy, N, M, mg_blocks(N, MG_PARTIALS)};
    if (N == 0) return;
    int64_t blocks = mg_blocks(N, job.rows);
    mg_parallel(backward_rows, &job, blocks);
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t i = 0; i < M; i++) dbias[i] += scratch[b * M + i];
}
