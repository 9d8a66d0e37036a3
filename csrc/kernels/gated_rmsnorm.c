/* SPDX-License-Identifier: MIT
 * A row is gated, then normed; the gated row is made where it is needed and never kept. */
#include "kernels.h"
#include "recurrence.h"

#include <math.h>

struct job {
    float *y, *dx, *dgate, *partials;
    const float *dy, *x, *gate, *weight;
    int64_t N, C, rows;
    float eps;
};

/* x silu(gate) at channel i of row n. */
static inline vf gated(const struct job *job, int64_t n, int64_t i)
{
    const int64_t C = job->C;
    vf gate = mg_load_n(job->gate + n * C + i, C - i);
    return mg_load_n(job->x + n * C + i, C - i) * gate * mg_sigmoid(gate);
}

/* One divided by the root mean square of gated row n, which is left in y. */
static float make_row(const struct job *job, float *y, int64_t n)
{
    const int64_t C = job->C;
    vf squares = {0};
    for (int64_t i = 0; i < C; i += MG_LANES) {
        vf u = gated(job, n, i);
        squares += u * u;
        mg_store_n(y + i, u, C - i);
    }
    return 1.0f / sqrtf(mg_sum(squares) / (float)C + job->eps);
}

static void forward_rows(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    const int64_t C = job->C;
    for (int64_t n = index * job->rows; n < mg_block_end(job->N, job->rows, index); n++) {
        float *y = job->y + n * C;
        const float r = make_row(job, y, n);
        for (int64_t i = 0; i < C; i += MG_LANES)
            mg_store_n(y + i, mg_load_n(y + i, C - i) * r * mg_load_n(job->weight + i, C - i), C - i);
    }
}

void mg_gated_rmsnorm_forward(float *y, const float *x, const float *gate, const float *weight, int64_t N, int64_t C,
    float eps)
{
    struct job job = {.y = y, .x = x, .gate = gate, .weight = weight, .N = N, .C = C, .rows = mg_rows_per_task(C),
        .eps = eps};
    mg_parallel(forward_rows, &job, mg_blocks(N, job.rows));
}

static void backward_row(const struct job *job, float *partial, int64_t n)
{
    const int64_t C = job->C;
    float *row = job->dx + n * C; /* the gated row, until its gradient takes its place */
    const float r = make_row(job, row, n);
    vf along = {0};
    for (int64_t i = 0; i < C; i += MG_LANES) {
        vf dy_u = mg_load_n(job->dy + n * C + i, C - i) * mg_load_n(row + i, C - i) * r;
        along += dy_u * mg_load_n(job->weight + i, C - i);
        mg_store_n(partial + i, mg_load_n(partial + i, C - i) + dy_u, C - i);
    }
    const float mean = mg_sum(along) / (float)C;
    for (int64_t i = 0; i < C; i += MG_LANES) {
        vf dxhat = mg_load_n(job->dy + n * C + i, C - i) * mg_load_n(job->weight + i, C - i);
        vf du = (dxhat - mg_load_n(row + i, C - i) * (r * mean)) * r;
        vf gate = mg_load_n(job->gate + n * C + i, C - i), s = mg_sigmoid(gate);
        vf x = mg_load_n(job->x + n * C + i, C - i);
        mg_store_n(row + i, du * gate * s, C - i);
        mg_store_n(job->dgate + n * C + i, du * x * (s + gate * s * (1.0f - s)), C - i);
    }
}

static void backward_rows(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    float *partial = job->partials + index * job->C;
    memset(partial, 0, (size_t)job->C * sizeof *partial);
    for (int64_t n = index * job->rows; n < mg_block_end(job->N, job->rows, index); n++)
        backward_row(job, partial, n);
}

void mg_gated_rmsnorm_backward(float *dx, float *dgate, float *dweight, float *scratch, const float *dy, const float *x,
    const float *gate, const float *weight, int64_t N, int64_t C, float eps)
{
    struct job job = {.dx = dx, .dgate = dgate, .partials = scratch, .dy = dy, .x = x, .gate = gate, .weight = weight,
        .N = N, .C = C, .rows = mg_blocks(N, MG_PARTIALS), .eps = eps};
    if (N == 0) return;
    const int64_t blocks = mg_blocks(N, job.rows);
    mg_parallel(backward_rows, &job, blocks);
    mg_add_partials(dweight, scratch, blocks, C, C);
}
