/* SPDX-License-Identifier: MIT
 * A task is one (sequence, head, tile of MG_ATTENTION_ROWS query rows) in the forward and one (sequence, head) in the
 * backward.  The scores of a tile, (rows, keys up to its last row), live in scratch that fits the L2 cache; columns
 * right of the tile are never computed, and the backward makes the probabilities again from the scores and the stored
 * log-sum-exp (Dao 2022, arXiv 2205.14135, without the online softmax: whole rows fit here). */
#include "gemm.h"
#include "kernels.h"
#include "pool.h"
#include "simd.h"

#include <math.h>

#define ROWS MG_ATTENTION_ROWS

struct job {
    float *y, *lse, *dqkv, *scratch;
    const float *dy, *qkv, *known_y, *known_lse;
    int64_t T, H, hs, tiles, scratch_size;
    float scale;
};

int64_t mg_attention_scratch(int64_t T) { return 2 * ROWS * T + ROWS; }

static mg_matrix view(const float *data, int64_t stride) { return (mg_matrix){data, stride, 0}; }
static mg_matrix view_t(const float *data, int64_t stride) { return (mg_matrix){data, stride, 1}; }

/* x[0..n) = exp(scale * x - shift) for the n visible keys, 0 for the rest up to `width`; returns the sum. */
static float exp_row(float *x, int64_t n, int64_t width, float scale, float shift)
{
    vf sum = {0};
    for (int64_t s = 0; s < n; s += MG_LANES) {
        vf e = mg_exp(mg_load_n(x + s, n - s) * scale - shift);
        if (n - s < MG_LANES)
            for (int64_t lane = n - s; lane < MG_LANES; lane++) e[lane] = 0.0f;
        sum += e;
        mg_store_n(x + s, e, n - s);
    }
    memset(x + n, 0, (size_t)(width - n) * sizeof *x);
    return mg_sum(sum);
}

static void forward_tile(void *argument, int64_t index, int64_t worker)
{
    const struct job *job = argument;
    const int64_t T = job->T, hs = job->hs, C = job->H * hs;
    const int64_t tile = job->tiles - 1 - index % job->tiles; /* the longest first */
    const int64_t h = index / job->tiles % job->H, b = index / job->tiles / job->H;
    const int64_t begin = tile * ROWS, end = mg_block_end(T, ROWS, tile), rows = end - begin;
    const float *q = job->qkv + (b * T + begin) * 3 * C + h * hs;
    const float *k = job->qkv + b * T * 3 * C + C + h * hs, *v = k + C;
    float *scores = job->scratch + worker * job->scratch_size, *sums = scores + 2 * ROWS * T;
    float *y = job->y + (b * T + begin) * C + h * hs;

    mg_gemm(scores, end, view(q, 3 * C), view_t(k, 3 * C), rows, end, hs, 1.0f, 0.0f);
    for (int64_t r = 0; r < rows; r++) {
        const int64_t t = begin + r;
        float *scores_r = scores + r * end;
        const float shift = mg_row_max(scores_r, t + 1) * job->scale;
        sums[r] = exp_row(scores_r, t + 1, end, job->scale, shift);
        job->lse[(b * job->H + h) * T + t] = shift + logf(sums[r]);
    }
    mg_gemm(y, C, view(scores, end), view(v, 3 * C), rows, hs, end, 1.0f, 0.0f);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < hs; i++) y[r * C + i] /= sums[r];
}

void mg_attention_forward(float *y, float *lse, float *scratch, const float *qkv,
    int64_t B, int64_t T, int64_t H, int64_t hs)
{
    struct job job = {.y = y, .lse = lse, .scratch = scratch, .qkv = qkv, .T = T, .H = H, .hs = hs,
        .tiles = mg_blocks(T, ROWS), .scratch_size = mg_attention_scratch(T), .scale = 1.0f / sqrtf((float)hs)};
    mg_parallel(forward_tile, &job, B * H * job.tiles);
}

/* scores become dscores = probs * (dprobs - delta) * scale, with delta = sum(dy * y) of the row. */
static void dscores_row(float *dscores, const float *probs, const float *dprobs, int64_t n, float delta, float scale)
{
    for (int64_t s = 0; s < n; s += MG_LANES) {
        vf d = mg_load_n(probs + s, n - s) * (mg_load_n(dprobs + s, n - s) - delta) * scale;
        mg_store_n(dscores + s, d, n - s);
    }
}

static void backward_tile(const struct job *job, float *scratch, int64_t b, int64_t h, int64_t tile)
{
    const int64_t T = job->T, hs = job->hs, C = job->H * hs;
    const int64_t begin = tile * ROWS, end = mg_block_end(T, ROWS, tile), rows = end - begin;
    const float *q = job->qkv + (b * T + begin) * 3 * C + h * hs;
    const float *k = job->qkv + b * T * 3 * C + C + h * hs, *v = k + C;
    const float *y = job->known_y + (b * T + begin) * C + h * hs, *dy = job->dy + (b * T + begin) * C + h * hs;
    float *dq = job->dqkv + (b * T + begin) * 3 * C + h * hs;
    float *dk = job->dqkv + b * T * 3 * C + C + h * hs, *dv = dk + C;
    float *probs = scratch, *dprobs = scratch + ROWS * T;

    mg_gemm(probs, end, view(q, 3 * C), view_t(k, 3 * C), rows, end, hs, 1.0f, 0.0f);
    for (int64_t r = 0; r < rows; r++)
        exp_row(probs + r * end, begin + r + 1, end, job->scale, job->known_lse[(b * job->H + h) * T + begin + r]);
    mg_gemm(dv, 3 * C, view_t(probs, end), view(dy, C), end, hs, rows, 1.0f, 1.0f);
    mg_gemm(dprobs, end, view(dy, C), view_t(v, 3 * C), rows, end, hs, 1.0f, 0.0f);
    for (int64_t r = 0; r < rows; r++)
        dscores_row(dprobs + r * end, probs + r * end, dprobs + r * end, end, mg_dot(dy + r * C, y + r * C, hs),
            job->scale);
    mg_gemm(dq, 3 * C, view(dprobs, end), view(k, 3 * C), rows, hs, end, 1.0f, 0.0f);
    mg_gemm(dk, 3 * C, view_t(dprobs, end), view(q, 3 * C), end, hs, rows, 1.0f, 1.0f);
}

/* dk and dv sum over the query tiles of a head, so one task does all of them, in order. */
static void backward_head(void *argument, int64_t index, int64_t worker)
{
    const struct job *job = argument;
    const int64_t h = index % job->H, b = index / job->H, C = job->H * job->hs;
    for (int64_t t = 0; t < job->T; t++) {
        float *dk_t = job->dqkv + (b * job->T + t) * 3 * C + C + h * job->hs;
        memset(dk_t, 0, (size_t)job->hs * sizeof *dk_t);
        memset(dk_t + C, 0, (size_t)job->hs * sizeof *dk_t);
    }
    for (int64_t tile = 0; tile < job->tiles; tile++)
        backward_tile(job, job->scratch + worker * job->scratch_size, b, h, tile);
}

void mg_attention_backward(float *dqkv, float *scratch, const float *dy, const float *qkv, const float *y,
    const float *lse, int64_t B, int64_t T, int64_t H, int64_t hs)
{
    struct job job = {.dqkv = dqkv, .scratch = scratch, .dy = dy, .qkv = qkv, .known_y = y, .known_lse = lse, .T = T,
        .H = H, .hs = hs, .tiles = mg_blocks(T, ROWS), .scratch_size = mg_attention_scratch(T),
        .scale = 1.0f / sqrtf((float)hs)};
    mg_parallel(backward_head, &job, B * H);
}
