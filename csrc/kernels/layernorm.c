/* SPDX-License-Identifier: MIT
 * The deviation is taken in a second pass: sum(x^2) - mean^2 has no digits left where the mean is large.  Parameter
 * gradients sum over all rows as in rmsnorm.c. */
#include "kernels.h"
#include "pool.h"
#include "rows.h"
#include "simd.h"

#include <math.h>

static inline void normal_row(float *y, const float *x, const float *weight, const float *bias, const float *stats,
    int64_t C)
{
    for (int64_t i = 0; i < C; i += MG_LANES) {
        vf xhat = (mg_load_n(x + i, C - i) - stats[0]) * stats[1];
        mg_store_n(y + i, xhat * mg_load_n(weight + i, C - i) + mg_load_n(bias + i, C - i), C - i);
    }
}

struct forward_job {
    float *y, *stats;
    const float *x, *weight, *bias;
    struct mg_rows at;
    int64_t rows;
    float eps;
};

static void measure_row(float *stats, const float *x, int64_t C, float eps)
{
    vf sum = {0}, squares = {0};
    for (int64_t i = 0; i < C; i += MG_LANES) sum += mg_load_n(x + i, C - i);
    const float mean = mg_sum(sum) / (float)C;
    for (int64_t i = 0; i < C; i += MG_LANES) {
        vf off = mg_first(mg_load_n(x + i, C - i) - mean, C - i < MG_LANES ? C - i : MG_LANES, 0.0f);
        squares += off * off;
    }
    stats[0] = mean;
    stats[1] = 1.0f / sqrtf(mg_sum(squares) / (float)C + eps);
}

static void forward_rows(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct forward_job *job = argument;
    const int64_t C = job->at.C;
    for (int64_t n = index * job->rows; n < mg_block_end(job->at.N, job->rows, index); n++) {
        const int64_t at = mg_row(&job->at, n);
        measure_row(job->stats + 2 * n, job->x + at, C, job->eps);
        normal_row(job->y + at, job->x + at, job->weight, job->bias, job->stats + 2 * n, C);
    }
}

void mg_layernorm_forward(float *y, float *stats, const float *x, const float *weight, const float *bias, int64_t N,
    int64_t C, int64_t beside, int64_t apart, float eps)
{
    struct forward_job job = {y, stats, x, weight, bias, {N, C, beside, apart}, mg_rows_per_task(C), eps};
    mg_parallel(forward_rows, &job, mg_blocks(N, job.rows));
}

struct again_job {
    float *y;
    const float *x, *weight, *bias, *stats;
    struct mg_rows at;
    int64_t rows;
};

static void again_rows(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct again_job *job = argument;
    for (int64_t n = index * job->rows; n < mg_block_end(job->at.N, job->rows, index); n++) {
        const int64_t at = mg_row(&job->at, n);
        normal_row(job->y + at, job->x + at, job->weight, job->bias, job->stats + 2 * n, job->at.C);
    }
}

void mg_layernorm_again(float *y, const float *x, const float *weight, const float *bias, const float *stats, int64_t N,
    int64_t C, int64_t beside, int64_t apart)
{
    struct again_job job = {y, x, weight, bias, stats, {N, C, beside, apart}, mg_rows_per_task(C)};
    mg_parallel(again_rows, &job, mg_blocks(N, job.rows));
}

struct backward_job {
    float *dx, *partials;
    const float *dy, *x, *weight, *stats, *dresidual;
    struct mg_rows at;
    int64_t rows;
};

static void backward_row(const struct backward_job *job, float *dweight, float *dbias, int64_t n)
{
    const int64_t C = job->at.C, at = mg_row(&job->at, n);
    const float *dy_n = job->dy + at, *x_n = job->x + at;
    const float mean = job->stats[2 * n], rstd = job->stats[2 * n + 1];
    vf along = {0}, sum = {0};
    for (int64_t i = 0; i < C; i += MG_LANES) {
        vf dy = mg_load_n(dy_n + i, C - i), xhat = (mg_load_n(x_n + i, C - i) - mean) * rstd;
        vf dxhat = dy * mg_load_n(job->weight + i, C - i); /* 0 behind the row */
        along += dxhat * xhat;
        sum += dxhat;
        mg_store_n(dweight + i, mg_load_n(dweight + i, C - i) + dy * xhat, C - i);
        mg_store_n(dbias + i, mg_load_n(dbias + i, C - i) + dy, C - i);
    }
    const float mean_along = mg_sum(along) / (float)C, mean_dxhat = mg_sum(sum) / (float)C;
    for (int64_t i = 0; i < C; i += MG_LANES) {
        vf xhat = (mg_load_n(x_n + i, C - i) - mean) * rstd;
        vf dxhat = mg_load_n(dy_n + i, C - i) * mg_load_n(job->weight + i, C - i);
        vf dx = (dxhat - mean_dxhat - xhat * mean_along) * rstd;
        if (job->dresidual) dx += mg_load_n(job->dresidual + at + i, C - i);
        mg_store_n(job->dx + at + i, dx, C - i);
    }
}

static void backward_rows(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct backward_job *job = argument;
    float *partial = job->partials + 2 * index * job->at.C;
    memset(partial, 0, 2 * (size_t)job->at.C * sizeof *partial);
    for (int64_t n = index * job->rows; n < mg_block_end(job->at.N, job->rows, index); n++)
        backward_row(job, partial, partial + job->at.C, n);
}

void mg_layernorm_backward(float *dx, float *dweight, float *dbias, float *scratch, const float *dy, const float *x,
    const float *weight, const float *stats, const float *dresidual, int64_t N, int64_t C, int64_t beside,
    int64_t apart)
{
    struct mg_rows at = {N, C, beside, apart};
    struct backward_job job = {dx, scratch, dy, x, weight, stats, dresidual, at, mg_blocks(N, MG_PARTIALS)};
    if (N == 0) return;
    int64_t blocks = mg_blocks(N, job.rows);
    mg_parallel(backward_rows, &job, blocks);
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t i = 0; i < C; i++) {
            dweight[i] += scratch[2 * b * C + i];
            dbias[i] += scratch[(2 * b + 1) * C + i];
        }
}
