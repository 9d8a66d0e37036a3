/* SPDX-License-Identifier: MIT
 * Attention backward: through the keys.  With P and dS turned, (keys, queries), the sums over queries that make dk and
 * dv are long products whose result never leaves the registers; only dq is added up in memory.  It makes the
 * probabilities again from the scores and the stored log-sum-exp (Dao 2022, arXiv 2205.14135, without the online
 * softmax: whole rows fit here). */
#include "attention_head.h"

/* Where the keys of chunk c begin: the first keys are seen by the most queries. */
static int64_t key_begin(const struct job *job, int64_t c)
{
    return c == job->chunks ? job->T : (job->T - chunk_begin(job, job->chunks - c)) / MG_LANES * MG_LANES;
}

/* A block as words of two columns. */
MG_INLINE void store_words(float *to, int64_t stride, mg_block sum, int vectors)
{
    MG_EACH_ROW mg_store(to + m * stride, (vf)mg_bf16_words(sum[m][0], vectors == 2 ? sum[m][1] : mg_set(0.0f)));
}

/* And as words of two rows. */
MG_INLINE void store_pairs(float *to, int64_t stride, mg_block sum, int vectors)
{
    for (int m = 0; m < ROWS; m += 2)
        for (int v = 0; v < vectors; v++)
            mg_store(to + m / 2 * stride + v * MG_LANES, (vf)mg_bf16_pairs(sum[m][v], sum[m + 1][v]));
}

static inline int is_far(const struct job *job, int64_t s) { return s >= job->T_pad; }

/* Behind the last key of the kind of key s. */
static inline int64_t keys_end(const struct job *job, const struct head *head, int64_t s)
{
    return is_far(job, s) ? job->T_pad + head->n_far : job->T;
}

static inline int64_t position(const struct job *job, const struct head *head, int64_t s)
{
    return is_far(job, s) ? head->far[s - job->T_pad] : s;
}

/* The queries that see key s begin and end here. */
static inline int64_t queries_begin(const struct job *job, const struct head *head, int64_t s)
{
    return is_far(job, s) ? position(job, head, s) + job->window : s;
}
static inline int64_t queries_end(const struct job *job, const struct head *head, int64_t s)
{
    return is_far(job, s) ? document_end(head, position(job, head, s)) : query_end(head, s);
}

/* probs = 0 for the queries of [t, end) that do not see back to the key, because their document or their window begins
 * behind it; and for those to which a far key is near. */
static void hide_blind(const struct job *job, const struct head *head, int64_t s, int64_t t, int64_t end)
{
    for (int64_t r = 0; r < ROWS; r++) {
        float *probs = head->probs + r * job->T_stride;
        const int is_key = s + r < keys_end(job, head, s);
        const int64_t blind = is_key ? queries_end(job, head, s + r) : t, from = blind > t ? blind : t;
        if (from < end) memset(probs + from, 0, (size_t)(end - from) * sizeof *probs);
        if (!is_key || !is_far(job, s)) continue;
        for (int64_t i = t; i < end && i < queries_begin(job, head, s + r); i++) probs[i] = 0.0f;
    }
}

/* For ROWS keys from s and a few vectors of queries from t: probs, turned, from scores and lse; then
 * dscores = probs * (dprobs - delta), turned.  Both happen to the block while it is in registers. */
MG_INLINE void dscore_block(const struct job *job, const struct head *head, float *dscores, int64_t s, int64_t t,
    int vectors, mg_precision of)
{
    const int64_t row = job->row, T_stride = job->T_stride;
    const float *lse = head->lse + t, *delta = head->delta + t;
    float *probs = head->probs + t;
    mg_block sum;
    panel_product(job, sum, head->k_words + s * row, head->q_panels + t * row, vectors, of);
    MG_EACH_ROW for (int v = 0; v < vectors; v++) sum[m][v] = mg_exp2(sum[m][v] - mg_load(lse + v * MG_LANES));
    mg_block_store(probs, T_stride, sum, vectors);
    if (!is_far(job, s))
        for (int64_t r = t < s ? 0 : t - s + 1; r < ROWS; r++) /* queries before the key */
            memset(probs + r * T_stride, 0, (size_t)(s + r - t) * sizeof *probs);
    if (job->is_cut) hide_blind(job, head, s, t, t + vectors * MG_LANES);
    if (of == MG_BF16) {
        mg_block_load(sum, probs, T_stride, vectors);
        store_words(head->prob_words + t / 2, T_stride, sum, vectors);
    }
    panel_product(job, sum, head->v_words + s * row, head->dy_panels + t * row, vectors, of);
    MG_EACH_ROW for (int v = 0; v < vectors; v++)
        sum[m][v] = mg_load(probs + m * T_stride + v * MG_LANES) * (sum[m][v] - mg_load(delta + v * MG_LANES));
    if (of == MG_BF16) {
        store_words(head->dscore_words + t / 2, T_stride, sum, vectors);
        store_pairs(dscores + t, T_stride, sum, vectors);
    } else mg_block_store(dscores + t, T_stride, sum, vectors);
}

MG_INLINE void sum_block(const struct job *job, float *c, const float *a, int64_t a_row, int64_t a_column,
    const float *b, int64_t K, int vectors, int add, mg_precision of)
{
    mg_block sum;
    if (add) mg_block_load(sum, c, job->hs_pad, vectors);
    else mg_block_clear(sum, vectors);
    mg_block_multiply(sum, a, a_row, a_column, b, job->hs_pad, MG_LANES, K, vectors, of);
    mg_block_store(c, job->hs_pad, sum, vectors);
}

/* c (ROWS,hs_pad) = a (ROWS,K) b (K,hs_pad), or +=; K counts words. */
MG_INLINE void sum_rows(const struct job *job, float *c, const float *a, int64_t a_row, int64_t a_column,
    const float *b, int64_t K, int add, mg_precision of)
{
    int64_t i = 0;
    for (; i + PAIR <= job->hs_pad; i += PAIR) sum_block(job, c + i, a, a_row, a_column, b + i, K, 2, add, of);
    if (i < job->hs_pad) sum_block(job, c + i, a, a_row, a_column, b + i, K, 1, add, of);
}

/* to = or += a row of one head. */
static void put_row(float *to, const float *from, int64_t n, int add)
{
    if (!add) copy_row(to, from, n);
    else for (int64_t i = 0; i < n; i++) to[i] += from[i];
}

/* The first of the queries of keys from s on, near ones or, in whole vectors, far ones. */
static inline int64_t first_query(const struct job *job, const struct head *head, int64_t s)
{
    return is_far(job, s) ? queries_begin(job, head, s) / MG_LANES * MG_LANES : s;
}

/* dk and dv of ROWS keys from s on, and their dscores with the queries before `end`.  dk, dv: (T, width apart). */
MG_INLINE void backward_keys(const struct job *job, const struct head *head, float *dk, float *dv, float *dscores,
    int64_t s, int64_t end, int add, mg_precision of)
{
    const int64_t hs_pad = job->hs_pad, left = keys_end(job, head, s) - s, n = left < ROWS ? left : ROWS;
    const int64_t seen = queries_end(job, head, s + n - 1); /* queries before it see some of these keys */
    const int64_t begin = first_query(job, head, s), first = begin / of, K = mg_blocks(seen - begin, of); /* words */
    const float *by_query = of == MG_BF16 ? head->dscore_words : dscores;
    int64_t t = begin / MG_LANES * MG_LANES;
    for (; t + PAIR <= time_padded(seen); t += PAIR) dscore_block(job, head, dscores, s, t, 2, of);
    if (t < time_padded(seen)) dscore_block(job, head, dscores, s, t, 1, of);
    for (int64_t r = 0; time_padded(seen) < time_padded(end) && r < ROWS / (int64_t)of; r++)
        memset(dscores + r * job->T_stride + time_padded(seen), 0,
            (size_t)(time_padded(end) - time_padded(seen)) * sizeof *dscores);
    sum_rows(job, head->block, head->prob_words + first, job->T_stride, 1, head->dy_pairs + first * hs_pad, K, 0, of);
    for (int64_t r = 0; r < n; r++)
        put_row(dv + position(job, head, s + r) * job->width, head->block + r * hs_pad, job->hs, add);
    sum_rows(job, head->block, by_query + first, job->T_stride, 1, head->q_pairs + first * hs_pad, K, 0, of);
    for (int64_t r = 0; r < n; r++) {
        const int64_t at = position(job, head, s + r);
        float *row = head->block + r * hs_pad, *to = dk + at * job->width;
        mg_rotate(add ? row : to, row, job->tables, at, -1.0f, LN_2);
        if (add) put_row(to, row, job->hs, add);
    }
}

/* How many of the keys [begin, end) queries from t on are multiplied with: near ones up to their own block. */
static inline int64_t keys_of(const struct job *job, const struct head *head, int64_t begin, int64_t end, int64_t t)
{
    int64_t n = t + ROWS - begin;
    if (is_far(job, begin)) n = mg_padded(job->T_pad + far_before(head, t + ROWS - job->window) - begin, ROWS);
    return n < end - begin ? n : end - begin;
}

/* dk, dv of the keys [begin, end), and what they add to dq, or what dq becomes if they are the first. */
MG_INLINE void backward_group(const struct job *job, const struct head *head, float *dk, float *dv, int64_t begin,
    int64_t end, int add_keys, int add_queries, mg_precision of)
{
    const int64_t keys = keys_end(job, head, begin), seen = queries_end(job, head, (end < keys ? end : keys) - 1);
    for (int64_t s = begin; s < end; s += ROWS)
        backward_keys(job, head, dk, dv, head->dscores + (s - begin) / of * job->T_stride, s, seen, add_keys, of);
    for (int64_t t = first_query(job, head, begin); t < seen; t += ROWS)
        sum_rows(job, head->dq + t * job->hs_pad, head->dscores + t, 1, job->T_stride,
            head->k_pairs + begin / of * job->hs_pad, keys_of(job, head, begin, end, t) / of, add_queries, of);
}

/* Keys [first, end), the far ones among them, and the queries that see them. */
MG_INLINE void pack_backward(const struct job *job, const struct head *head, int64_t b, int64_t h, int64_t first,
    int64_t end, mg_precision of)
{
    const int64_t T = job->T, C = job->H * job->hs, near = query_end(head, end - 1);
    const int64_t beyond = head->n_far ? queries_end(job, head, job->T_pad + head->n_far - 1) : 0;
    const int64_t seen = near > beyond ? near : beyond, far = job->T_pad;
    const float *y = job->known_y + b * T * C + h * job->hs, *dy = job->dy + b * T * C + h * job->hs;
    const float *lse = job->known_lse + (b * job->H + h) * T;
    pack_turned(job, head->q, query_rows(job, b, h), first, seen, job->scale * LOG2_E);
    pack_turned(job, head->k, key_rows(job, b, h), first, end, 1.0f);
    pack(job, head->v, value_rows(job, b, h), job->width, first, end);
    pack(job, head->dy, dy, C, first, seen);
    make_panels(job, head->q_panels, words_of(job, head->v_words, head->q, first, seen, of), first, seen);
    make_panels(job, head->dy_panels, words_of(job, head->v_words, head->dy, first, seen, of), first, seen);
    words_of(job, head->k_words, head->k, first, end, of);
    words_of(job, head->v_words, head->v, first, end, of);
    pairs_of(job, head->q_pairs, head->q, first, seen, of);
    pairs_of(job, head->dy_pairs, head->dy, first, seen, of);
    pairs_of(job, head->k_pairs, head->k, first, end, of);
    const int64_t far_end = pack_far(job, head, key_rows(job, b, h), value_rows(job, b, h));
    words_of(job, head->k_words, head->k, far, far_end, of);
    words_of(job, head->v_words, head->v, far, far_end, of);
    pairs_of(job, head->k_pairs, head->k, far, far_end, of);
    for (int64_t t = first; t < time_padded(seen); t++) {
        head->lse[t] = t < seen ? lse[t] * LOG2_E : 0.0f;
        head->delta[t] = t < seen ? mg_dot(dy + t * C, y + t * C, job->hs) : 0.0f;
    }
}

/* dq of query head i is the sum over its chunks, in order: those whose keys begin before a row add to it. */
static void write_dq(const struct job *job, int64_t i, float *parts)
{
    const int64_t hs_pad = job->hs_pad, b = i / job->H, h = i % job->H;
    for (int64_t c = 1; c < job->chunks; c++)
        for (int64_t j = key_begin(job, c) * hs_pad; j < job->T * hs_pad; j++)
            parts[j] += parts[c * job->T_pad * hs_pad + j];
    float *dq = job->dqkv + (query_rows(job, b, h) - job->qkv);
    for (int64_t t = 0; t < job->T; t++)
        mg_rotate(dq + t * job->width, parts + t * hs_pad, job->tables, t, -1.0f, job->scale);
}

static void write_dq_task(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    write_dq(job, index, job->dq_parts + index * job->chunks * job->T_pad * job->hs_pad);
}

/* Chunk c of the keys of query head h; `add` to dk and dv where another head of the same keys came before. */
MG_INLINE void backward_chunk(const struct job *job, struct head head, int64_t b, int64_t h, int64_t c, int add,
    mg_precision of)
{
    const int64_t i = b * job->H + h, first = key_begin(job, c), end = key_begin(job, c + 1);
    float *dk = job->dqkv + (key_rows(job, b, h) - job->qkv), *dv = job->dqkv + (value_rows(job, b, h) - job->qkv);
    if (job->chunks > 1) head.dq = job->dq_parts + (i * job->chunks + c) * job->T_pad * job->hs_pad;
    list_far(job, &head, first, end);
    if (job->is_cut) memset(head.dq, 0, (size_t)(job->T_pad * job->hs_pad) * sizeof *head.dq);
    pack_backward(job, &head, b, h, first, end, of);
    for (int64_t begin = first; begin < end; begin += KEYS)
        backward_group(job, &head, dk, dv, begin, begin + KEYS < end ? begin + KEYS : mg_padded(end, ROWS), add,
            begin > first || job->is_cut, of);
    const int64_t far_end = job->T_pad + mg_padded(head.n_far, ROWS);
    for (int64_t begin = job->T_pad; begin < far_end; begin += KEYS)
        backward_group(job, &head, dk, dv, begin, begin + KEYS < far_end ? begin + KEYS : far_end, 1, 1, of);
    if (job->chunks == 1) write_dq(job, i, head.dq);
}

/* A task is a chunk of the keys of one head, and all query heads that share them. */
MG_INLINE void backward_task(const struct job *job, int64_t index, int64_t worker, mg_precision of)
{
    const int64_t shared = job->H / job->H_kv, i = index / job->chunks, b = i / job->H_kv, h = i % job->H_kv * shared;
    const struct head head = head_in(job, b, worker, of);
    for (int64_t j = 0; j < shared; j++) backward_chunk(job, head, b, h + j, index % job->chunks, j > 0, of);
}

static void backward_fp32(void *job, int64_t index, int64_t worker) { backward_task(job, index, worker, MG_FP32); }
static void backward_bf16(void *job, int64_t index, int64_t worker) { backward_task(job, index, worker, MG_BF16); }

int64_t mg_attention_backward(float *dqkv, float *scratch, const float *dy, const float *qkv, const float *cos,
    const float *sin, const float *y, const float *lse, const int32_t *starts, int64_t B, int64_t T, int64_t H,
    int64_t H_kv, int64_t hs, int64_t window, int64_t stride, int how)
{
    const int64_t bad = bad_start(starts, B, T);
    if (bad >= 0) return bad;
    const mg_precision of = mg_precision_of(how);
    struct job job = make_job(qkv, cos, sin, starts, scratch, T, H, H_kv, hs, window, stride, B * H_kv, of);
    job.dqkv = dqkv;
    job.dy = dy;
    job.known_y = y;
    job.known_lse = lse;
    mg_parallel(of == MG_BF16 ? backward_bf16 : backward_fp32, &job, B * H_kv * job.chunks);
    if (job.chunks > 1) mg_parallel(write_dq_task, &job, B * H);
    return -1;
}
