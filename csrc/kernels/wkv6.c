/* SPDX-License-Identifier: MIT
 * As ssd.c: a scan forward, and a backward that keeps no states.  The decay's gradient of channel i of the key is
 *   dlog_t = dlog_(t+1) + r_(t+1) dr_(t+1) - k_t dk_t,
 * dr and dk being what comes through the state alone, for y_t reads the state before token t. */
#include "kernels.h"
#include "recurrence.h"

enum { R, K, V, DECAY, DY, ROWS };

struct job {
    float *y, *after, *scratch, *dr, *dk, *dv, *d_decay, *du;
    const float *rows[ROWS], *u, *before;
    const int32_t *starts;
    int64_t T, H, N, pad;
};

struct head {
    float *S, *token, *w, *rate, *sums, *partials, *read, *d_log, *u, *du;
    int64_t b, h;
};

static int64_t worker_scratch(int64_t T, int64_t pad)
{
    return pad * pad + (ROWS + 6) * pad + pad * MG_LANES + T * pad;
}

int64_t mg_wkv6_scratch(int64_t B, int64_t T, int64_t H, int64_t N)
{
    return mg_threads() * worker_scratch(T, mg_padded(N, MG_LANES)) + B * H * N;
}

static struct head head_of(const struct job *job, int64_t index, int64_t worker)
{
    const int64_t pad = job->pad;
    struct head head = {.b = index / job->H, .h = index % job->H};
    head.S = job->scratch + worker * worker_scratch(job->T, pad);
    head.token = head.S + pad * pad;
    head.w = head.token + ROWS * pad;
    head.rate = head.w + pad;
    head.sums = head.rate + pad;
    head.d_log = head.sums + pad;
    head.u = head.d_log + pad;
    head.du = head.u + pad;
    head.partials = head.du + pad;
    head.read = head.partials + pad * MG_LANES; /* r dr of every token */
    memset(head.S, 0, (size_t)(pad * pad) * sizeof(float));
    memset(head.partials, 0, (size_t)(pad * MG_LANES) * sizeof(float));
    memset(head.d_log, 0, (size_t)pad * sizeof(float));
    memset(head.du, 0, (size_t)pad * sizeof(float));
    mg_pad_row(head.u, job->u + head.h * job->N, job->N);
    return head;
}

static void begin_state(const struct job *job, const struct head *head)
{
    const int64_t N = job->N, at = (head->b * job->H + head->h) * N * N;
    mg_pad_matrix(head->S, job->before ? job->before + at : NULL, N, N);
}

static int is_cut(const struct job *job, const struct head *head, int64_t t)
{
    return mg_begins(job->starts ? job->starts + head->b * job->T : NULL, t);
}

static void clear(const struct job *job, float *S) { memset(S, 0, (size_t)(job->pad * job->pad) * sizeof *S); }

static int64_t place(const struct job *job, const struct head *head, int64_t t)
{
    return ((head->b * job->T + t) * job->H + head->h) * job->N;
}

/* The rows of token t in whole vectors, and w = exp(-rate) with rate = exp(decay). */
static void fetch(const struct job *job, const struct head *head, int64_t t)
{
    const int64_t at = place(job, head, t), pad = job->pad;
    for (int i = 0; i < ROWS; i++)
        if (job->rows[i]) mg_pad_row(head->token + i * pad, job->rows[i] + at, job->N);
    for (int64_t i = 0; i < pad; i += MG_LANES) {
        vf rate = mg_exp(mg_load(head->token + DECAY * pad + i));
        mg_store(head->rate + i, rate);
        mg_store(head->w + i, mg_exp(-rate));
    }
}

/* sum of r u k over the head. */
static float bonus(const struct head *head, int64_t pad)
{
    vf sum = {0};
    for (int64_t i = 0; i < pad; i += MG_LANES)
        sum += mg_load(head->token + R * pad + i) * mg_load(head->u + i) * mg_load(head->token + K * pad + i);
    return mg_sum(sum);
}

/* out = S^T r, or the partials of S dy; then S = w S + k v^T; of some vectors. */
MG_INLINE void forward_strip(const struct head *head, float *out, int64_t N, int64_t pad, int64_t begin,
    const int vectors, const int is_again)
{
    const float *r = head->token + R * pad, *k = head->token + K * pad;
    vf value[4], sum[4];
    for (int v = 0; v < vectors; v++) {
        value[v] = mg_load(head->token + V * pad + begin + v * MG_LANES);
        sum[v] = is_again ? mg_load(head->token + DY * pad + begin + v * MG_LANES) : (vf){0};
    }
    for (int64_t i = 0; i < N; i++) {
        vf along = is_again && begin ? mg_load(out + i * MG_LANES) : (vf){0};
        for (int v = 0; v < vectors; v++) {
            float *S = head->S + i * pad + begin + v * MG_LANES;
            vf s = mg_load(S);
            if (is_again) along += s * sum[v];
            else sum[v] += s * r[i];
            mg_store(S, s * head->w[i] + value[v] * k[i]);
        }
        if (is_again) mg_store(out + i * MG_LANES, along);
    }
    if (!is_again)
        for (int v = 0; v < vectors; v++) mg_store(out + begin + v * MG_LANES, sum[v]);
}

static void forward_head(void *argument, int64_t index, int64_t worker)
{
    const struct job *job = argument;
    const struct head head = head_of(job, index, worker);
    const int64_t N = job->N, pad = job->pad;
    begin_state(job, &head);
    for (int64_t t = 0; t < job->T; t++) {
        if (is_cut(job, &head, t)) clear(job, head.S);
        fetch(job, &head, t);
        const float more = bonus(&head, pad);
        MG_STRIPS(pad, begin, forward_strip(&head, head.sums, N, pad, begin, 4, 0),
            forward_strip(&head, head.sums, N, pad, begin, 2, 0), forward_strip(&head, head.sums, N, pad, begin, 1, 0));
        float *y = job->y + place(job, &head, t);
        for (int64_t i = 0; i < N; i += MG_LANES)
            mg_store_n(y + i, mg_load(head.sums + i) + mg_load(head.token + V * pad + i) * more, N - i);
    }
    mg_unpad_matrix(job->after + index * N * N, head.S, N, N);
}

/* dr = S dy and, for the bonus, u k (v dy); du += r k (v dy). */
static void reads(const struct job *job, const struct head *head)
{
    const int64_t N = job->N, pad = job->pad;
    begin_state(job, head);
    for (int64_t t = 0; t < job->T; t++) {
        if (is_cut(job, head, t)) clear(job, head->S);
        fetch(job, head, t);
        MG_STRIPS(pad, begin, forward_strip(head, head->partials, N, pad, begin, 4, 1),
            forward_strip(head, head->partials, N, pad, begin, 2, 1),
            forward_strip(head, head->partials, N, pad, begin, 1, 1));
        mg_lane_sums(head->sums, head->partials, N);
        const float d_more = mg_dot(head->token + V * pad, head->token + DY * pad, N);
        float *dr = job->dr + place(job, head, t);
        for (int64_t i = 0; i < N; i += MG_LANES) {
            vf r = mg_load(head->token + R * pad + i), k = mg_load(head->token + K * pad + i);
            vf sum = mg_load(head->sums + i);
            mg_store(head->read + t * pad + i, r * sum);
            mg_store_n(dr + i, sum + mg_load(head->u + i) * k * d_more, N - i);
            mg_store(head->du + i, mg_load(head->du + i) + r * k * d_more);
        }
    }
}

/* S is the gradient of the state behind the token:  partials of dk = S v;  dv = S^T k;  S = w S + r dy^T. */
MG_INLINE void backward_strip(const struct head *head, float *dv, int64_t N, int64_t pad, int64_t begin,
    const int vectors)
{
    const float *r = head->token + R * pad, *k = head->token + K * pad;
    vf value[2], dy[2], sum[2];
    for (int v = 0; v < vectors; v++) {
        value[v] = mg_load(head->token + V * pad + begin + v * MG_LANES);
        dy[v] = mg_load(head->token + DY * pad + begin + v * MG_LANES);
        sum[v] = (vf){0};
    }
    for (int64_t i = 0; i < N; i++) {
        vf along = begin ? mg_load(head->partials + i * MG_LANES) : (vf){0};
        for (int v = 0; v < vectors; v++) {
            float *S = head->S + i * pad + begin + v * MG_LANES;
            vf s = mg_load(S);
            along += s * value[v];
            sum[v] += s * k[i];
            mg_store(S, s * head->w[i] + dy[v] * r[i]);
        }
        mg_store(head->partials + i * MG_LANES, along);
    }
    for (int v = 0; v < vectors; v++) mg_store(dv + begin + v * MG_LANES, sum[v]);
}

static void writes(const struct job *job, const struct head *head)
{
    const int64_t N = job->N, pad = job->pad;
    clear(job, head->S);
    for (int64_t t = job->T - 1; t >= 0; t--) {
        const int64_t at = place(job, head, t);
        fetch(job, head, t);
        const float more = bonus(head, pad), d_more = mg_dot(head->token + V * pad, head->token + DY * pad, N);
        const float *r = head->token + R * pad;
        float *out = head->sums;
        int64_t begin = 0;
        for (; begin + 2 * MG_LANES <= pad; begin += 2 * MG_LANES) backward_strip(head, out, N, pad, begin, 2);
        for (; begin < pad; begin += MG_LANES) backward_strip(head, out, N, pad, begin, 1);
        for (int64_t i = 0; i < N; i += MG_LANES)
            mg_store_n(job->dv + at + i, mg_load(out + i) + mg_load(head->token + DY * pad + i) * more, N - i);
        mg_lane_sums(out, head->partials, N);
        for (int64_t i = 0; i < N; i += MG_LANES) {
            vf k = mg_load(head->token + K * pad + i), dk = mg_load(out + i);
            vf d_log = mg_load(head->d_log + i) - k * dk;
            if (is_cut(job, head, t)) d_log = (vf){0};
            mg_store_n(job->dk + at + i, dk + mg_load(r + i) * mg_load(head->u + i) * d_more, N - i);
            mg_store_n(job->d_decay + at + i, -d_log * mg_load(head->rate + i), N - i);
            mg_store(head->d_log + i, is_cut(job, head, t) ? d_log : d_log + mg_load(head->read + t * pad + i));
        }
        if (is_cut(job, head, t)) clear(job, head->S);
    }
}

static void backward_head(void *argument, int64_t index, int64_t worker)
{
    const struct job *job = argument;
    const struct head head = head_of(job, index, worker);
    reads(job, &head);
    writes(job, &head);
    memcpy(job->du + index * job->N, head.du, (size_t)job->N * sizeof(float));
}

void mg_wkv6_forward(float *y, float *after, float *scratch, const float *r, const float *k, const float *v,
    const float *decay, const float *u, const int32_t *starts, const float *before, int64_t B, int64_t T, int64_t H,
    int64_t N)
{
    struct job job = {.y = y, .after = after, .scratch = scratch, .rows = {r, k, v, decay}, .u = u, .before = before,
        .starts = starts, .T = T, .H = H, .N = N, .pad = mg_padded(N, MG_LANES)};
    mg_parallel_flop(forward_head, &job, B * H, 5.0 * (double)(B * T * H) * (double)(N * N));
}

void mg_wkv6_backward(float *dr, float *dk, float *dv, float *d_decay, float *du, float *scratch, const float *dy,
    const float *r, const float *k, const float *v, const float *decay, const float *u, const int32_t *starts,
    const float *before, int64_t B, int64_t T, int64_t H, int64_t N)
{
    const int64_t pad = mg_padded(N, MG_LANES);
    struct job job = {.scratch = scratch, .dr = dr, .dk = dk, .dv = dv, .d_decay = d_decay,
        .du = scratch + mg_threads() * worker_scratch(T, pad), .rows = {r, k, v, decay, dy}, .u = u, .before = before,
        .starts = starts, .T = T, .H = H, .N = N, .pad = pad};
    mg_parallel_flop(backward_head, &job, B * H, 15.0 * (double)(B * T * H) * (double)(N * N));
    mg_add_partials(du, job.du, B, H * N, H * N);
}
