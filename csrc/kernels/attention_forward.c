/* SPDX-License-Identifier: MIT
 * Attention forward: through the query rows, one register block of them at a time: scores with the keys up to the last
 * row, softmax, product with the values. */
#include "attention_head.h"

int64_t mg_attention_scratch(int64_t B, int64_t T, int64_t H, int64_t H_kv, int64_t hs, int64_t window, int64_t stride)
{
    const int64_t chunks = chunks_of(B * H_kv, T), dq_parts = chunks * time_padded(T) * mg_padded(hs, MG_LANES);
    return mg_threads() * worker_scratch(T, hs, far_padded(T, window, stride)) + (chunks > 1 ? B * H * dq_parts : 0);
}

MG_INLINE void score_block(const struct job *job, float *scores, const float *q, const float *panel, int vectors,
    mg_precision of)
{
    mg_block sum;
    panel_product(job, sum, q, panel, vectors, of);
    mg_block_store(scores, job->T_stride, sum, vectors);
}

/* Where the keys that rows from `begin` see begin, in whole pairs of vectors. */
static inline int64_t keys_begin(const struct head *head, int64_t begin) { return first_key(head, begin) / PAIR * PAIR; }

/* The far keys that rows from `begin` see, in whole pairs of vectors. */
struct span {
    int64_t begin, end;
};
static inline struct span far_keys(const struct job *job, const struct head *head, int64_t begin)
{
    if (!head->n_far) return (struct span){job->T_pad, job->T_pad};
    const int64_t first = far_before(head, document_begin(head, begin));
    const int64_t end = far_before(head, first_key(head, begin + ROWS - 1));
    return (struct span){job->T_pad + first / PAIR * PAIR, job->T_pad + (end > first ? mg_padded(end, PAIR) : 0)};
}

/* probs = value where a row does not see back, because its document or its window begins later; and where far keys are
 * of another document, or are near. */
static void hide(const struct job *job, const struct head *head, int64_t begin, float value)
{
    if (!job->is_cut) return;
    const struct span far = far_keys(job, head, begin);
    for (int64_t r = 0; r < ROWS; r++) {
        float *probs = head->probs + r * job->T_stride;
        const int64_t near = first_key(head, begin + r);
        for (int64_t s = keys_begin(head, begin); s < near; s++) probs[s] = value;
        if (far.begin >= far.end) continue;
        const int64_t first = job->T_pad + far_before(head, document_begin(head, begin + r));
        const int64_t end = job->T_pad + far_before(head, near);
        for (int64_t s = far.begin; s < first; s++) probs[s] = value;
        for (int64_t s = end > far.begin ? end : far.begin; s < far.end; s++) probs[s] = value;
    }
}

/* probs (ROWS, end) = the scores of query rows from `begin` with the keys up to their last, in whole vectors. */
MG_INLINE void score_rows(const struct job *job, const struct head *head, int64_t begin, mg_precision of)
{
    const float *q = head->q_words + begin * job->row;
    int64_t s = keys_begin(head, begin);
    for (; s + MG_LANES < begin + ROWS; s += PAIR)
        score_block(job, head->probs + s, q, head->k_panels + s * job->row, 2, of);
    if (s < begin + ROWS) score_block(job, head->probs + s, q, head->k_panels + s * job->row, 1, of);
    const struct span far = far_keys(job, head, begin);
    for (s = far.begin; s < far.end; s += PAIR)
        score_block(job, head->probs + s, q, head->k_panels + s * job->row, 2, of);
}

/* The largest visible score of each row; row r from `begin` sees keys up to begin + r.  The rows go side by side, or each
 * maximum would wait for the one before it. */
static void row_maxima(const struct job *job, const struct head *head, float *most, int64_t begin)
{
    const int64_t last = begin / MG_LANES * MG_LANES; /* the vector that the diagonal cuts, in all of the rows */
    const struct span far = far_keys(job, head, begin);
    vf max[ROWS];
    MG_EACH_ROW max[m] = mg_first(mg_load(head->probs + m * job->T_stride + last), begin + m + 1 - last, -INFINITY);
    for (int64_t s = keys_begin(head, begin); s < last; s += MG_LANES)
        MG_EACH_ROW max[m] = mg_max(max[m], mg_load(head->probs + m * job->T_stride + s));
    for (int64_t s = far.begin; s < far.end; s += MG_LANES)
        MG_EACH_ROW max[m] = mg_max(max[m], mg_load(head->probs + m * job->T_stride + s));
    MG_EACH_ROW most[m] = mg_largest(max[m]);
}

/* probs = 2^(scores - most) in whole vectors of keys, and what they add to the sums of the rows. */
MG_INLINE void exp2_span(const struct job *job, const struct head *head, vf *sum, const float *most, int64_t begin,
    int64_t end)
{
    for (int64_t s = begin; s < end; s += MG_LANES)
        MG_EACH_ROW
        {
            float *x = head->probs + m * job->T_stride + s;
            vf e = mg_exp2(mg_load(x) - most[m]);
            sum[m] += e;
            mg_store(x, e);
        }
}

/* probs = 2^(scores - most) for the visible keys, 0 behind them up to a whole vector; and the sums of the rows. */
static void exp2_rows(const struct job *job, const struct head *head, float *sums, const float *most, int64_t begin)
{
    const int64_t last = begin / MG_LANES * MG_LANES;
    const struct span far = far_keys(job, head, begin);
    vf sum[ROWS] = {0};
    exp2_span(job, head, sum, most, keys_begin(head, begin), last);
    exp2_span(job, head, sum, most, far.begin, far.end);
    MG_EACH_ROW
    {
        float *x = head->probs + m * job->T_stride + last;
        vf e = mg_first(mg_exp2(mg_load(x) - most[m]), begin + m + 1 - last, 0.0f);
        sums[m] = mg_sum(sum[m] + e);
        mg_store(x, e);
    }
}

/* The probabilities of those rows once more, as words of two keys. */
static void prob_words(const struct job *job, const struct head *head, int64_t begin, int64_t end)
{
    for (int64_t s = begin; s < end; s += PAIR)
        MG_EACH_ROW
        {
            const float *x = head->probs + m * job->T_stride + s;
            const vf second = s + MG_LANES < end ? mg_load(x + MG_LANES) : mg_set(0.0f);
            mg_store(head->prob_words + m * job->T_stride + s / 2, (vf)mg_bf16_words(mg_load(x), second));
        }
}

MG_INLINE void value_block(const struct job *job, const struct head *head, int64_t begin, struct span far, int64_t i,
    const float *factors, int vectors, mg_precision of)
{
    const int64_t first = keys_begin(head, begin) / of; /* word of keys */
    mg_block sum;
    mg_block_clear(sum, vectors);
    mg_block_multiply(sum, head->prob_words + first, job->T_stride, 1, head->v_pairs + first * job->hs_pad + i,
        job->hs_pad, MG_LANES, (begin + ROWS) / of - first, vectors, of);
    if (far.begin < far.end)
        mg_block_multiply(sum, head->prob_words + far.begin / of, job->T_stride, 1,
            head->v_pairs + far.begin / of * job->hs_pad + i, job->hs_pad, MG_LANES, (far.end - far.begin) / of, vectors,
            of);
    MG_EACH_ROW for (int v = 0; v < vectors; v++) sum[m][v] *= factors[m];
    mg_block_store(head->block + i, job->hs_pad, sum, vectors);
}

/* Rows [begin, begin + ROWS) of one head; y, lse point at its first row. */
MG_INLINE void forward_rows(const struct job *job, const struct head *head, float *y, float *lse, int64_t begin,
    mg_precision of)
{
    const int64_t hs_pad = job->hs_pad;
    const struct span far = far_keys(job, head, begin);
    float most[ROWS], sums[ROWS], factors[ROWS];
    score_rows(job, head, begin, of);
    hide(job, head, begin, -INFINITY);
    row_maxima(job, head, most, begin);
    exp2_rows(job, head, sums, most, begin);
    hide(job, head, begin, 0.0f);
    if (of == MG_BF16) {
        prob_words(job, head, keys_begin(head, begin), begin / MG_LANES * MG_LANES + MG_LANES);
        prob_words(job, head, far.begin, far.end);
    }
    for (int64_t r = 0; r < ROWS; r++) {
        factors[r] = 1.0f / sums[r];
        if (begin + r < job->T) lse[begin + r] = most[r] * LN_2 + logf(sums[r]);
    }
    int64_t i = 0;
    for (; i + PAIR <= hs_pad; i += PAIR) value_block(job, head, begin, far, i, factors, 2, of);
    if (i < hs_pad) value_block(job, head, begin, far, i, factors, 1, of);
    for (int64_t t = begin; t < begin + ROWS && t < job->T; t++)
        copy_row(y + t * job->H * job->hs, head->block + (t - begin) * hs_pad, job->hs);
}

/* A chunk packs all keys that it sees, so some are packed again; no row depends on where chunks begin. */
MG_INLINE void forward_chunk(const struct job *job, int64_t index, int64_t worker, mg_precision of)
{
    const int64_t i = index / job->chunks, b = i / job->H, h = i % job->H, T = job->T, C = job->H * job->hs;
    const int64_t first = chunk_begin(job, index % job->chunks), end = chunk_begin(job, index % job->chunks + 1);
    struct head head = head_in(job, b, worker, of);
    const int64_t seen = keys_begin(&head, first);
    pack_turned(job, head.q, query_rows(job, b, h), first, end, job->scale * LOG2_E);
    pack_turned(job, head.k, key_rows(job, b, h), seen, end, 1.0f);
    pack(job, head.v, value_rows(job, b, h), job->width, seen, end);
    words_of(job, head.q_words, head.q, first, end, of);
    make_panels(job, head.k_panels, words_of(job, head.k_words, head.k, seen, end, of), seen, end);
    pairs_of(job, head.v_pairs, head.v, seen, end, of);
    list_far(job, &head, document_begin(&head, first), end);
    const int64_t far = job->T_pad, far_end = pack_far(job, &head, key_rows(job, b, h), value_rows(job, b, h));
    make_panels(job, head.k_panels, words_of(job, head.k_words, head.k, far, far_end, of), far, far_end);
    pairs_of(job, head.v_pairs, head.v, far, far_end, of);
    for (int64_t begin = first; begin < end; begin += ROWS)
        forward_rows(job, &head, job->y + b * T * C + h * job->hs, job->lse + i * T, begin, of);
}

static void forward_fp32(void *job, int64_t index, int64_t worker) { forward_chunk(job, index, worker, MG_FP32); }
static void forward_bf16(void *job, int64_t index, int64_t worker) { forward_chunk(job, index, worker, MG_BF16); }

int64_t mg_attention_forward(float *y, float *lse, float *scratch, const float *qkv, const float *cos, const float *sin,
    const int32_t *starts, int64_t B, int64_t T, int64_t H, int64_t H_kv, int64_t hs, int64_t window, int64_t stride,
    int how)
{
    const int64_t bad = bad_start(starts, B, T);
    if (bad >= 0) return bad;
    const mg_precision of = mg_precision_of(how);
    struct job job = make_job(qkv, cos, sin, starts, scratch, T, H, H_kv, hs, window, stride, B * H, of);
    job.y = y;
    job.lse = lse;
    mg_parallel(of == MG_BF16 ? forward_bf16 : forward_fp32, &job, B * H * job.chunks);
    return -1;
}

