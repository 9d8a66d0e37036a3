/* SPDX-License-Identifier: MIT
 * The weight gradient sums over all rows.  Rows are cut into at most MG_PARTIALS blocks by N alone; each block sums
 * into its own row of scratch while x and dy are at hand, and the rows of scratch are added in order. */
#include "kernels.h"
#include "pool.h"
#include "rows.h"
#include "simd.h"

#include <math.h>

static inline void scale_row(float *y, const float *x, const float *weight, float r, int64_t C)
{
    for (int64_t i = 0; i < C; i += MG_LANES)
        mg_store_n(y + i, mg_load_n(x + i, C - i) * r * mg_load_n(weight + i, C - i), C - i);
}

struct forward_job {
    float *y, *rstd;
    const float *x, *weight;
    struct mg_rows at;
    int64_t rows;
    float eps;
};

static void forward_rows(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct forward_job *job = argument;
    const int64_t C = job->at.C;
    for (int64_t n = index * job->rows; n < mg_block_end(job->at.N, job->rows, index); n++) {
        const int64_t at = mg_row(&job->at, n);
        const float *x_n = job->x + at;
        float r = 1.0f / sqrtf(mg_dot(x_n, x_n, C) / (float)C + job->eps);
        scale_row(job->y + at, x_n, job->weight, r, C);
        job->rstd[n] = r;
    }
}

void mg_rmsnorm_forward(float *y, float *rstd, const float *x, const float *weight, int64_t N, int64_t C,
    int64_t beside, int64_t apart, float eps)
{
    struct forward_job job = {y, rstd, x, weight, {N, C, beside, apart}, mg_rows_per_task(C), eps};
    mg_parallel(forward_rows, &job, mg_blocks(N, job.rows));
}

struct again_job {
    float *y;
    const float *x, *weight, *rstd;
    struct mg_rows at;
    int64_t rows;
};

static void again_rows(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct again_job *job = argument;
    for (int64_t n = index * job->rows; n < mg_block_end(job->at.N, job->rows, index); n++) {
        const int64_t at = mg_row(&job->at, n);
        scale_row(job->y + at, job->x + at, job->weight, job->rstd[n], job->at.C);
    }
}

void mg_rmsnorm_again(float *y, const float *x, const float *weight, const float *rstd, int64_t N, int64_t C,
    int64_t beside, int64_t apart)
{
    struct again_job job = {y, x, weight, rstd, {N, C, beside, apart}, mg_rows_per_task(C)};
    mg_parallel(again_rows, &job, mg_blocks(N, job.rows));
}

struct backward_job {
    float *dx, *partials;
    const float *dy, *x, *weight, *rstd, *dresidual;
    struct mg_rows at;
    int64_t rows;
};

static void backward_row(const struct backward_job *job, float *partial, int64_t n)
{
    const int64_t C = job->at.C, at = mg_row(&job->at, n);
    const float *dy_n = job->dy + at, *x_n = job->x + at;
    const float r = job->rstd[n];
    vf along = {0};
    for (int64_t i = 0; i < C; i += MG_LANES) {
        vf dy_x = mg_load_n(dy_n + i, C - i) * mg_load_n(x_n + i, C - i) * r;
        along += dy_x * mg_load_n(job->weight + i, C - i);
        mg_store_n(partial + i, mg_load_n(partial + i, C - i) + dy_x, C - i);
    }
    const float mean = mg_sum(along) / (float)C;
    for (int64_t i = 0; i < C; i += MG_LANES) {
        vf dxhat = mg_load_n(dy_n + i, C - i) * mg_load_n(job->weight + i, C - i);
        vf dx = (dxhat - mg_load_n(x_n + i, C - i) * (r * mean)) * r;
        if (job->dresidual) dx += mg_load_n(job->dresidual + at + i, C - i);
        mg_store_n(job->dx + at + i, dx, C - i);
    }
}

static void backward_rows(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct backward_job *job = argument;
    float *partial = job->partials + index * job->at.C;
    memset(partial, 0, (size_t)job->at.C * sizeof *partial);
    for (int64_t n = index * job->rows; n < mg_block_end(job->at.N, job->rows, index); n++)
        backward_row(job, partial, n);
}

void mg_rmsnorm_backward(float *dx, float *dweight, float *scratch, const float *dy, const float *x,
    const float *weight, const float *rstd, const float *dresidual, int64_t N, int64_t C, int64_t beside,
    int64_t apart)
{
    struct mg_rows at = {N, C, beside, apart};
    struct backward_job job = {dx, scratch, dy, x, weight, rstd, dresidual, at, mg_blocks(N, MG_PARTIALS)};
    if (N == 0) return;
    int64_t blocks = mg_blocks(N, job.rows);
    mg_parallel(backward_rows, &job, blocks);
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t i = 0; i < C; i++) dweight[i] += scratch[b * C + i];
}
