/* SPDX-License-Identifier: MIT */
#include "kernels.h"
#include "recurrence.h"

struct job {
    float *y, *dx, *partials, *d_sums;
    const float *dy, *x, *weight, *bias, *before;
    const int32_t *starts;
    int64_t B, T, C, K, rows;
};

/* The row k before position t of sequence b, or NULL where its document has none. */
static const float *row_before(const struct job *job, int64_t b, int64_t t, int64_t k)
{
    const int32_t *starts = job->starts ? job->starts + b * job->T : NULL;
    if (t < k) return job->before && !(starts && starts[t] > 0) ? job->before + (b * (job->K - 1) + job->K - 1 + t - k) * job->C : NULL;
    return starts && starts[t] > t - k ? NULL : job->x + (b * job->T + t - k) * job->C;
}

static inline vf sum_at(const struct job *job, int64_t b, int64_t t, int64_t i)
{
    const int64_t C = job->C;
    vf sum = mg_load_n(job->bias + i, C - i);
    for (int64_t k = 0; k < job->K; k++) {
        const float *x = row_before(job, b, t, k);
        if (x) sum += mg_load_n(x + i, C - i) * mg_load_n(job->weight + k * C + i, C - i);
    }
    return sum;
}

static void forward_rows(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    const int64_t C = job->C;
    for (int64_t n = index * job->rows; n < mg_block_end(job->B * job->T, job->rows, index); n++)
        for (int64_t i = 0; i < C; i += MG_LANES) {
            vf sum = sum_at(job, n / job->T, n % job->T, i);
            mg_store_n(job->y + n * C + i, sum * mg_sigmoid(sum), C - i);
        }
}

void mg_conv_silu_forward(float *y, const float *x, const float *weight, const float *bias, const int32_t *starts,
    const float *before, int64_t B, int64_t T, int64_t C, int64_t K)
{
    struct job job = {.y = y, .x = x, .weight = weight, .bias = bias, .before = before, .starts = starts, .B = B, .T = T,
        .C = C, .K = K, .rows = mg_rows_per_task(C)};
    mg_parallel(forward_rows, &job, mg_blocks(B * T, job.rows));
}

/* The gradient of the sums of some rows, and what they add to those of weights and bias. */
static void backward_sums(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    const int64_t C = job->C, K = job->K;
    float *partial = job->partials + index * (K + 1) * C;
    memset(partial, 0, (size_t)((K + 1) * C) * sizeof *partial);
    for (int64_t n = index * job->rows; n < mg_block_end(job->B * job->T, job->rows, index); n++)
        for (int64_t i = 0; i < C; i += MG_LANES) {
            vf sum = sum_at(job, n / job->T, n % job->T, i), s = mg_sigmoid(sum);
            vf d = mg_load_n(job->dy + n * C + i, C - i) * (s + sum * s * (1.0f - s));
            mg_store_n(job->d_sums + n * C + i, d, C - i);
            for (int64_t k = 0; k < K; k++) {
                const float *x = row_before(job, n / job->T, n % job->T, k);
                float *to = partial + k * C + i;
                if (x) mg_store_n(to, mg_load_n(to, C - i) + mg_load_n(x + i, C - i) * d, C - i);
            }
            float *to = partial + K * C + i;
            mg_store_n(to, mg_load_n(to, C - i) + d, C - i);
        }
}

static void backward_rows(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    const int64_t C = job->C;
    const int64_t rows = mg_rows_per_task(C);
    for (int64_t n = index * rows; n < mg_block_end(job->B * job->T, rows, index); n++) {
        const int64_t b = n / job->T, t = n % job->T;
        for (int64_t i = 0; i < C; i += MG_LANES) {
            vf dx = {0};
            for (int64_t k = 0; k < job->K && t + k < job->T; k++)
                if (row_before(job, b, t + k, k))
                    dx += mg_load_n(job->d_sums + (n + k) * C + i, C - i) * mg_load_n(job->weight + k * C + i, C - i);
            mg_store_n(job->dx + n * C + i, dx, C - i);
        }
    }
}

void mg_conv_silu_backward(float *dx, float *dweight, float *dbias, float *scratch, const float *dy, const float *x,
    const float *weight, const float *bias, const int32_t *starts, const float *before, int64_t B, int64_t T, int64_t C,
    int64_t K)
{
    const int64_t N = B * T, size = (K + 1) * C;
    struct job job = {.dx = dx, .partials = scratch, .d_sums = scratch + MG_PARTIALS * size, .dy = dy, .x = x,
        .weight = weight, .bias = bias, .before = before, .starts = starts, .B = B, .T = T, .C = C, .K = K,
        .rows = mg_blocks(N, MG_PARTIALS)};
    if (N == 0) return;
    const int64_t blocks = mg_blocks(N, job.rows);
    mg_parallel(backward_sums, &job, blocks);
    mg_parallel(backward_rows, &job, mg_blocks(N, mg_rows_per_task(C)));
    mg_add_partials(dweight, scratch, blocks, size, K * C);
    mg_add_partials(dbias, scratch + K * C, blocks, size, C);
}
