/* SPDX-License-Identifier: MIT
 * What attention's forward and backward share.  A task is one head of one sequence, or a chunk of its rows where heads
 * are few.  It packs what it needs of the head, rotating queries and keys by their position on the way, and from then on
 * works on what lies in cache.  Scores are in units of log 2: the packed queries carry log2(e) / sqrt(hs).
 *
 * Operands of products are made of 32-bit words (tile.h).  In fp32 they are the packed floats themselves.  In bf16 a
 * word is two neighbours along the dimension that the product sums over, which is channels or time; so a matrix that
 * takes part in both kinds of sums is kept as `words`, two channels in each, and as `pairs`, two rows in each.
 *
 * Keys have numbers.  The near ones, of which a query sees a window, go by their position.  Those that are seen from
 * beyond the window, every stride-th position of a document, are gathered once more behind the T_pad near ones, so
 * that they too lie side by side: the far ones. */
#ifndef MICROGPT_ATTENTION_HEAD_H
#define MICROGPT_ATTENTION_HEAD_H

#include "gemm.h"
#include "kernels.h"
#include "pool.h"
#include "rope.h"
#include "tile.h"

#include <math.h>

#define ROWS MG_TILE_ROWS
#define PAIR (2 * MG_LANES)
#define KEYS 32     /* keys whose dS is kept for one product that adds to dq */
#define MATRICES 12 /* (T_pad,hs_pad) in a worker's scratch, at most */
#define LOG2_E 1.44269504088896341f
#define LN_2 0.693147180559945309f

struct job {
    float *y, *lse, *dqkv, *scratch;
    float *dq_parts; /* (B,H,chunks,T_pad,hs_pad) where a head has several chunks: dq of each */
    const float *dy, *qkv, *known_y, *known_lse;
    const int32_t *starts; /* (B,T): the first key that each query sees; NULL: always 0 */
    mg_rope_tables tables;
    int64_t T, H, H_kv, hs, chunks;
    int64_t width; /* of a row of qkv: (H + 2 H_kv) hs */
    int64_t window, stride; /* keys that a query sees up to its own, at most T; between far keys, 0: there are none */
    int is_cut;             /* some query does not see back to position 0 */
    int64_t T_pad, hs_pad; /* to whole vectors */
    int64_t keys_pad;      /* near and far keys, to whole vectors */
    int64_t words, row;    /* in the channels of a head: how many there are, and from one row of them to the next */
    int64_t T_stride;      /* of rows that have time or keys along them */
    float scale;           /* 1/sqrt(hs) */
};

/* What one task works on; everything lies in its worker's scratch.  Panels are a matrix of words turned and cut: panel
 * t/LANES holds (words, LANES), so that a product reads it from end to end. */
struct head {
    float *q, *k, *v, *dy, *dq;               /* (keys_pad,hs_pad); of q, dy and dq T_pad rows */
    float *q_words, *k_words, *v_words;       /* (keys_pad,row) */
    float *q_panels, *k_panels, *dy_panels;
    float *q_pairs, *k_pairs, *v_pairs, *dy_pairs; /* (keys_pad / terms of a word, hs_pad) */
    float *lse, *delta;                       /* (T_pad): in log 2; sum(dy * y) */
    float *probs;                             /* (ROWS, T_stride apart): of query rows, or in the backward of keys */
    float *prob_words, *dscore_words;         /* the same, two query rows in a word */
    float *dscores;                           /* (KEYS / terms of a word, T_stride apart) */
    float *block;                             /* (ROWS,hs_pad) */
    const int32_t *starts;                    /* (T), or NULL */
    int32_t *far;                             /* (n_far): the positions of the far keys, rising */
    int64_t T, window, n_far;
};

static int64_t time_padded(int64_t T) { return mg_padded(T, MG_LANES); }

/* Rows a power of two apart would share a few sets of the first-level cache; one more line spreads them. */
static int64_t time_stride(int64_t T) { return time_padded(T) + MG_LANES; }

/* Room for far keys: a document longer than the window has one for each stride, and one at its beginning. */
static int64_t far_padded(int64_t T, int64_t window, int64_t stride)
{
    return stride && window && window < T ? mg_padded(T / stride + T / window, PAIR) : 0;
}

static int64_t worker_scratch(int64_t T, int64_t hs, int64_t far)
{
    const int64_t hs_pad = mg_padded(hs, MG_LANES), keys = time_padded(T) + far;
    return MATRICES * keys * hs_pad + (2 + 3 * ROWS + KEYS) * time_stride(keys) + ROWS * hs_pad + far;
}

/* Few heads leave threads idle: as many chunks of each that there are 8 tasks, but none of less than 128 rows, for each
 * packs anew. */
static int64_t chunks_of(int64_t heads, int64_t T)
{
    const int64_t wanted = mg_blocks(8, heads > 0 ? heads : 1), most = T / 128;
    return wanted < most ? wanted : most > 1 ? most : 1;
}

static float *take(float **scratch, int64_t n)
{
    float *taken = *scratch;
    *scratch += n;
    return taken;
}

MG_INLINE struct head head_in(const struct job *job, int64_t b, int64_t worker, mg_precision of)
{
    const int64_t matrix = job->keys_pad * job->hs_pad, T_stride = job->T_stride, far = job->keys_pad - job->T_pad;
    float *p = job->scratch + worker * worker_scratch(job->T, job->hs, far);
    struct head head = {.q = take(&p, matrix), .k = take(&p, matrix), .v = take(&p, matrix), .dy = take(&p, matrix),
        .dq = take(&p, matrix), .q_panels = take(&p, matrix), .dy_panels = take(&p, matrix), .lse = take(&p, T_stride),
        .delta = take(&p, T_stride), .probs = take(&p, ROWS * T_stride), .dscores = take(&p, KEYS * T_stride),
        .block = take(&p, ROWS * job->hs_pad), .far = (int32_t *)take(&p, far),
        .starts = job->starts ? job->starts + b * job->T : NULL, .T = job->T, .window = job->window};
    head.k_panels = head.dy_panels;
    head.q_words = head.q_pairs = head.q;
    head.k_words = head.k_pairs = head.k;
    head.v_words = head.v_pairs = head.v;
    head.dy_pairs = head.dy;
    head.prob_words = head.probs;
    if (of == MG_BF16) {
        head.q_words = head.v_words = take(&p, matrix);
        head.k_words = take(&p, matrix);
        head.q_pairs = head.v_pairs = take(&p, matrix);
        head.k_pairs = take(&p, matrix);
        head.dy_pairs = take(&p, matrix);
        head.prob_words = take(&p, ROWS * T_stride);
        head.dscore_words = take(&p, ROWS * T_stride);
    }
    return head;
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
    const int64_t stride = job->width, hs_pad = job->hs_pad;
    for (int64_t t = begin; t < end; t++) {
        prefetch_row(rows + t * stride, stride, job->hs);
        mg_store(packed + (t + 1) * hs_pad - MG_LANES, mg_set(0.0f));
        mg_rotate(packed + t * hs_pad, rows + t * stride, job->tables, t, 1.0f, factor);
    }
    memset(packed + end * hs_pad, 0, (size_t)((time_padded(end) - end) * hs_pad) * sizeof *packed);
}

/* Rows of packed as words of channels: themselves in fp32, in bf16 made in `words`. */
MG_INLINE const float *words_of(const struct job *job, float *words, const float *packed, int64_t begin, int64_t end,
    mg_precision of)
{
    if (of == MG_FP32) return packed;
    const int64_t hs_pad = job->hs_pad;
    for (int64_t t = begin; t < time_padded(end); t++)
        for (int64_t i = 0; i < job->row; i += MG_LANES) {
            const float *x = packed + t * hs_pad + 2 * i;
            vf first = mg_load_n(x, hs_pad - 2 * i), second = mg_load_n(x + MG_LANES, hs_pad - 2 * i - MG_LANES);
            mg_store(words + t * job->row + i, (vf)mg_bf16_words(first, second));
        }
    return words;
}

/* Rows of packed, as many as a word has terms in a row of words: themselves in fp32, in bf16 made in `pairs`. */
MG_INLINE void pairs_of(const struct job *job, float *pairs, const float *packed, int64_t begin, int64_t end,
    mg_precision of)
{
    if (of == MG_FP32) return;
    const int64_t hs_pad = job->hs_pad;
    for (int64_t t = begin; t < time_padded(end); t += 2)
        for (int64_t i = 0; i < hs_pad; i += MG_LANES) {
            const float *x = packed + t * hs_pad + i;
            mg_store(pairs + t / 2 * hs_pad + i, (vf)mg_bf16_pairs(mg_load(x), mg_load(x + hs_pad)));
        }
}

static void make_panels(const struct job *job, float *panels, const float *words, int64_t begin, int64_t end)
{
    for (int64_t t = begin; t < end; t += MG_LANES)
        for (int64_t i = 0; i < job->words; i += MG_LANES) {
            vf v[MG_LANES];
            for (int j = 0; j < MG_LANES; j++) v[j] = mg_load(words + (t + j) * job->row + i);
            mg_transpose(v);
            for (int j = 0; j < MG_LANES; j++) mg_store(panels + t * job->row + (i + j) * MG_LANES, v[j]);
        }
}

/* heads: those that tasks go by. */
static struct job make_job(const float *qkv, const float *cos, const float *sin, const int32_t *starts, float *scratch,
    int64_t T, int64_t H, int64_t H_kv, int64_t hs, int64_t window, int64_t stride, int64_t heads, mg_precision of)
{
    const int64_t words = mg_blocks(hs, of), far = far_padded(T, window, stride);
    const int64_t near = window && window < T ? window : T, keys = time_padded(T) + far;
    return (struct job){.qkv = qkv, .starts = starts, .tables = {cos, sin, hs / 2}, .scratch = scratch, .T = T, .H = H,
        .H_kv = H_kv, .hs = hs, .width = (H + 2 * H_kv) * hs, .window = near, .stride = far ? stride : 0,
        .is_cut = starts || near < T, .dq_parts = scratch + mg_threads() * worker_scratch(T, hs, far),
        .chunks = chunks_of(heads, T), .T_pad = time_padded(T), .keys_pad = keys, .T_stride = time_stride(keys),
        .hs_pad = mg_padded(hs, MG_LANES), .words = words, .row = mg_padded(words, MG_LANES),
        .scale = 1.0f / sqrtf((float)hs)};
}

/* The first position whose start is none, or -1. */
static int64_t bad_start(const int32_t *starts, int64_t B, int64_t T)
{
    for (int64_t i = 0; starts && i < B * T; i++) {
        const int64_t t = i % T, least = t > 0 ? starts[i - 1] : 0;
        if (starts[i] < least || starts[i] > t) return i;
    }
    return -1;
}

/* The first rows of what query head h of sequence b multiplies; neighbouring query heads share keys and values. */
static inline const float *query_rows(const struct job *job, int64_t b, int64_t h)
{
    return job->qkv + b * job->T * job->width + h * job->hs;
}
static inline const float *key_rows(const struct job *job, int64_t b, int64_t h)
{
    return query_rows(job, b, job->H + h / (job->H / job->H_kv));
}
static inline const float *value_rows(const struct job *job, int64_t b, int64_t h)
{
    return key_rows(job, b, h) + job->H_kv * job->hs;
}

/* Where the document of row t begins; rows behind the last belong to the last. */
static inline int64_t document_begin(const struct head *head, int64_t t)
{
    return head->starts ? head->starts[t < head->T ? t : head->T - 1] : 0;
}

/* The first row behind s of another document: starts never fall, so they are searched by halves. */
static inline int64_t document_end(const struct head *head, int64_t s)
{
    if (!head->starts) return head->T;
    int64_t sees = s, blind = head->T;
    while (blind - sees > 1) {
        const int64_t middle = (sees + blind) / 2;
        if (head->starts[middle] <= s) sees = middle;
        else blind = middle;
    }
    return blind;
}

/* The first near key that query t sees. */
static inline int64_t first_key(const struct head *head, int64_t t)
{
    const int64_t begin = document_begin(head, t), near = t + 1 - head->window;
    return near > begin ? near : begin;
}

/* The first query behind near key s that does not see it. */
static inline int64_t query_end(const struct head *head, int64_t s)
{
    const int64_t end = document_end(head, s);
    return end - s > head->window ? s + head->window : end;
}

/* Note the far keys at positions [begin,end): every stride-th of a document, if any query is so far behind. */
static void list_far(const struct job *job, struct head *head, int64_t begin, int64_t end)
{
    for (int64_t t = 0, next; job->stride && t < end; t = next) {
        next = document_end(head, t);
        for (int64_t s = t; s + job->window < next && s < end; s += job->stride)
            if (s >= begin) head->far[head->n_far++] = (int32_t)s;
    }
}

/* How many far keys stand before position s. */
static inline int64_t far_before(const struct head *head, int64_t s)
{
    int64_t before = 0, end = head->n_far;
    while (before < end) {
        const int64_t middle = (before + end) / 2;
        if (head->far[middle] < s) before = middle + 1;
        else end = middle;
    }
    return before;
}

/* The far keys and their values, packed; zeros up to a whole pair of vectors.  Returns where they end. */
static int64_t pack_far(const struct job *job, const struct head *head, const float *keys, const float *values)
{
    const int64_t hs_pad = job->hs_pad, end = job->T_pad + mg_padded(head->n_far, PAIR);
    for (int64_t s = job->T_pad; s < end; s++) {
        const int64_t i = s - job->T_pad;
        memset(head->k + s * hs_pad, 0, (size_t)hs_pad * sizeof *head->k);
        memset(head->v + s * hs_pad, 0, (size_t)hs_pad * sizeof *head->v);
        if (i >= head->n_far) continue;
        mg_rotate(head->k + s * hs_pad, keys + head->far[i] * job->width, job->tables, head->far[i], 1.0f, 1.0f);
        copy_row(head->v + s * hs_pad, values + head->far[i] * job->width, job->hs);
    }
    return end;
}

/* sum = ROWS rows of words at a times the panels at b. */
MG_INLINE void panel_product(const struct job *job, mg_block sum, const float *a, const float *b, int vectors,
    mg_precision of)
{
    mg_block_clear(sum, vectors);
    mg_block_multiply(sum, a, job->row, 1, b, MG_LANES, MG_LANES * job->row, job->words, vectors, of);
}

/* Where the rows of chunk c of a head begin: rows see the keys before them, so equal work is equal differences of
 * t^2; of t where a window bounds what they see. */
static int64_t chunk_begin(const struct job *job, int64_t c)
{
    if (c == job->chunks) return job->T;
    const double share = (double)c / (double)job->chunks;
    return (int64_t)((double)job->T * (job->window < job->T ? share : sqrt(share))) / MG_LANES * MG_LANES;
}

#endif
