/* SPDX-License-Identifier: MIT
 * The delta rule of RWKV-7 by chunks of tokens, as products of small matrices (Yang et al. 2024, arXiv 2406.06484; here
 * each channel of a key fades by itself).
 *
 * In a chunk let P_t be the product of all w up to token t, S_0 the state before it, and for each of its tokens
 *   a_t = P_(t-1) kk_t,   q_t = P_t r_t,   b'_t = b_t / P_t,   k'_t = k_t / P_t.
 * Let u_t = -S_(t-1)^T kk_t, what b_t takes away there.  Then, one token after the other,
 *   u_t = -(S_0^T a_t + sum over s < t of (a_t . b'_s) u_s + (a_t . k'_s) v_s),
 * and all the rest at once:
 *   y_t = S_0^T q_t + sum over s <= t of (q_t . b'_s) u_s + (q_t . k'_s) v_s
 *   S_n = diag(P_n) (S_0 + sum over s of b'_s u_s^T + k'_s v_s^T).
 * With w above 1/2, as RWKV-7 has it, P stays above 2^-CHUNK.
 *
 * The backward goes through the chunks once to keep u and the state before each, then from the last to the first. */
#include "kernels.h"
#include "recurrence.h"
#include "small_product.h"

#define CHUNK 16
#define BOTH (2 * CHUNK)

enum { R, W, K, V, KK, B_, DY, N_ROWS }; /* what comes of a token */

struct job {
    float *y, *after, *scratch;
    float *d[6];
    const float *rows[N_ROWS], *before;
    const int32_t *starts;
    int64_t T, H, N, pad;
};

/* Of a chunk two matrices with a row for each token lie below each other: keys are a and q, writes b' and k', values u
 * and v, outs u and y.  scores are keys by writes.  kept: scores of a, and u, of every token. */
struct head {
    float *marks, *kept_scores, *kept_u;
    float *S, *D, *turned_S, *turned_D, *decay, *d_log;
    float *keys, *writes, *values, *outs, *d_keys, *d_writes, *d_v;
    float *scores, *d_scores, *turned;
    int64_t b, h;
};

/* Gives each part of a head its place from `at` on, unless that is NULL.  Returns the floats they take. */
static int64_t lay_out(struct head *head, float *at, int64_t T, int64_t pad)
{
    const int64_t size = pad * pad, pair = BOTH * pad;
    const struct {
        float **part;
        int64_t n;
    } parts[] = {
        {&head->marks, (mg_blocks(T, CHUNK) + 1) * size}, /* the last is behind the last chunk */
        {&head->kept_scores, T * BOTH}, {&head->kept_u, T * pad},
        {&head->S, size}, {&head->D, size}, {&head->turned_S, size}, {&head->turned_D, size},
        {&head->decay, (CHUNK + 1) * pad}, {&head->d_log, pad},
        {&head->keys, pair}, {&head->writes, pair}, {&head->values, pair}, {&head->outs, pair},
        {&head->d_keys, pair}, {&head->d_writes, pair}, {&head->turned, pair}, {&head->d_v, pair / 2},
        {&head->scores, BOTH * BOTH}, {&head->d_scores, BOTH * BOTH},
    };
    int64_t n = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (at) *parts[i].part = at + n;
        n += parts[i].n;
    }
    return n;
}

static int64_t worker_scratch(int64_t T, int64_t pad)
{
    struct head head;
    return lay_out(&head, NULL, T, pad);
}

int64_t mg_wkv7_scratch(int64_t T, int64_t N) { return mg_threads() * worker_scratch(T, mg_padded(N, MG_LANES)); }

static struct head head_of(const struct job *job, int64_t index, int64_t worker)
{
    struct head head = {.b = index / job->H, .h = index % job->H};
    lay_out(&head, job->scratch + worker * worker_scratch(job->T, job->pad), job->T, job->pad);
    return head;
}

static int64_t place(const struct job *job, const struct head *head, int64_t t)
{
    return ((head->b * job->T + t) * job->H + head->h) * job->N;
}

static int is_cut(const struct job *job, const struct head *head, int64_t t)
{
    return mg_begins(job->starts ? job->starts + head->b * job->T : NULL, t);
}

/* A chunk ends at a multiple of CHUNK, and where a document does. */
static int is_border(const struct job *job, const struct head *head, int64_t t)
{
    return t % CHUNK == 0 || t == job->T || is_cut(job, head, t);
}

static void clear(float *rows, int64_t n, int64_t ld) { memset(rows, 0, (size_t)(n * ld) * sizeof *rows); }

static void clear_state(const struct job *job, float *S) { clear(S, job->pad, job->pad); }

/* to (n, pad) += a b, of the n tokens of a chunk. */
static void add(const struct job *job, float *to, struct mg_small a, const float *b, int64_t n, int64_t depth)
{
    mg_add_small_product(to, job->pad, a, b, job->pad, n, depth, job->pad);
}

/* S += a^T b, of both pairs of the n tokens of a chunk. */
static void add_to_state(const struct job *job, float *S, const float *a, const float *b, int64_t n)
{
    const int64_t pad = job->pad;
    for (int64_t second = 0; second <= CHUNK * pad; second += CHUNK * pad)
        mg_add_small_product(S, pad, mg_turned(a + second, pad), b + second, pad, job->N, n, pad);
}

/* Tokens in whole vectors. */
static int64_t whole(int64_t n) { return mg_padded(n, MG_LANES); }

/* turned (pad, BOTH) = both matrices of a pair, of n tokens and the zeros behind them. */
static void turn_pair(const struct job *job, const struct head *head, float *pair, int64_t n)
{
    const int64_t pad = job->pad;
    for (int64_t half = 0; half < 2; half++) {
        float *rows = pair + half * CHUNK * pad;
        clear(rows + n * pad, whole(n) - n, pad);
        mg_turn(head->turned + half * CHUNK, BOTH, rows, pad, whole(n), pad);
    }
}

/* Of the first or second half, scores (n, BOTH) = rows by the pair that is turned, as far as a token sees: those before
 * it, and, where it reads, itself. */
static void score(const struct job *job, const struct head *head, float *scores, const float *rows, int64_t half,
    int64_t n)
{
    float *own = scores + half * CHUNK * BOTH;
    clear(own, n, BOTH);
    for (int64_t column = 0; column < BOTH; column += CHUNK) {
        mg_add_small_product(own + column, BOTH, mg_as_it_is(rows + half * CHUNK * job->pad, job->pad),
            head->turned + column, BOTH, n, job->N, whole(n));
        for (int64_t t = 0; t < n; t++)
            for (int64_t s = t + half; s < n; s++) own[t * BOTH + column + s] = 0.0f;
    }
}

/* ------------------------------------------------------------------------------------------------ forward */

/* P, a, q, b', k' and v of the n tokens from `first` on. */
static void load_chunk(const struct job *job, const struct head *head, int64_t first, int64_t n)
{
    const int64_t pad = job->pad, second = CHUNK * pad;
    for (int64_t i = 0; i < pad; i += MG_LANES) mg_store(head->decay + i, mg_set(1.0f));
    for (int64_t t = 0; t < n; t++) {
        const int64_t from = place(job, head, first + t);
        for (int64_t i = 0; i < pad; i += MG_LANES) {
            const int64_t m = job->N - i, at = from + i, to = t * pad + i;
            vf before = mg_load(head->decay + to), w = mg_first(mg_load_n(job->rows[W] + at, m), m, 1.0f);
            vf here = before * w, inverse = 1.0f / here;
            mg_store(head->decay + to + pad, here);
            mg_store(head->keys + to, before * mg_load_n(job->rows[KK] + at, m));
            mg_store(head->keys + second + to, here * mg_load_n(job->rows[R] + at, m));
            mg_store(head->writes + to, inverse * mg_load_n(job->rows[B_] + at, m));
            mg_store(head->writes + second + to, inverse * mg_load_n(job->rows[K] + at, m));
            mg_store(head->values + second + to, mg_load_n(job->rows[V] + at, m));
        }
    }
    turn_pair(job, head, head->writes, n);
}

/* u_t = -u_t - sum over s of scores[t, s] u_s, of some vectors: s before t, or behind it on the way back. */
MG_INLINE void substitute(float *u, struct mg_small scores, int64_t n, int64_t pad, const int is_back, const int vectors)
{
    for (int64_t step = 0; step < n; step++) {
        const int64_t t = is_back ? n - 1 - step : step, end = is_back ? n : t;
        vf sum[4];
        for (int v = 0; v < vectors; v++) sum[v] = -mg_load(u + t * pad + v * MG_LANES);
        for (int64_t s = is_back ? t + 1 : 0; s < end; s++)
            for (int v = 0; v < vectors; v++)
                sum[v] -= mg_load(u + s * pad + v * MG_LANES) * scores.at[t * scores.row + s * scores.column];
        for (int v = 0; v < vectors; v++) mg_store(u + t * pad + v * MG_LANES, sum[v]);
    }
}

MG_INLINE void solve(float *u, struct mg_small scores, int64_t n, int64_t pad, const int is_back)
{
    MG_STRIPS(pad, j, substitute(u + j, scores, n, pad, is_back, 4), substitute(u + j, scores, n, pad, is_back, 2),
        substitute(u + j, scores, n, pad, is_back, 1));
}

static void find_u(const struct job *job, const struct head *head, int64_t n)
{
    float *u = head->values;
    clear(u, n, job->pad);
    add(job, u, mg_as_it_is(head->keys, job->pad), head->S, n, job->N);
    add(job, u, mg_as_it_is(head->scores + CHUNK, BOTH), head->values + CHUNK * job->pad, n, n);
    solve(u, mg_as_it_is(head->scores, BOTH), n, job->pad, 0);
}

static void find_y(const struct job *job, const struct head *head, int64_t first, int64_t n)
{
    const int64_t pad = job->pad;
    float *y = head->outs + CHUNK * pad;
    const float *scores = head->scores + CHUNK * BOTH;
    score(job, head, head->scores, head->keys, 1, n);
    clear(y, n, pad);
    add(job, y, mg_as_it_is(head->keys + CHUNK * pad, pad), head->S, n, job->N);
    add(job, y, mg_as_it_is(scores, BOTH), head->values, n, n);
    add(job, y, mg_as_it_is(scores + CHUNK, BOTH), head->values + CHUNK * pad, n, n);
    for (int64_t t = 0; t < n; t++)
        memcpy(job->y + place(job, head, first + t), y + t * pad, (size_t)job->N * sizeof *y);
}

/* S becomes the state behind the chunk. */
static void pass(const struct job *job, const struct head *head, int64_t n)
{
    const int64_t pad = job->pad;
    const float *decay = head->decay + n * pad;
    add_to_state(job, head->S, head->writes, head->values, n);
    for (int64_t i = 0; i < job->N; i++)
        for (int64_t j = i * pad; j < (i + 1) * pad; j += MG_LANES)
            mg_store(head->S + j, mg_load(head->S + j) * decay[i]);
}

/* What the backward needs again: scores of a, and u. */
static void keep(const struct job *job, const struct head *head, int64_t first, int64_t n)
{
    memcpy(head->kept_scores + first * BOTH, head->scores, (size_t)(n * BOTH) * sizeof(float));
    memcpy(head->kept_u + first * job->pad, head->values, (size_t)(n * job->pad) * sizeof(float));
}

/* Through all chunks, to y; or, where there is nowhere to put it, to what the backward needs. */
static void run(const struct job *job, const struct head *head)
{
    const int64_t N = job->N, size = job->pad * job->pad;
    clear_state(job, head->S);
    mg_pad_matrix(head->S, job->before ? job->before + (head->b * job->H + head->h) * N * N : NULL, N, N);
    for (int64_t first = 0, end; first < job->T; first = end) {
        for (end = first + 1; !is_border(job, head, end);) end++;
        if (is_cut(job, head, first)) clear_state(job, head->S);
        if (!job->y && first % CHUNK == 0)
            memcpy(head->marks + first / CHUNK * size, head->S, (size_t)size * sizeof(float));
        load_chunk(job, head, first, end - first);
        score(job, head, head->scores, head->keys, 0, end - first);
        find_u(job, head, end - first);
        if (job->y) find_y(job, head, first, end - first);
        else keep(job, head, first, end - first);
        pass(job, head, end - first);
    }
    if (!job->y) memcpy(head->marks + mg_blocks(job->T, CHUNK) * size, head->S, (size_t)size * sizeof(float));
}

static void forward_head(void *argument, int64_t index, int64_t worker)
{
    const struct job *job = argument;
    const struct head head = head_of(job, index, worker);
    run(job, &head);
    mg_unpad_matrix(job->after + index * job->N * job->N, head.S, job->N, job->N);
}

/* ------------------------------------------------------------------------------------------------ backward */

static void load_back(const struct job *job, const struct head *head, int64_t first, int64_t n)
{
    const int64_t pad = job->pad;
    load_chunk(job, head, first, n);
    memcpy(head->scores, head->kept_scores + first * BOTH, (size_t)(n * BOTH) * sizeof(float));
    memcpy(head->values, head->kept_u + first * pad, (size_t)(n * pad) * sizeof(float));
    score(job, head, head->scores, head->keys, 1, n);
    for (int64_t t = 0; t < n; t++)
        mg_pad_row(head->outs + (CHUNK + t) * pad, job->rows[DY] + place(job, head, first + t), job->N);
}

/* D, the gradient of the state behind the chunk, becomes that of S_n / P_n; d_log is that of the logarithm of P_n. */
static void enter(const struct job *job, const struct head *head, const float *behind, int64_t n)
{
    const int64_t pad = job->pad;
    const float *decay = head->decay + n * pad;
    for (int64_t i = 0; i < job->N; i++) {
        vf along = {0};
        for (int64_t j = i * pad; j < (i + 1) * pad; j += MG_LANES) {
            vf d = mg_load(head->D + j);
            along += d * mg_load(behind + j);
            mg_store(head->D + j, d * decay[i]);
        }
        head->d_log[i] = mg_sum(along);
    }
}

/* From that of y the gradient of what u is before other u are taken from it. */
static void u_back(const struct job *job, const struct head *head, int64_t n)
{
    float *du = head->outs, *dy = head->outs + CHUNK * job->pad;
    clear(du, n, job->pad);
    add(job, du, mg_as_it_is(head->writes, job->pad), head->D, n, job->N);
    add(job, du, mg_turned(head->scores + CHUNK * BOTH, BOTH), dy, n, n);
    solve(du, mg_turned(head->scores, BOTH), n, job->pad, 1);
}

static void v_back(const struct job *job, const struct head *head, int64_t n)
{
    const int64_t pad = job->pad;
    clear(head->d_v, n, pad);
    add(job, head->d_v, mg_as_it_is(head->writes + CHUNK * pad, pad), head->D, n, job->N);
    for (int64_t half = 0; half < 2; half++)
        add(job, head->d_v, mg_turned(head->scores + half * CHUNK * BOTH + CHUNK, BOTH), head->outs + half * CHUNK * pad,
            n, n);
}

/* Gradients of keys and writes: through the states, and through scores. */
static void pairs_back(const struct job *job, const struct head *head, const float *S, int64_t n)
{
    const int64_t pad = job->pad, second = CHUNK * pad;
    mg_turn(head->turned_S, pad, S, pad, pad, pad);
    mg_turn(head->turned_D, pad, head->D, pad, pad, pad);
    turn_pair(job, head, head->values, n);
    for (int64_t half = 0; half < 2; half++) {
        float *d_keys = head->d_keys + half * second, *d_writes = head->d_writes + half * second;
        score(job, head, head->d_scores, head->outs, half, n);
        clear(d_keys, n, pad);
        add(job, d_keys, mg_as_it_is(head->outs + half * second, pad), head->turned_S, n, job->N);
        clear(d_writes, n, pad);
        add(job, d_writes, mg_as_it_is(head->values + half * second, pad), head->turned_D, n, job->N);
    }
    for (int64_t key = 0; key < 2; key++)
        for (int64_t write = 0; write < 2; write++) {
            const float *d_scores = head->d_scores + (key * BOTH + write) * CHUNK;
            add(job, head->d_keys + key * second, mg_as_it_is(d_scores, BOTH), head->writes + write * second, n, n);
            add(job, head->d_writes + write * second, mg_turned(d_scores, BOTH), head->keys + key * second, n, n);
        }
}

/* Gradients of the rows themselves.  On the way back d_log becomes that of the logarithm of each P_t. */
static void rows_back(const struct job *job, const struct head *head, int64_t first, int64_t n)
{
    const int64_t pad = job->pad, second = CHUNK * pad;
    for (int64_t t = n - 1; t >= 0; t--) {
        const int64_t to = place(job, head, first + t);
        for (int64_t i = 0; i < job->N; i += MG_LANES) {
            const int64_t m = job->N - i, at = to + i, of = t * pad + i;
            vf before = mg_load(head->decay + of), here = mg_load(head->decay + of + pad), inverse = 1.0f / here;
            vf da = mg_load(head->d_keys + of), dq = mg_load(head->d_keys + second + of);
            vf db = mg_load(head->d_writes + of), dk = mg_load(head->d_writes + second + of);
            vf d_log = mg_load(head->d_log + i) + dq * mg_load(head->keys + second + of)
                - db * mg_load(head->writes + of) - dk * mg_load(head->writes + second + of);
            mg_store_n(job->d[R] + at, dq * here, m);
            mg_store_n(job->d[W] + at, d_log * before * inverse, m);
            mg_store_n(job->d[K] + at, dk * inverse, m);
            mg_store_n(job->d[V] + at, mg_load(head->d_v + of), m);
            mg_store_n(job->d[KK] + at, da * before, m);
            mg_store_n(job->d[B_] + at, db * inverse, m);
            mg_store(head->d_log + i, d_log + da * mg_load(head->keys + of));
        }
    }
}

/* The chunk of tokens [first, end).  Where it is not at a multiple of CHUNK a document begins, with an empty state. */
static void chunk_back(const struct job *job, const struct head *head, int64_t first, int64_t end)
{
    const int64_t size = job->pad * job->pad, n = end - first;
    const float *S = first % CHUNK ? head->S : head->marks + first / CHUNK * size;
    const int is_at_mark = end % CHUNK == 0 || end == job->T; /* else D is zero: so may be the state behind */
    load_back(job, head, first, n);
    enter(job, head, is_at_mark ? head->marks + mg_blocks(end, CHUNK) * size : head->S, n);
    u_back(job, head, n);
    v_back(job, head, n);
    pairs_back(job, head, S, n);
    add_to_state(job, head->D, head->keys, head->outs, n);
    rows_back(job, head, first, n);
    if (is_cut(job, head, first)) clear_state(job, head->D);
}

static void backward_head(void *argument, int64_t index, int64_t worker)
{
    const struct job *job = argument;
    const struct head head = head_of(job, index, worker);
    run(job, &head);
    clear_state(job, head.S);
    clear_state(job, head.D);
    for (int64_t end = job->T, first; end > 0; end = first) {
        for (first = end - 1; !is_border(job, &head, first);) first--;
        chunk_back(job, &head, first, end);
    }
}

void mg_wkv7_forward(float *y, float *after, float *scratch, const float *r, const float *w, const float *k,
    const float *v, const float *kk, const float *b, const int32_t *starts, const float *before, int64_t B, int64_t T,
    int64_t H, int64_t N)
{
    struct job job = {.y = y, .after = after, .scratch = scratch, .rows = {r, w, k, v, kk, b}, .before = before,
        .starts = starts, .T = T, .H = H, .N = N, .pad = mg_padded(N, MG_LANES)};
    mg_parallel_flop(forward_head, &job, B * H, 12.0 * (double)(B * T * H) * (double)(N * N));
}

void mg_wkv7_backward(float *dr, float *dw, float *dk, float *dv, float *dkk, float *db, float *scratch, const float *dy,
    const float *r, const float *w, const float *k, const float *v, const float *kk, const float *b,
    const int32_t *starts, const float *before, int64_t B, int64_t T, int64_t H, int64_t N)
{
    struct job job = {.scratch = scratch, .d = {dr, dw, dk, dv, dkk, db}, .rows = {r, w, k, v, kk, b, dy},
        .before = before, .starts = starts, .T = T, .H = H, .N = N, .pad = mg_padded(N, MG_LANES)};
    mg_parallel_flop(backward_head, &job, B * H, 32.0 * (double)(B * T * H) * (double)(N * N));
}
