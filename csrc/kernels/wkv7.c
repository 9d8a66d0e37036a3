/* SPDX-License-Identifier: MIT
 * A scan, token after token, with the state in the first-level cache.
 *
 * The backward needs the state before every token.  It goes forward once and keeps the state before every CHUNK-th, then
 * takes the chunks from the last to the first: forward again with all states of the chunk, and back. */
#include "kernels.h"
#include "recurrence.h"

#define CHUNK 16

enum { R, W, K, V, KK, B_, DY, ROWS }; /* what comes of a token */

struct job {
    float *y, *after, *scratch;
    float *d[6];
    const float *rows[ROWS], *before;
    const int32_t *starts;
    int64_t T, H, N, pad, has_dy;
};

struct head {
    float *states, *marks, *S, *tokens, *removed, *sums, *partials, *d_removed;
    int64_t b, h;
};

static int64_t token_floats(int64_t pad) { return (ROWS + 1) * pad; }

static int64_t worker_scratch(int64_t T, int64_t pad)
{
    const int64_t size = pad * pad;
    return (CHUNK + 2 + mg_blocks(T, CHUNK)) * size + CHUNK * token_floats(pad) + 6 * pad + 6 * pad * MG_LANES
        + 3 * pad;
}

int64_t mg_wkv7_scratch(int64_t T, int64_t N) { return mg_threads() * worker_scratch(T, mg_padded(N, MG_LANES)); }

static struct head head_of(const struct job *job, int64_t index, int64_t worker)
{
    const int64_t pad = job->pad, size = pad * pad;
    struct head head = {.b = index / job->H, .h = index % job->H};
    head.states = job->scratch + worker * worker_scratch(job->T, pad);
    head.S = head.states + (CHUNK + 1) * size; /* behind the state behind the last token of a chunk */
    head.marks = head.S + size;
    head.tokens = head.marks + mg_blocks(job->T, CHUNK) * size;
    head.sums = head.tokens + CHUNK * token_floats(pad);
    head.partials = head.sums + 6 * pad;
    head.d_removed = head.partials + 6 * pad * MG_LANES;
    head.removed = head.d_removed + pad;
    memset(head.partials, 0, (size_t)(6 * pad * MG_LANES) * sizeof(float));
    return head;
}

static int is_cut(const struct job *job, const struct head *head, int64_t t)
{
    return mg_begins(job->starts ? job->starts + head->b * job->T : NULL, t);
}

static int64_t place(const struct job *job, const struct head *head, int64_t t)
{
    return ((head->b * job->T + t) * job->H + head->h) * job->N;
}

/* The rows of token t in whole vectors, and behind them room for what the state removes there. */
static void fetch(const struct job *job, const struct head *head, float *token, int64_t t)
{
    const int64_t at = place(job, head, t);
    for (int i = 0; i < (job->has_dy ? ROWS : DY); i++) mg_pad_row(token + i * job->pad, job->rows[i] + at, job->N);
}

/* removed = S^T kk, of some vectors. */
MG_INLINE void read_strip(float *removed, const float *S, const float *kk, int64_t N, int64_t pad, int64_t begin,
    const int vectors)
{
    vf sum[4] = {{0}};
    for (int64_t i = 0; i < N; i++)
        for (int v = 0; v < vectors; v++) sum[v] += mg_load(S + i * pad + begin + v * MG_LANES) * kk[i];
    for (int v = 0; v < vectors; v++) mg_store(removed + begin + v * MG_LANES, sum[v]);
}

/* to = w S - b removed^T + k v^T, of some vectors; `to` may be S.  Then y = to^T r, or the partials of dr = to dy. */
MG_INLINE void write_strip(float *to, float *out, const float *S, const float *token, int64_t N, int64_t pad,
    int64_t begin, const int vectors, const int is_again)
{
    const float *r = token + R * pad, *w = token + W * pad, *k = token + K * pad, *b = token + B_ * pad;
    vf value[2], removed[2], dy[2], sum[2];
    for (int v = 0; v < vectors; v++) {
        const int64_t at = begin + v * MG_LANES;
        value[v] = mg_load(token + V * pad + at);
        removed[v] = mg_load(token + ROWS * pad + at);
        if (is_again) dy[v] = mg_load(token + DY * pad + at);
        sum[v] = (vf){0};
    }
    for (int64_t i = 0; i < N; i++) {
        vf along = is_again && begin ? mg_load(out + i * MG_LANES) : (vf){0};
        for (int v = 0; v < vectors; v++) {
            const int64_t at = i * pad + begin + v * MG_LANES;
            vf s = mg_load(S + at) * w[i] - removed[v] * b[i] + value[v] * k[i];
            mg_store(to + at, s);
            if (is_again) along += s * dy[v];
            else sum[v] += s * r[i];
        }
        if (is_again) mg_store(out + i * MG_LANES, along);
    }
    if (!is_again)
        for (int v = 0; v < vectors; v++) mg_store(out + begin + v * MG_LANES, sum[v]);
}

/* `to` = the state behind a token, S being that before it. */
MG_INLINE void advance(float *to, float *out, const float *S, float *token, int64_t N, int64_t pad, const int is_again)
{
    const float *kk = token + KK * pad;
    float *removed = token + ROWS * pad;
    MG_STRIPS(pad, begin, read_strip(removed, S, kk, N, pad, begin, 4), read_strip(removed, S, kk, N, pad, begin, 2),
        read_strip(removed, S, kk, N, pad, begin, 1));
    int64_t begin = 0;
    for (; begin + 2 * MG_LANES <= pad; begin += 2 * MG_LANES)
        write_strip(to, out, S, token, N, pad, begin, 2, is_again);
    for (; begin < pad; begin += MG_LANES) write_strip(to, out, S, token, N, pad, begin, 1, is_again);
}

static const float *state_before(const struct job *job, const struct head *head)
{
    return job->before ? job->before + (head->b * job->H + head->h) * job->N * job->N : NULL;
}

static void clear(const struct job *job, float *S) { memset(S, 0, (size_t)(job->pad * job->pad) * sizeof *S); }

/* Through all tokens; y is not kept where there is nowhere to put it, but the state before each CHUNK-th is. */
static void run(const struct job *job, const struct head *head)
{
    const int64_t N = job->N, size = job->pad * job->pad;
    mg_pad_matrix(head->S, state_before(job, head), N, N);
    for (int64_t t = 0; t < job->T; t++) {
        if (is_cut(job, head, t)) clear(job, head->S);
        if (!job->y && t % CHUNK == 0) memcpy(head->marks + t / CHUNK * size, head->S, (size_t)size * sizeof(float));
        fetch(job, head, head->tokens, t);
        advance(head->S, head->sums, head->S, head->tokens, N, job->pad, 0);
        if (job->y) memcpy(job->y + place(job, head, t), head->sums, (size_t)N * sizeof(float));
    }
}

static void forward_head(void *argument, int64_t index, int64_t worker)
{
    const struct job *job = argument;
    const struct head head = head_of(job, index, worker);
    run(job, &head);
    mg_unpad_matrix(job->after + index * job->N * job->N, head.S, job->N, job->N);
}

/* D is the gradient of the state:  D += r dy^T;  partials of dw = D S, dk = D v, db = -D removed;  dv = D^T k and
 * d_removed = -D^T b; of some vectors. */
MG_INLINE void back_strip(const struct head *head, float *D, const float *S, const float *token, int64_t N, int64_t pad,
    int64_t begin, const int vectors)
{
    const float *r = token + R * pad, *k = token + K * pad, *b = token + B_ * pad;
    float *dv = head->sums + V * pad, *dw = head->partials + W * pad * MG_LANES;
    float *dk = head->partials + K * pad * MG_LANES, *db = head->partials + B_ * pad * MG_LANES;
    vf value[2], removed[2], dy[2], dv_sum[2], removed_sum[2];
    for (int v = 0; v < vectors; v++) {
        const int64_t at = begin + v * MG_LANES;
        value[v] = mg_load(token + V * pad + at);
        removed[v] = mg_load(token + ROWS * pad + at);
        dy[v] = mg_load(token + DY * pad + at);
        dv_sum[v] = removed_sum[v] = (vf){0};
    }
    for (int64_t i = 0; i < N; i++) {
        vf along_w = {0}, along_k = {0}, along_b = {0};
        if (begin) {
            along_w = mg_load(dw + i * MG_LANES);
            along_k = mg_load(dk + i * MG_LANES);
            along_b = mg_load(db + i * MG_LANES);
        }
        for (int v = 0; v < vectors; v++) {
            const int64_t at = i * pad + begin + v * MG_LANES;
            vf d = mg_load(D + at) + dy[v] * r[i];
            mg_store(D + at, d);
            along_w += d * mg_load(S + at);
            along_k += d * value[v];
            along_b -= d * removed[v];
            dv_sum[v] += d * k[i];
            removed_sum[v] -= d * b[i];
        }
        mg_store(dw + i * MG_LANES, along_w);
        mg_store(dk + i * MG_LANES, along_k);
        mg_store(db + i * MG_LANES, along_b);
    }
    for (int v = 0; v < vectors; v++) {
        mg_store(dv + begin + v * MG_LANES, dv_sum[v]);
        mg_store(head->d_removed + begin + v * MG_LANES, removed_sum[v]);
    }
}

/* D = w D + kk d_removed^T: the gradient of the state before the token; partials of dkk = S d_removed. */
MG_INLINE void pass_strip(const struct head *head, float *D, const float *S, const float *token, int64_t N, int64_t pad,
    int64_t begin, const int vectors)
{
    const float *w = token + W * pad, *kk = token + KK * pad;
    float *dkk = head->partials + KK * pad * MG_LANES;
    vf removed[4];
    for (int v = 0; v < vectors; v++) removed[v] = mg_load(head->d_removed + begin + v * MG_LANES);
    for (int64_t i = 0; i < N; i++) {
        vf along = begin ? mg_load(dkk + i * MG_LANES) : (vf){0};
        for (int v = 0; v < vectors; v++) {
            const int64_t at = i * pad + begin + v * MG_LANES;
            along += removed[v] * mg_load(S + at);
            mg_store(D + at, mg_load(D + at) * w[i] + removed[v] * kk[i]);
        }
        mg_store(dkk + i * MG_LANES, along);
    }
}

static void put_gradients(const struct job *job, const struct head *head, int64_t t)
{
    const int64_t pad = job->pad, at = place(job, head, t);
    for (int i = W; i <= B_; i++) {
        if (i != V) mg_lane_sums(head->sums + i * pad, head->partials + i * pad * MG_LANES, job->N);
        memcpy(job->d[i] + at, head->sums + i * pad, (size_t)job->N * sizeof(float));
    }
}

/* The states before the tokens [first, end) of a chunk, and dr of them. */
static void states_of_chunk(const struct job *job, const struct head *head, int64_t first, int64_t end)
{
    const int64_t N = job->N, pad = job->pad, size = pad * pad;
    memcpy(head->states, head->marks + first / CHUNK * size, (size_t)size * sizeof(float));
    for (int64_t t = first; t < end; t++) {
        float *S = head->states + (t - first) * size, *token = head->tokens + (t - first) * token_floats(pad);
        if (is_cut(job, head, t)) clear(job, S);
        fetch(job, head, token, t);
        advance(S + size, head->partials, S, token, N, pad, 1);
        mg_lane_sums(head->sums, head->partials, N);
        memcpy(job->d[R] + place(job, head, t), head->sums, (size_t)N * sizeof(float));
    }
}

static void backward_head(void *argument, int64_t index, int64_t worker)
{
    const struct job *job = argument;
    const struct head head = head_of(job, index, worker);
    const int64_t N = job->N, pad = job->pad;
    run(job, &head);
    float *D = head.S;
    clear(job, D);
    for (int64_t first = (job->T - 1) / CHUNK * CHUNK; first >= 0; first -= CHUNK) {
        const int64_t end = first + CHUNK < job->T ? first + CHUNK : job->T;
        states_of_chunk(job, &head, first, end);
        for (int64_t t = end - 1; t >= first; t--) {
            const float *S = head.states + (t - first) * pad * pad;
            const float *token = head.tokens + (t - first) * token_floats(pad);
            int64_t begin = 0;
            for (; begin + 2 * MG_LANES <= pad; begin += 2 * MG_LANES) back_strip(&head, D, S, token, N, pad, begin, 2);
            for (; begin < pad; begin += MG_LANES) back_strip(&head, D, S, token, N, pad, begin, 1);
            MG_STRIPS(pad, from, pass_strip(&head, D, S, token, N, pad, from, 4),
                pass_strip(&head, D, S, token, N, pad, from, 2), pass_strip(&head, D, S, token, N, pad, from, 1));
            put_gradients(job, &head, t);
            if (is_cut(job, &head, t)) clear(job, D);
        }
    }
}

void mg_wkv7_forward(float *y, float *after, float *scratch, const float *r, const float *w, const float *k,
    const float *v, const float *kk, const float *b, const int32_t *starts, const float *before, int64_t B, int64_t T,
    int64_t H, int64_t N)
{
    struct job job = {.y = y, .after = after, .scratch = scratch, .rows = {r, w, k, v, kk, b}, .before = before,
        .starts = starts, .T = T, .H = H, .N = N, .pad = mg_padded(N, MG_LANES)};
    mg_parallel_flop(forward_head, &job, B * H, 10.0 * (double)(B * T * H) * (double)(N * N));
}

void mg_wkv7_backward(float *dr, float *dw, float *dk, float *dv, float *dkk, float *db, float *scratch, const float *dy,
    const float *r, const float *w, const float *k, const float *v, const float *kk, const float *b,
    const int32_t *starts, const float *before, int64_t B, int64_t T, int64_t H, int64_t N)
{
    struct job job = {.scratch = scratch, .d = {dr, dw, dk, dv, dkk, db}, .rows = {r, w, k, v, kk, b, dy},
        .before = before, .starts = starts, .T = T, .H = H, .N = N, .pad = mg_padded(N, MG_LANES), .has_dy = 1};
    mg_parallel_flop(backward_head, &job, B * H, 36.0 * (double)(B * T * H) * (double)(N * N));
}
