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
    for (int64_t r = t < s ? 0 : t - s + 1; r < ROWS; r++) /* queries before the key */
        memset(probs + r * T_stride, 0, (size_t)(s + r - t) * sizeof *probs);
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

/* dk and dv of ROWS keys from s on, and their dscores. */
MG_INLINE void backward_keys(const struct job *job, const struct head *head, float *dk, float *dscores, int64_t s,
    mg_precision of)
{
    const int64_t C = job->H * job->hs, hs_pad = job->hs_pad, n = job->T - s < ROWS ? job->T - s : ROWS;
    const int64_t first = s / of, K = mg_blocks(job->T - s, of); /* words of queries */
    const float *by_query = of == MG_BF16 ? head->dscore_words : dscores;
    int64_t t = s / MG_LANES * MG_LANES;
    for (; t + PAIR <= job->T_pad; t += PAIR) dscore_block(job, head, dscores, s, t, 2, of);
    if (t < job->T_pad) dscore_block(job, head, dscores, s, t, 1, of);
    sum_rows(job, head->block, head->prob_words + first, job->T_stride, 1, head->dy_pairs + first * hs_pad, K, 0, of);
    for (int64_t r = 0; r < n; r++) copy_row(dk + C + (s + r) * 3 * C, head->block + r * hs_pad, job->hs);
    sum_rows(job, head->block, by_query + first, job->T_stride, 1, head->q_pairs + first * hs_pad, K, 0, of);
    for (int64_t r = 0; r < n; r++)
        mg_rotate(dk + (s + r) * 3 * C, head->block + r * hs_pad, job->tables, s + r, -1.0f, LN_2);
}

/* dk, dv of the keys [begin, end), and what they add to dq, or what dq becomes if they are the first; query rows see
 * keys up to their own block. */
MG_INLINE void backward_group(const struct job *job, const struct head *head, float *dk, int64_t begin, int64_t end,
    int add, mg_precision of)
{
    for (int64_t s = begin; s < end; s += ROWS)
        backward_keys(job, head, dk, head->dscores + (s - begin) / of * job->T_stride, s, of);
    for (int64_t t = begin; t < job->T; t += ROWS) {
        const int64_t n = t + ROWS < end ? t + ROWS - begin : end - begin;
        sum_rows(job, head->dq + t * job->hs_pad, head->dscores + t, 1, job->T_stride,
            head->k_pairs + begin / of * job->hs_pad, n / of, add, of);
    }
}

/* Keys [first, end), and the queries that see them. */
MG_INLINE void pack_backward(const struct job *job, const struct head *head, int64_t b, int64_t h, int64_t first,
    int64_t end, mg_precision of)
{
    const int64_t T = job->T, C = job->H * job->hs;
    const float *q = job->qkv + b * T * 3 * C + h * job->hs;
    const float *y = job->known_y + b * T * C + h * job->hs, *dy = job->dy + b * T * C + h * job->hs;
    const float *lse = job->known_lse + (b * job->H + h) * T;
    pack_turned(job, head->q, q, first, T, job->scale * LOG2_E);
    pack_turned(job, head->k, q + C, first, end, 1.0f);
    pack(job, head->v, q + 2 * C, 3 * C, first, end);
    pack(job, head->dy, dy, C, first, T);
    make_panels(job, head->q_panels, words_of(job, head->v_words, head->q, first, T, of), first, T);
    make_panels(job, head->dy_panels, words_of(job, head->v_words, head->dy, first, T, of), first, T);
    words_of(job, head->k_words, head->k, first, end, of);
    words_of(job, head->v_words, head->v, first, end, of);
    pairs_of(job, head->q_pairs, head->q, first, T, of);
    pairs_of(job, head->dy_pairs, head->dy, first, T, of);
    pairs_of(job, head->k_pairs, head->k, first, end, of);
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

MG_INLINE void backward_chunk(const struct job *job, int64_t index, int64_t worker, mg_precision of)
{
    struct head head = head_in(job, worker, of);
    const int64_t i = index / job->chunks, b = i / job->H, h = i % job->H, T = job->T, C = job->H * job->hs;
    const int64_t first = key_begin(job, index % job->chunks), end = key_begin(job, index % job->chunks + 1);
    if (job->chunks > 1) head.dq = job->dq_parts + index * job->T_pad * job->hs_pad;
    pack_backward(job, &head, b, h, first, end, of);
    for (int64_t begin = first; begin < end; begin += KEYS)
        backward_group(job, &head, job->dqkv + (b * T * 3 + 1) * C + h * job->hs, begin,
            begin + KEYS < end ? begin + KEYS : mg_padded(end, ROWS), begin > first, of);
    if (job->chunks == 1) write_dq(job, i, head.dq);
}

static void backward_fp32(void *job, int64_t index, int64_t worker) { backward_chunk(job, index, worker, MG_FP32); }
static void backward_bf16(void *job, int64_t index, int64_t worker) { backward_chunk(job, index, worker, MG_BF16); }

void mg_attention_backward(float *dqkv, float *scratch, const float *dy, const float *qkv, const float *cos,
    const float *sin, const float *y, const float *lse, int64_t B, int64_t T, int64_t H, int64_t hs)
{
    struct job job = make_job(qkv, cos, sin, scratch, B, T, H, hs);
    job.dqkv = dqkv;
    job.dy = dy;
    job.known_y = y;
    job.known_lse = lse;
    mg_parallel(mg_gemm_precision() == MG_BF16 ? backward_bf16 : backward_fp32, &job, B * H * job.chunks);
    if (job.chunks > 1) mg_parallel(write_dq_task, &job, B * H);
}
