/* SPDX-License-Identifier: MIT
 * A scan, token after token: with a state of 64 by 64 it takes as many operations as the form in chunks, and the state
 * stays in the first-level cache.
 *
 * The backward keeps no states.  Going forward once more it finds dC, for which the state is enough; going back, dB and
 * dx, for which the gradient of the state is.  The decay's gradient is the state times its gradient, summed; let X_t be
 * that sum behind token t.  Seen from before, X_t = dlog_t + B_t dB_t; seen from behind, X_t = dlog_(t+1) + C_t dC_t.  So
 *   dlog_t = dlog_(t+1) + C_t dC_t - B_t dB_t,
 * where a state is cut off dlog is 0.  The sum runs in double. */
#include "kernels.h"
#include "recurrence.h"

#include <math.h>

#define HEADS_PER_TASK 2

struct job {
    float *y, *after, *scratch;
    const float *xbc, *dt, *dt_bias, *A_log, *D, *before;
    const int32_t *starts;
    /* of the backward */
    float *dxbc, *ddt, *ddt_bias, *dA_log, *dD, *dbc;
    const float *dy;
    int64_t B, T, H, P, N, P_pad, N_pad, blocks;
};

/* What a worker has of a head. */
struct head {
    float *S, *steps, *decays, *products, *u, *dy, *du, *d_key, *partials;
    int64_t b, h;
    const float *x, *key, *query; /* of token 0; the next is `width` floats on */
    int64_t width;
    float A;
};

static int64_t worker_scratch(int64_t T, int64_t P, int64_t N)
{
    const int64_t P_pad = mg_padded(P, MG_LANES), N_pad = mg_padded(N, MG_LANES);
    return N_pad * P_pad + 3 * mg_padded(T, MG_LANES) + 3 * P_pad + N_pad + N_pad * MG_LANES;
}

static int64_t task_blocks(int64_t H) { return mg_blocks(H, HEADS_PER_TASK); }

int64_t mg_ssd_scratch(int64_t B, int64_t T, int64_t H, int64_t P, int64_t N)
{
    return mg_threads() * worker_scratch(T, P, N) + B * H * 3 + B * task_blocks(H) * T * 2 * N;
}

static float softplus(float x) { return x > 20.0f ? x : log1pf(expf(x)); }

static struct head head_of(const struct job *job, int64_t b, int64_t h, int64_t worker)
{
    const int64_t T_pad = mg_padded(job->T, MG_LANES), DI = job->H * job->P;
    struct head head = {.b = b, .h = h, .width = DI + 2 * job->N, .A = -expf(job->A_log[h])};
    float *at = job->scratch + worker * worker_scratch(job->T, job->P, job->N);
    head.S = at;
    head.steps = head.S + job->N_pad * job->P_pad;
    head.decays = head.steps + T_pad;
    head.products = head.decays + T_pad;
    head.u = head.products + T_pad;
    head.dy = head.u + job->P_pad;
    head.du = head.dy + job->P_pad;
    head.d_key = head.du + job->P_pad;
    head.partials = head.d_key + job->N_pad;
    const float *row = job->xbc + b * job->T * head.width;
    head.x = row + h * job->P;
    head.key = row + DI;
    head.query = head.key + job->N;
    for (int64_t t = 0; t < job->T; t++) {
        head.steps[t] = softplus(job->dt[(b * job->T + t) * job->H + h] + job->dt_bias[h]);
        head.decays[t] = expf(head.steps[t] * head.A);
    }
    memset(head.S, 0, (size_t)(job->N_pad * job->P_pad) * sizeof(float));
    memset(head.partials, 0, (size_t)(job->N_pad * MG_LANES) * sizeof(float));
    return head;
}

static void begin_state(const struct job *job, const struct head *head)
{
    const int64_t size = job->N * job->P, at = (head->b * job->H + head->h) * size;
    mg_pad_matrix(head->S, job->before ? job->before + at : NULL, job->N, job->P);
}

static int is_cut(const struct job *job, const struct head *head, int64_t t)
{
    return mg_begins(job->starts ? job->starts + head->b * job->T : NULL, t);
}

static void clear_state(const struct job *job, const struct head *head)
{
    memset(head->S, 0, (size_t)(job->N * job->P_pad) * sizeof(float));
}

/* u = step * x of token t. */
static void step_input(const struct job *job, const struct head *head, int64_t t)
{
    const float *x = head->x + t * head->width;
    for (int64_t p = 0; p < job->P; p += MG_LANES)
        mg_store(head->u + p, mg_load_n(x + p, job->P - p) * head->steps[t]);
}

/* S = decay S + key u^T;  y = S^T query, of some vectors. */
MG_INLINE void forward_strip(const struct job *job, const struct head *head, float *y, int64_t t, int64_t begin,
    const int vectors)
{
    const float *key = head->key + t * head->width, *query = head->query + t * head->width;
    const float decay = head->decays[t];
    vf u[4], sum[4];
    for (int v = 0; v < vectors; v++) u[v] = mg_load(head->u + begin + v * MG_LANES), sum[v] = (vf){0};
    for (int64_t n = 0; n < job->N; n++) {
        float *S = head->S + n * job->P_pad + begin;
        for (int v = 0; v < vectors; v++) {
            vf s = mg_load(S + v * MG_LANES) * decay + u[v] * key[n];
            mg_store(S + v * MG_LANES, s);
            sum[v] += s * query[n];
        }
    }
    for (int v = 0; v < vectors; v++) mg_store(y + begin + v * MG_LANES, sum[v]);
}

static void forward_head(const struct job *job, int64_t b, int64_t h, int64_t worker)
{
    const struct head head = head_of(job, b, h, worker);
    const int64_t P = job->P, DI = job->H * P;
    begin_state(job, &head);
    for (int64_t t = 0; t < job->T; t++) {
        const float *x = head.x + t * head.width;
        float *y = job->y + (b * job->T + t) * DI + h * P, *sum = head.du;
        if (is_cut(job, &head, t)) clear_state(job, &head);
        step_input(job, &head, t);
        MG_STRIPS(job->P_pad, begin, forward_strip(job, &head, sum, t, begin, 4),
            forward_strip(job, &head, sum, t, begin, 2), forward_strip(job, &head, sum, t, begin, 1));
        for (int64_t p = 0; p < P; p += MG_LANES)
            mg_store_n(y + p, mg_load(sum + p) + mg_load_n(x + p, P - p) * job->D[h], P - p);
    }
    mg_unpad_matrix(job->after + (b * job->H + h) * job->N * P, head.S, job->N, P);
}

/* S = decay S + key u^T;  partials[n] += S[n] dy, of some vectors. */
MG_INLINE void again_strip(const struct job *job, const struct head *head, int64_t t, int64_t begin, const int vectors)
{
    const float *key = head->key + t * head->width;
    const float decay = head->decays[t];
    vf u[4], dy[4];
    for (int v = 0; v < vectors; v++) {
        u[v] = mg_load(head->u + begin + v * MG_LANES);
        dy[v] = mg_load(head->dy + begin + v * MG_LANES);
    }
    for (int64_t n = 0; n < job->N; n++) {
        float *S = head->S + n * job->P_pad + begin, *partial = head->partials + n * MG_LANES;
        vf sum = begin ? mg_load(partial) : (vf){0};
        for (int v = 0; v < vectors; v++) {
            vf s = mg_load(S + v * MG_LANES) * decay + u[v] * key[n];
            mg_store(S + v * MG_LANES, s);
            sum += s * dy[v];
        }
        mg_store(partial, sum);
    }
}

/* S is the gradient of the state:  S += query dy^T;  partials[n] += S[n] u;  du = S^T key;  S *= decay. */
MG_INLINE void backward_strip(const struct job *job, const struct head *head, int64_t t, int64_t begin,
    const int vectors)
{
    const float *key = head->key + t * head->width, *query = head->query + t * head->width;
    const float decay = head->decays[t];
    vf u[2], dy[2], du[2];
    for (int v = 0; v < vectors; v++) {
        u[v] = mg_load(head->u + begin + v * MG_LANES);
        dy[v] = mg_load(head->dy + begin + v * MG_LANES);
        du[v] = (vf){0};
    }
    for (int64_t n = 0; n < job->N; n++) {
        float *S = head->S + n * job->P_pad + begin, *partial = head->partials + n * MG_LANES;
        vf sum = begin ? mg_load(partial) : (vf){0};
        for (int v = 0; v < vectors; v++) {
            vf s = mg_load(S + v * MG_LANES) + dy[v] * query[n];
            sum += s * u[v];
            du[v] += s * key[n];
            mg_store(S + v * MG_LANES, s * decay);
        }
        mg_store(partial, sum);
    }
    for (int v = 0; v < vectors; v++) mg_store(head->du + begin + v * MG_LANES, du[v]);
}

/* to (+)= the sums of the partials, whose product with `with` is returned. */
static float put_sums(const struct job *job, const struct head *head, float *to, const float *with, int add)
{
    const int64_t N = job->N;
    mg_lane_sums(head->d_key, head->partials, N);
    for (int64_t n = 0; n < N; n += MG_LANES) {
        vf old = add ? mg_load_n(to + n, N - n) : (vf){0};
        mg_store_n(to + n, old + mg_load(head->d_key + n), N - n);
    }
    return mg_dot(head->d_key, with, N);
}

static float *d_keys(const struct job *job, int64_t b, int64_t h, int64_t t)
{
    return job->dbc + ((b * job->blocks + h / HEADS_PER_TASK) * job->T + t) * 2 * job->N;
}

static void d_queries(const struct job *job, const struct head *head)
{
    const int64_t P = job->P, DI = job->H * P;
    begin_state(job, head);
    for (int64_t t = 0; t < job->T; t++) {
        if (is_cut(job, head, t)) clear_state(job, head);
        step_input(job, head, t);
        mg_pad_row(head->dy, job->dy + (head->b * job->T + t) * DI + head->h * P, P);
        MG_STRIPS(job->P_pad, begin, again_strip(job, head, t, begin, 4), again_strip(job, head, t, begin, 2),
            again_strip(job, head, t, begin, 1));
        float *to = d_keys(job, head->b, head->h, t) + job->N;
        head->products[t] = put_sums(job, head, to, head->query + t * head->width, head->h % HEADS_PER_TASK);
    }
}

/* dx of token t, from du; adds to the gradients of D and, without the decay's part, of the step, which is returned. */
static float put_dx(const struct job *job, const struct head *head, int64_t t, float *dD)
{
    const int64_t P = job->P;
    const float *x = head->x + t * head->width;
    float *dx = job->dxbc + (head->b * job->T + t) * head->width + head->h * P;
    vf along = {0}, direct = {0};
    for (int64_t p = 0; p < P; p += MG_LANES) {
        vf x_p = mg_load_n(x + p, P - p), du = mg_load(head->du + p), dy = mg_load(head->dy + p);
        along += x_p * du;
        direct += x_p * dy;
        mg_store_n(dx + p, du * head->steps[t] + dy * job->D[head->h], P - p);
    }
    *dD += mg_sum(direct);
    return mg_sum(along);
}

static void backward_head(const struct job *job, int64_t b, int64_t h, int64_t worker)
{
    const struct head head = head_of(job, b, h, worker);
    const int64_t P = job->P, DI = job->H * P, at = b * job->H + h;
    float dA = 0.0f, dD = 0.0f, d_bias = 0.0f;
    double d_log = 0.0;
    d_queries(job, &head);
    clear_state(job, &head);
    for (int64_t t = job->T - 1; t >= 0; t--) {
        const int64_t row = (b * job->T + t) * job->H + h;
        step_input(job, &head, t);
        mg_pad_row(head.dy, job->dy + (b * job->T + t) * DI + h * P, P);
        int64_t begin = 0;
        for (; begin + 2 * MG_LANES <= job->P_pad; begin += 2 * MG_LANES) backward_strip(job, &head, t, begin, 2);
        for (; begin < job->P_pad; begin += MG_LANES) backward_strip(job, &head, t, begin, 1);
        float written = put_sums(job, &head, d_keys(job, b, h, t), head.key + t * head.width, h % HEADS_PER_TASK);
        d_log += (double)head.products[t] - (double)written;
        if (is_cut(job, &head, t)) {
            clear_state(job, &head);
            d_log = 0.0;
        }
        dA += head.steps[t] * (float)d_log;
        const float d_step = put_dx(job, &head, t, &dD) + head.A * (float)d_log;
        const float d_in = d_step / (1.0f + expf(-(job->dt[row] + job->dt_bias[h])));
        job->ddt[row] = d_in;
        d_bias += d_in;
    }
    job->dA_log[at] = dA * head.A;
    job->dD[at] = dD;
    job->ddt_bias[at] = d_bias;
}

static void each_head(const struct job *job, int64_t index, int64_t worker,
    void (*of_head)(const struct job *, int64_t, int64_t, int64_t))
{
    const int64_t b = index / job->blocks, block = index % job->blocks;
    for (int64_t h = block * HEADS_PER_TASK; h < mg_block_end(job->H, HEADS_PER_TASK, block); h++)
        of_head(job, b, h, worker);
}

static void forward_task(void *job, int64_t index, int64_t worker) { each_head(job, index, worker, forward_head); }
static void backward_task(void *job, int64_t index, int64_t worker) { each_head(job, index, worker, backward_head); }

/* The gradients of B and C of a row's tokens are those of its blocks of heads, added in order. */
static void sum_blocks(void *argument, int64_t b, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    const int64_t both = 2 * job->N, DI = job->H * job->P;
    for (int64_t t = 0; t < job->T; t++) {
        float *to = job->dxbc + (b * job->T + t) * (DI + both) + DI;
        for (int64_t n = 0; n < both; n += MG_LANES) {
            vf sum = {0};
            for (int64_t block = 0; block < job->blocks; block++)
                sum += mg_load_n(job->dbc + ((b * job->blocks + block) * job->T + t) * both + n, both - n);
            mg_store_n(to + n, sum, both - n);
        }
    }
}

static double work(const struct job *job) { return 5.0 * (double)(job->B * job->T * job->H) * (double)(job->P * job->N); }

void mg_ssd_forward(float *y, float *after, float *scratch, const float *xbc, const float *dt, const float *dt_bias,
    const float *A_log, const float *D, const int32_t *starts, const float *before, int64_t B, int64_t T, int64_t H,
    int64_t P, int64_t N)
{
    struct job job = {.y = y, .after = after, .scratch = scratch, .xbc = xbc, .dt = dt, .dt_bias = dt_bias,
        .A_log = A_log, .D = D, .before = before, .starts = starts, .B = B, .T = T, .H = H, .P = P, .N = N,
        .P_pad = mg_padded(P, MG_LANES), .N_pad = mg_padded(N, MG_LANES), .blocks = task_blocks(H)};
    mg_parallel_flop(forward_task, &job, B * job.blocks, work(&job));
}

void mg_ssd_backward(float *dxbc, float *ddt, float *ddt_bias, float *dA_log, float *dD, float *scratch,
    const float *dy, const float *xbc, const float *dt, const float *dt_bias, const float *A_log, const float *D,
    const int32_t *starts, const float *before, int64_t B, int64_t T, int64_t H, int64_t P, int64_t N)
{
    float *sums = scratch + mg_threads() * worker_scratch(T, P, N);
    struct job job = {.scratch = scratch, .xbc = xbc, .dt = dt, .dt_bias = dt_bias, .A_log = A_log, .D = D,
        .before = before, .starts = starts, .dxbc = dxbc, .ddt = ddt, .ddt_bias = sums, .dA_log = sums + B * H,
        .dD = sums + 2 * B * H, .dbc = sums + 3 * B * H, .dy = dy, .B = B, .T = T, .H = H, .P = P, .N = N,
        .P_pad = mg_padded(P, MG_LANES), .N_pad = mg_padded(N, MG_LANES), .blocks = task_blocks(H)};
    mg_parallel_flop(backward_task, &job, B * job.blocks, 3.0 * work(&job));
    mg_parallel_flop(sum_blocks, &job, B, (double)(B * T * job.blocks * 2 * N));
    mg_add_partials(ddt_bias, job.ddt_bias, B, H, H);
    mg_add_partials(dA_log, job.dA_log, B, H, H);
    mg_add_partials(dD, job.dD, B, H, H);
}
