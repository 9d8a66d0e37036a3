/* SPDX-License-Identifier: MIT
 * A task is one head of one sequence, or a chunk of its rows where heads are few.  It packs what it needs of the head,
 * rotating queries and keys by their position on the way, and from then on works on what lies in cache.  Scores are in
 * units of log 2: the packed queries carry log2(e) / sqrt(hs).
 *
 * The forward goes through the query rows, one register block of them at a time: scores with the keys up to the last
 * row, softmax, product with the values.  The backward goes through the keys: with P and dS turned, (keys, queries),
 * the sums over queries that make dk and dv are long products whose result never leaves the registers; only dq is
 * added up in memory.  It makes the probabilities again from the scores and the stored log-sum-exp (Dao 2022, arXiv
 * 2205.14135, without the online softmax: whole rows fit here). */
#include "kernels.h"
#include "pool.h"
#include "rope.h"
#include "tile.h"

#include <math.h>

#define ROWS MG_TILE_ROWS
#define PAIR (2 * MG_LANES)
#define KEYS 32 /* keys whose dS is kept for one product that adds to dq */
#define LOG2_E 1.44269504088896341f
#define LN_2 0.693147180559945309f

struct job {
    float *y, *lse, *dqkv, *scratch;
    float *dq_parts; /* (B,H,chunks,T_pad,hs_pad) where a head has several chunks: dq of each */
    const float *dy, *qkv, *known_y, *known_lse;
    mg_rope_tables tables;
    int64_t T, H, hs, chunks;
    int64_t T_pad, hs_pad; /* to whole vectors */
    int64_t T_stride;      /* of rows that have time along them */
    float scale;           /* 1/sqrt(hs) */
};

/* What one task works on; everything lies in its worker's scratch.  Panels are a matrix turned and cut: panel t/LANES
 * holds (hs, LANES), so that a product reads it from end to end. */
struct head {
    float *q, *k, *v, *dy, *dq;      /* (T_pad,hs_pad) */
    float *q_panels, *k_panels, *dy_panels;
    float *lse, *delta;              /* (T_pad): in log 2; sum(dy * y) */
    float *probs;                    /* (ROWS, T_stride apart): of query rows, or in the backward of keys */
    float *dscores;                  /* (KEYS, T_stride apart) */
    float *block;                    /* (ROWS,hs_pad) */
};

static int64_t time_padded(int64_t T) { return mg_padded(T, MG_LANES); }

/* Rows a power of two apart would share a few sets of the first-level cache; one more line spreads them. */
static int64_t time_stride(int64_t T) { return time_padded(T) + MG_LANES; }

static int64_t worker_scratch(int64_t T, int64_t hs)
{
    const int64_t hs_pad = mg_padded(hs, MG_LANES);
    return 7 * time_padded(T) * hs_pad + (2 + ROWS + KEYS) * time_stride(T) + ROWS * hs_pad;
}

/* Few heads leave threads idle: as many chunks of each that there are 8 tasks, but none of less than 128 rows, for each
 * packs anew. */
static int64_t chunks_of(int64_t heads, int64_t T)
{
    const int64_t wanted = mg_blocks(8, heads > 0 ? heads : 1), most = T / 128;
    return wanted < most ? wanted : most > 1 ? most : 1;
}

int64_t mg_attention_scratch(int64_t B, int64_t T, int64_t H, int64_t hs)
{
    const int64_t chunks = chunks_of(B * H, T), dq_parts = chunks * time_padded(T) * mg_padded(hs, MG_LANES);
    return mg_threads() * worker_scratch(T, hs) + (chunks > 1 ? B * H * dq_parts : 0);
}

static struct head head_in(const struct job *job, int64_t worker)
{
    const int64_t matrix = job->T_pad * job->hs_pad, T_stride = job->T_stride;
    float *p = job->scratch + worker * worker_scratch(job->T, job->hs), *rows = p + 7 * matrix;
    return (struct head){.q = p, .k = p + matrix, .v = p + 2 * matrix, .dy = p + 3 * matrix, .dq = p + 4 * matrix,
        .q_panels = p + 5 * matrix, .k_panels = p + 5 * matrix, .dy_panels = p + 6 * matrix, .lse = rows,
        .delta = rows + T_stride, .probs = rows + 2 * T_stride, .dscores = rows + (2 + ROWS) * T_stride,
        .block = rows + (2 + ROWS + KEYS) * T_stride};
}

static void copy_row(float *to, const float *from, int64_t n)
{
    for (int64_t i = 0; i < n; i += MG_LANES) mg_store_n(to + i, mg_load_n(from + i, n - i), n - i);
}

/* Ask for a row of one head some rows ahead: they lie `stride` floats apart, which the hardware does not foresee
 * (3 % of the forward). */
static inline void prefetch_row(const float *row, int64_t stride, int64_t hs)
{
    for (int64_t i = 0; i < hs; i += 64 / (int64_t)sizeof(float)) __builtin_prefetch(row + 24 * stride + i);
}

/* Rows [begin,end) of packed (T_pad,hs_pad) = rows of one head, `stride` apart; zeros in the padding. */
static void pack(const struct job *job, float *packed, const float *rows, int64_t stride, int64_t begin, int64_t end)
{
    const int64_t hs_pad = job->hs_pad;
    for (int64_t t = begin; t < end; t++) {
        prefetch_row(rows + t * stride, stride, job->hs);
        mg_store(packed + (t + 1) * hs_pad - MG_LANES, mg_set(0.0f));
        copy_row(packed + t * hs_pad, rows + t * stride, job->hs);
    }
    memset(packed + end * hs_pad, 0, (size_t)((time_padded(end) - end) * hs_pad) * sizeof *packed);
}

/* The same for queries and keys: times factor, and turned by their position. */
static void pack_turned(const struct job *job, float *packed, const float *rows, int64_t begin, int64_t end,
    float factor)
{
    const int64_t stride = 3 * job->H * job->hs, hs_pad = job->hs_pad;
    for (int64_t t = begin; t < end; t++) {
        prefetch_row(rows + t * stride, stride, job->hs);
        mg_store(packed + (t + 1) * hs_pad - MG_LANES, mg_set(0.0f));
        mg_rotate(packed + t * hs_pad, rows + t * stride, job->tables, t, 1.0f, factor);
    }
    memset(packed + end * hs_pad, 0, (size_t)((time_padded(end) - end) * hs_pad) * sizeof *packed);
}

static void make_panels(const struct job *job, float *panels, const float *packed, int64_t begin, int64_t end)
{
    const int64_t hs = job->hs, hs_pad = job->hs_pad;
    for (int64_t t = begin; t < end; t += MG_LANES) {
        float *panel = panels + t * hs_pad;
        for (int64_t i = 0; i < hs; i += MG_LANES)
            mg_transpose(panel + i * MG_LANES, MG_LANES, packed + t * hs_pad + i, hs_pad);
    }
}

static struct job make_job(const float *qkv, const float *cos, const float *sin, float *scratch, int64_t B, int64_t T,
    int64_t H, int64_t hs)
{
    return (struct job){.qkv = qkv, .tables = {cos, sin, hs / 2}, .scratch = scratch, .T = T, .H = H, .hs = hs,
        .dq_parts = scratch + mg_threads() * worker_scratch(T, hs), .chunks = chunks_of(B * H, T),
        .T_pad = time_padded(T), .T_stride = time_stride(T), .hs_pad = mg_padded(hs, MG_LANES),
        .scale = 1.0f / sqrtf((float)hs)};
}

/* sum = ROWS rows of a, (.,hs_pad), times the panels of b at b. */
MG_INLINE void panel_product(const struct job *job, mg_block sum, const float *a, const float *b, int vectors)
{
    mg_block_clear(sum, vectors);
    mg_block_multiply(sum, a, job->hs_pad, 1, b, MG_LANES, MG_LANES * job->hs_pad, job->hs, vectors);
}

/* ---- forward ---------------------------------------------------------------------------------------------- */

MG_INLINE void score_block(const struct job *job, float *scores, const float *q, const float *panel, int vectors)
{
    mg_block sum;
    panel_product(job, sum, q, panel, vectors);
    mg_block_store(scores, job->T_stride, sum, vectors);
}

/* probs (ROWS, end) = the scores of query rows from `begin` with the keys up to their last, in whole vectors. */
static void score_rows(const struct job *job, const struct head *head, int64_t begin)
{
    const float *q = head->q + begin * job->hs_pad;
    int64_t s = 0;
    for (; s + MG_LANES < begin + ROWS; s += PAIR)
        score_block(job, head->probs + s, q, head->k_panels + s * job->hs_pad, 2);
    if (s < begin + ROWS) score_block(job, head->probs + s, q, head->k_panels + s * job->hs_pad, 1);
}

/* The largest visible score of each row; row r from `begin` sees begin + r + 1 keys.  The rows go side by side, or each
 * maximum would wait for the one before it. */
static void row_maxima(const struct job *job, const struct head *head, float *most, int64_t begin)
{
    const int64_t last = begin / MG_LANES * MG_LANES; /* the vector that the diagonal cuts, in all of the rows */
    vf max[ROWS];
    MG_EACH_ROW max[m] = mg_first(mg_load(head->probs + m * job->T_stride + last), begin + m + 1 - last, -INFINITY);
    for (int64_t s = 0; s < last; s += MG_LANES)
        MG_EACH_ROW max[m] = mg_max(max[m], mg_load(head->probs + m * job->T_stride + s));
    MG_EACH_ROW most[m] = mg_largest(max[m]);
}

/* probs = 2^(scores - most) for the visible keys, 0 behind them up to a whole vector; and the sums of the rows. */
static void exp2_rows(const struct job *job, const struct head *head, float *sums, const float *most, int64_t begin)
{
    const int64_t last = begin / MG_LANES * MG_LANES;
    vf sum[ROWS] = {0};
    for (int64_t s = 0; s < last; s += MG_LANES)
        MG_EACH_ROW
        {
            float *x = head->probs + m * job->T_stride + s;
            vf e = mg_exp2(mg_load(x) - most[m]);
            sum[m] += e;
            mg_store(x, e);
        }
    MG_EACH_ROW
    {
        float *x = head->probs + m * job->T_stride + last;
        vf e = mg_first(mg_exp2(mg_load(x) - most[m]), begin + m + 1 - last, 0.0f);
        sums[m] = mg_sum(sum[m] + e);
        mg_store(x, e);
    }
}

MG_INLINE void value_block(const struct job *job, const struct head *head, int64_t begin, int64_t i,
    const float *factors, int vectors)
{
    mg_block sum;
    mg_block_clear(sum, vectors);
    mg_block_multiply(sum, head->probs, job->T_stride, 1, head->v + i, job->hs_pad, MG_LANES, begin + ROWS, vectors);
    MG_EACH_ROW for (int v = 0; v < vectors; v++) sum[m][v] *= factors[m];
    mg_block_store(head->block + i, job->hs_pad, sum, vectors);
}

/* Rows [begin, begin + ROWS) of one head; y, lse point at its first row. */
static void forward_rows(const struct job *job, const struct head *head, float *y, float *lse, int64_t begin)
{
    const int64_t hs_pad = job->hs_pad;
    float most[ROWS], sums[ROWS], factors[ROWS];
    score_rows(job, head, begin);
    row_maxima(job, head, most, begin);
    exp2_rows(job, head, sums, most, begin);
    for (int64_t r = 0; r < ROWS; r++) {
        factors[r] = 1.0f / sums[r];
        if (begin + r < job->T) lse[begin + r] = most[r] * LN_2 + logf(sums[r]);
    }
    int64_t i = 0;
    for (; i + PAIR <= hs_pad; i += PAIR) value_block(job, head, begin, i, factors, 2);
    if (i < hs_pad) value_block(job, head, begin, i, factors, 1);
    for (int64_t t = begin; t < begin + ROWS && t < job->T; t++)
        copy_row(y + t * job->H * job->hs, head->block + (t - begin) * hs_pad, job->hs);
}

/* Where the rows of chunk c of a head begin: rows see the keys before them, so equal work is equal differences of
 * t^2. */
static int64_t chunk_begin(const struct job *job, int64_t c)
{
    if (c == job->chunks) return job->T;
    return (int64_t)((double)job->T * sqrt((double)c / (double)job->chunks)) / MG_LANES * MG_LANES;
}

/* A chunk packs all keys that it sees, so some are packed again; no row depends on where chunks begin. */
static void forward_chunk(void *argument, int64_t index, int64_t worker)
{
    const struct job *job = argument;
    const struct head head = head_in(job, worker);
    const int64_t i = index / job->chunks, b = i / job->H, h = i % job->H, T = job->T, C = job->H * job->hs;
    const int64_t first = chunk_begin(job, index % job->chunks), end = chunk_begin(job, index % job->chunks + 1);
    const float *q = job->qkv + b * T * 3 * C + h * job->hs;
    pack_turned(job, head.q, q, first, end, job->scale * LOG2_E);
    pack_turned(job, head.k, q + C, 0, end, 1.0f);
    pack(job, head.v, q + 2 * C, 3 * C, 0, end);
    make_panels(job, head.k_panels, head.k, 0, end);
    for (int64_t begin = first; begin < end; begin += ROWS)
        forward_rows(job, &head, job->y + b * T * C + h * job->hs, job->lse + i * T, begin);
}

void mg_attention_forward(float *y, float *lse, float *scratch, const float *qkv, const float *cos, const float *sin,
    int64_t B, int64_t T, int64_t H, int64_t hs)
{
    struct job job = make_job(qkv, cos, sin, scratch, B, T, H, hs);
    job.y = y;
    job.lse = lse;
    mg_parallel(forward_chunk, &job, B * H * job.chunks);
}

/* ---- backward --------------------------------------------------------------------------------------------- */

/* Where the keys of chunk c begin: the first keys are seen by the most queries. */
static int64_t key_begin(const struct job *job, int64_t c)
{
    return c == job->chunks ? job->T : (job->T - chunk_begin(job, job->chunks - c)) / MG_LANES * MG_LANES;
}

/* For ROWS keys from s and a few vectors of queries from t: probs, turned, from scores and lse; then
 * dscores = probs * (dprobs - delta), turned.  Both happen to the block while it is in registers. */
MG_INLINE void dscore_block(const struct job *job, const struct head *head, float *dscores, int64_t s, int64_t t,
    int vectors)
{
    const int64_t hs_pad = job->hs_pad, T_stride = job->T_stride;
    const float *lse = head->lse + t, *delta = head->delta + t;
    float *probs = head->probs + t;
    mg_block sum;
    panel_product(job, sum, head->k + s * hs_pad, head->q_panels + t * hs_pad, vectors);
    MG_EACH_ROW for (int v = 0; v < vectors; v++) sum[m][v] = mg_exp2(sum[m][v] - mg_load(lse + v * MG_LANES));
    mg_block_store(probs, T_stride, sum, vectors);
    for (int64_t r = t < s ? 0 : t - s + 1; r < ROWS; r++) /* queries before the key */
        memset(probs + r * T_stride, 0, (size_t)(s + r - t) * sizeof *probs);
    panel_product(job, sum, head->v + s * hs_pad, head->dy_panels + t * hs_pad, vectors);
    MG_EACH_ROW for (int v = 0; v < vectors; v++)
        sum[m][v] = mg_load(probs + m * T_stride + v * MG_LANES) * (sum[m][v] - mg_load(delta + v * MG_LANES));
    mg_block_store(dscores + t, T_stride, sum, vectors);
}

MG_INLINE void sum_block(const struct job *job, float *c, const float *a, int64_t a_row, int64_t a_column,
    const float *b, int64_t K, int vectors, int add)
{
    mg_block sum;
    if (add) mg_block_load(sum, c, job->hs_pad, vectors);
    else mg_block_clear(sum, vectors);
    mg_block_multiply(sum, a, a_row, a_column, b, job->hs_pad, MG_LANES, K, vectors);
    mg_block_store(c, job->hs_pad, sum, vectors);
}

/* c (ROWS,hs_pad) = a (ROWS,K) b (K,hs_pad), or += */
MG_INLINE void sum_rows(const struct job *job, float *c, const float *a, int64_t a_row, int64_t a_column,
    const float *b, int64_t K, int add)
{
    int64_t i = 0;
    for (; i + PAIR <= job->hs_pad; i += PAIR) sum_block(job, c + i, a, a_row, a_column, b + i, K, 2, add);
    if (i < job->hs_pad) sum_block(job, c + i, a, a_row, a_column, b + i, K, 1, add);
}

/* dk and dv of ROWS keys from s on, and their dscores. */
static void backward_keys(const struct job *job, const struct head *head, float *dk, float *dscores, int64_t s)
{
    const int64_t C = job->H * job->hs, hs_pad = job->hs_pad, n = job->T - s < ROWS ? job->T - s : ROWS;
    int64_t t = s / MG_LANES * MG_LANES;
    for (; t + PAIR <= job->T_pad; t += PAIR) dscore_block(job, head, dscores, s, t, 2);
    if (t < job->T_pad) dscore_block(job, head, dscores, s, t, 1);
    sum_rows(job, head->block, head->probs + s, job->T_stride, 1, head->dy + s * hs_pad, job->T - s, 0);
    for (int64_t r = 0; r < n; r++) copy_row(dk + C + (s + r) * 3 * C, head->block + r * hs_pad, job->hs);
    sum_rows(job, head->block, dscores + s, job->T_stride, 1, head->q + s * hs_pad, job->T - s, 0);
    for (int64_t r = 0; r < n; r++)
        mg_rotate(dk + (s + r) * 3 * C, head->block + r * hs_pad, job->tables, s + r, -1.0f, LN_2);
}

/* dk, dv of the keys [begin, end), and what they add to dq, or what dq becomes if they are the first; query rows see
 * keys up to their own block. */
static void backward_group(const struct job *job, const struct head *head, float *dk, int64_t begin, int64_t end,
    int add)
{
    for (int64_t s = begin; s < end; s += ROWS)
        backward_keys(job, head, dk, head->dscores + (s - begin) * job->T_stride, s);
    for (int64_t t = begin; t < job->T; t += ROWS) {
        const int64_t n = t + ROWS < end ? t + ROWS - begin : end - begin;
        sum_rows(job, head->dq + t * job->hs_pad, head->dscores + t, 1, job->T_stride, head->k + begin * job->hs_pad, n,
            add);
    }
}

/* Keys [first, end), and the queries that see them. */
static void pack_backward(const struct job *job, const struct head *head, int64_t b, int64_t h, int64_t first,
    int64_t end)
{
    const int64_t T = job->T, C = job->H * job->hs;
    const float *q = job->qkv + b * T * 3 * C + h * job->hs;
    const float *y = job->known_y + b * T * C + h * job->hs, *dy = job->dy + b * T * C + h * job->hs;
    const float *lse = job->known_lse + (b * job->H + h) * T;
    pack_turned(job, head->q, q, first, T, job->scale * LOG2_E);
    pack_turned(job, head->k, q + C, first, end, 1.0f);
    pack(job, head->v, q + 2 * C, 3 * C, first, end);
    pack(job, head->dy, dy, C, first, T);
    make_panels(job, head->q_panels, head->q, first, T);
    make_panels(job, head->dy_panels, head->dy, first, T);
    for (int64_t t = first; t < job->T_pad; t++) {
        head->lse[t] = t < T ? lse[t] * LOG2_E : 0.0f;
        head->delta[t] = t < T ? mg_dot(dy + t * C, y + t * C, job->hs) : 0.0f;
    }
}

/* dq of head i is the sum over its chunks, in order: those whose keys begin before a row add to it. */
static void write_dq(const struct job *job, int64_t i, float *parts)
{
    const int64_t hs_pad = job->hs_pad, C = job->H * job->hs, b = i / job->H, h = i % job->H;
    for (int64_t c = 1; c < job->chunks; c++)
        for (int64_t j = key_begin(job, c) * hs_pad; j < job->T * hs_pad; j++)
            parts[j] += parts[c * job->T_pad * hs_pad + j];
    float *dq = job->dqkv + b * job->T * 3 * C + h * job->hs;
    for (int64_t t = 0; t < job->T; t++)
        mg_rotate(dq + t * 3 * C, parts + t * hs_pad, job->tables, t, -1.0f, job->scale);
}

static void write_dq_task(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    write_dq(job, index, job->dq_parts + index * job->chunks * job->T_pad * job->hs_pad);
}

static void backward_chunk(void *argument, int64_t index, int64_t worker)
{
    const struct job *job = argument;
    struct head head = head_in(job, worker);
    const int64_t i = index / job->chunks, b = i / job->H, h = i % job->H, T = job->T, C = job->H * job->hs;
    const int64_t first = key_begin(job, index % job->chunks), end = key_begin(job, index % job->chunks + 1);
    if (job->chunks > 1) head.dq = job->dq_parts + index * job->T_pad * job->hs_pad;
    pack_backward(job, &head, b, h, first, end);
    for (int64_t begin = first; begin < end; begin += KEYS)
        backward_group(job, &head, job->dqkv + (b * T * 3 + 1) * C + h * job->hs, begin,
            begin + KEYS < end ? begin + KEYS : mg_padded(end, ROWS), begin > first);
    if (job->chunks == 1) write_dq(job, i, head.dq);
}

void mg_attention_backward(float *dqkv, float *scratch, const float *dy, const float *qkv, const float *cos,
    const float *sin, const float *y, const float *lse, int64_t B, int64_t T, int64_t H, int64_t hs)
{
    struct job job = make_job(qkv, cos, sin, scratch, B, T, H, hs);
    job.dqkv = dqkv;
    job.dy = dy;
    job.known_y = y;
    job.known_lse = lse;
    mg_parallel(backward_chunk, &job, B * H * job.chunks);
    if (job.chunks > 1) mg_parallel(write_dq_task, &job, B * H);
}
