/* SPDX-License-Identifier: MIT
 * A task is one head of one sequence.  It packs the head's queries, keys and values into dense padded arrays and then
 * goes through the query rows a tile at a time.  The scores of a tile, (MG_ATTENTION_ROWS, keys up to its last row),
 * stay in cache; keys right of the tile are never touched.  The backward makes the probabilities again from the
 * scores and the stored log-sum-exp (Dao 2022, arXiv 2205.14135, without the online softmax: whole rows fit here). */
#include "kernels.h"
#include "pool.h"
#include "simd.h"
#include "tile.h"

#include <math.h>

#define ROWS MG_ATTENTION_ROWS

struct job {
    float *y, *lse, *dqkv, *scratch;
    const float *dy, *qkv, *known_y, *known_lse;
    int64_t T, H, hs;
    int64_t T_pad, hs_pad; /* rows and stride of what is packed by time */
    int64_t T_stride;      /* stride of what has time along its rows */
    float scale;
};

/* What one task works on; everything lies in its worker's scratch. */
struct head {
    float *q, *k, *v, *dy;          /* (T_pad,hs_pad); q carries the factor 1/sqrt(hs) */
    float *k_t, *v_t;               /* (hs_pad, T_stride apart) */
    float *out, *dk, *dv;           /* (T_pad,hs_pad); out is y, or dq */
    float *probs, *dscores;         /* (ROWS, T_stride apart) */
};

static int64_t time_padded(int64_t T) { return mg_padded(T, ROWS); }

/* Rows a power of two apart would share a few sets of the first-level cache; one more line spreads them. */
static int64_t time_stride(int64_t T) { return time_padded(T) + MG_LANES; }

int64_t mg_attention_scratch(int64_t T, int64_t hs)
{
    return 7 * time_padded(T) * mg_padded(hs, MG_LANES) + 2 * (mg_padded(hs, MG_LANES) + ROWS) * time_stride(T);
}

static struct head head_in(const struct job *job, int64_t worker)
{
    const int64_t by_time = job->T_pad * job->hs_pad, by_channel = job->hs_pad * job->T_stride;
    float *p = job->scratch + worker * mg_attention_scratch(job->T, job->hs);
    float *k_t = p + 7 * by_time, *probs = k_t + 2 * by_channel;
    return (struct head){.q = p, .k = p + by_time, .v = p + 2 * by_time, .dy = p + 3 * by_time,
        .out = p + 4 * by_time, .dk = p + 5 * by_time, .dv = p + 6 * by_time, .k_t = k_t, .v_t = k_t + by_channel,
        .probs = probs, .dscores = probs + ROWS * job->T_stride};
}

/* packed (T_pad,hs_pad) = factor * rows (T,hs) that lie `stride` floats apart, zeros in the padding. */
static void pack(const struct job *job, float *packed, const float *rows, int64_t stride, float factor)
{
    memset(packed, 0, (size_t)(job->T_pad * job->hs_pad) * sizeof *packed);
    for (int64_t t = 0; t < job->T; t++)
        for (int64_t i = 0; i < job->hs; i++) packed[t * job->hs_pad + i] = factor * rows[t * stride + i];
}

static void unpack(const struct job *job, float *rows, int64_t stride, const float *packed, float factor)
{
    for (int64_t t = 0; t < job->T; t++)
        for (int64_t i = 0; i < job->hs; i++) rows[t * stride + i] = factor * packed[t * job->hs_pad + i];
}

static void transpose(const struct job *job, float *packed_t, const float *packed)
{
    for (int64_t i = 0; i < job->hs_pad; i++)
        for (int64_t t = 0; t < job->T_pad; t++) packed_t[i * job->T_stride + t] = packed[t * job->hs_pad + i];
}

/* x[s] = exp(x[s] - shift) for the n visible keys, 0 for the rest up to `width`; returns the sum. */
static float exp_row(float *x, int64_t n, int64_t width, float shift)
{
    vf sum = {0};
    int64_t s = 0;
    for (; s + MG_LANES <= n; s += MG_LANES) {
        vf e = mg_exp(mg_load(x + s) - shift);
        sum += e;
        mg_store(x + s, e);
    }
    float last[MG_LANES] = {0};
    mg_store(last, mg_exp(mg_load(x + s) - shift));
    memset(last + (n - s), 0, (size_t)(MG_LANES - (n - s)) * sizeof *last);
    memset(x + s, 0, (size_t)(width - s) * sizeof *x);
    memcpy(x + s, last, (size_t)(n - s) * sizeof *x);
    return mg_sum(sum + mg_load(last));
}

/* The scores of tile rows [begin,end) with keys [0,end), both padded. */
static void tile_scores(const struct job *job, const struct head *head, int64_t begin, int64_t end)
{
    mg_tile_product(head->probs, job->T_stride, head->q + begin * job->hs_pad, job->hs_pad, 1, head->k_t,
        job->T_stride, ROWS, end, job->hs, 0);
}

static void forward_tile(const struct job *job, const struct head *head, float *lse, int64_t begin)
{
    const int64_t end = begin + ROWS;
    tile_scores(job, head, begin, end);
    float sums[ROWS];
    for (int64_t r = 0; r < ROWS; r++) {
        const int64_t n = begin + r + 1; /* visible keys; padding rows see some too, and are dropped later */
        float *scores_r = head->probs + r * job->T_stride;
        const float most = mg_row_max(scores_r, n);
        sums[r] = exp_row(scores_r, n, end, most);
        if (n <= job->T) lse[n - 1] = most + logf(sums[r]);
    }
    float *y = head->out + begin * job->hs_pad;
    mg_tile_product(y, job->hs_pad, head->probs, job->T_stride, 1, head->v, job->hs_pad, ROWS, job->hs_pad, end, 0);
    for (int64_t r = 0; r < ROWS; r++)
        for (int64_t i = 0; i < job->hs_pad; i++) y[r * job->hs_pad + i] /= sums[r];
}

static void forward_head(void *argument, int64_t index, int64_t worker)
{
    const struct job *job = argument;
    const struct head head = head_in(job, worker);
    const int64_t C = job->H * job->hs, b = index / job->H, h = index % job->H;
    const float *q = job->qkv + b * job->T * 3 * C + h * job->hs;
    pack(job, head.q, q, 3 * C, job->scale);
    pack(job, head.k, q + C, 3 * C, 1.0f);
    pack(job, head.v, q + 2 * C, 3 * C, 1.0f);
    transpose(job, head.k_t, head.k);
    for (int64_t begin = 0; begin < job->T; begin += ROWS) forward_tile(job, &head, job->lse + index * job->T, begin);
    unpack(job, job->y + b * job->T * C + h * job->hs, C, head.out, 1.0f);
}

static struct job make_job(const float *qkv, float *scratch, int64_t T, int64_t H, int64_t hs)
{
    return (struct job){.qkv = qkv, .scratch = scratch, .T = T, .H = H, .hs = hs, .T_pad = time_padded(T),
        .T_stride = time_stride(T), .hs_pad = mg_padded(hs, MG_LANES), .scale = 1.0f / sqrtf((float)hs)};
}

void mg_attention_forward(float *y, float *lse, float *scratch, const float *qkv,
    int64_t B, int64_t T, int64_t H, int64_t hs)
{
    struct job job = make_job(qkv, scratch, T, H, hs);
    job.y = y;
    job.lse = lse;
    mg_parallel(forward_head, &job, B * H);
}

/* dprobs become dscores = probs * (dprobs - delta), with delta = sum(dy * y) of the row. */
static void dscores_row(float *dscores, const float *probs, int64_t width, float delta)
{
    for (int64_t s = 0; s < width; s += MG_LANES)
        mg_store(dscores + s, mg_load(probs + s) * (mg_load(dscores + s) - delta));
}

static void backward_tile(const struct job *job, const struct head *head, const float *y, const float *lse,
    int64_t begin)
{
    const int64_t end = begin + ROWS, hs_pad = job->hs_pad, T_stride = job->T_stride, C = job->H * job->hs;
    const float *q = head->q + begin * hs_pad, *dy = head->dy + begin * hs_pad;
    tile_scores(job, head, begin, end);
    mg_tile_product(head->dscores, T_stride, dy, hs_pad, 1, head->v_t, T_stride, ROWS, end, job->hs, 0);
    for (int64_t r = 0; r < ROWS; r++) {
        const int64_t t = begin + r < job->T ? begin + r : job->T - 1; /* padding rows: dy is 0, so is what they add */
        exp_row(head->probs + r * T_stride, t + 1, end, lse[t]);
        dscores_row(head->dscores + r * T_stride, head->probs + r * T_stride, end, mg_dot(dy + r * hs_pad, y + t * C, job->hs));
    }
    mg_tile_product(head->out + begin * hs_pad, hs_pad, head->dscores, T_stride, 1, head->k, hs_pad, ROWS, hs_pad, end, 0);
    mg_tile_product(head->dk, hs_pad, head->dscores, 1, T_stride, q, hs_pad, end, hs_pad, ROWS, 1);
    mg_tile_product(head->dv, hs_pad, head->probs, 1, T_stride, dy, hs_pad, end, hs_pad, ROWS, 1);
}

/* dk and dv sum over the query tiles of a head, in order.  q carries 1/sqrt(hs), so dk needs no factor and dq does. */
static void backward_head(void *argument, int64_t index, int64_t worker)
{
    const struct job *job = argument;
    const struct head head = head_in(job, worker);
    const int64_t C = job->H * job->hs, b = index / job->H, h = index % job->H;
    const float *q = job->qkv + b * job->T * 3 * C + h * job->hs;
    const float *y = job->known_y + b * job->T * C + h * job->hs;
    pack(job, head.q, q, 3 * C, job->scale);
    pack(job, head.k, q + C, 3 * C, 1.0f);
    pack(job, head.v, q + 2 * C, 3 * C, 1.0f);
    pack(job, head.dy, job->dy + b * job->T * C + h * job->hs, C, 1.0f);
    transpose(job, head.k_t, head.k);
    transpose(job, head.v_t, head.v);
    memset(head.dk, 0, (size_t)(2 * job->T_pad * job->hs_pad) * sizeof *head.dk); /* dv lies behind dk */
    for (int64_t begin = 0; begin < job->T; begin += ROWS)
        backward_tile(job, &head, y, job->known_lse + index * job->T, begin);
    float *dq = job->dqkv + b * job->T * 3 * C + h * job->hs;
    unpack(job, dq, 3 * C, head.out, job->scale);
    unpack(job, dq + C, 3 * C, head.dk, 1.0f);
    unpack(job, dq + 2 * C, 3 * C, head.dv, 1.0f);
}

void mg_attention_backward(float *dqkv, float *scratch, const float *dy, const float *qkv, const float *y,
    const float *lse, int64_t B, int64_t T, int64_t H, int64_t hs)
{
    struct job job = make_job(qkv, scratch, T, H, hs);
    job.dqkv = dqkv;
    job.dy = dy;
    job.known_y = y;
    job.known_lse = lse;
    mg_parallel(backward_head, &job, B * H);
}
