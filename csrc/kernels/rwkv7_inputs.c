/* SPDX-License-Identifier: MIT */
#include "kernels.h"
#include "recurrence.h"

#include <math.h>

#define RATE 0.60653066f /* exp(-1/2): the fastest decay of a channel is exp(-RATE) */
#define LEAST_NORM 1e-12f

struct job {
    float *w, *k2, *kk, *b, *dk, *d_decay, *d_rate, *partials;
    const float *dw, *dk2, *dkk, *db, *k, *decay, *rate, *k_k, *k_a;
    int64_t N, H, hs, rows;
};

/* One divided by the length of k * k_k of a head. */
static float inverse_norm(const float *k, const float *k_k, int64_t hs)
{
    vf squares = {0};
    for (int64_t i = 0; i < hs; i += MG_LANES) {
        vf u = mg_load_n(k + i, hs - i) * mg_load_n(k_k + i, hs - i);
        squares += u * u;
    }
    const float norm = sqrtf(mg_sum(squares));
    return 1.0f / (norm > LEAST_NORM ? norm : LEAST_NORM);
}

static void forward_rows(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    const int64_t hs = job->hs;
    for (int64_t n = index * job->rows; n < mg_block_end(job->N, job->rows, index); n++)
        for (int64_t h = 0; h < job->H; h++) {
            const int64_t at = (n * job->H + h) * hs;
            const float *k_k = job->k_k + h * hs, *k_a = job->k_a + h * hs;
            const float inverse = inverse_norm(job->k + at, k_k, hs);
            for (int64_t i = 0; i < hs; i += MG_LANES) {
                const int64_t m = hs - i;
                vf k = mg_load_n(job->k + at + i, m), a = mg_sigmoid(mg_load_n(job->rate + at + i, m));
                vf kk = k * mg_load_n(k_k + i, m) * inverse;
                mg_store_n(job->w + at + i, mg_exp(-RATE * mg_sigmoid(mg_load_n(job->decay + at + i, m))), m);
                mg_store_n(job->k2 + at + i, k + k * (a - 1.0f) * mg_load_n(k_a + i, m), m);
                mg_store_n(job->kk + at + i, kk, m);
                mg_store_n(job->b + at + i, kk * a, m);
            }
        }
}

void mg_rwkv7_inputs_forward(float *w, float *k2, float *kk, float *b, const float *k, const float *decay,
    const float *rate, const float *k_k, const float *k_a, int64_t N, int64_t H, int64_t hs)
{
    struct job job = {.w = w, .k2 = k2, .kk = kk, .b = b, .k = k, .decay = decay, .rate = rate, .k_k = k_k, .k_a = k_a,
        .N = N, .H = H, .hs = hs, .rows = mg_rows_per_task(2 * H * hs)};
    mg_parallel(forward_rows, &job, mg_blocks(N, job.rows));
}

static void backward_head(const struct job *job, float *dk_k, float *dk_a, int64_t n, int64_t h)
{
    const int64_t hs = job->hs, at = (n * job->H + h) * hs;
    const float *k_k = job->k_k + h * hs, *k_a = job->k_a + h * hs;
    const float inverse = inverse_norm(job->k + at, k_k, hs);
    vf along = {0};
    for (int64_t i = 0; i < hs; i += MG_LANES) {
        const int64_t m = hs - i;
        vf k = mg_load_n(job->k + at + i, m), a = mg_sigmoid(mg_load_n(job->rate + at + i, m));
        vf kk = k * mg_load_n(k_k + i, m) * inverse, db = mg_load_n(job->db + at + i, m);
        along += kk * (mg_load_n(job->dkk + at + i, m) + db * a);
    }
    const float turned = inverse < 1.0f / LEAST_NORM ? mg_sum(along) : 0.0f; /* a length that is cut has no slope */
    for (int64_t i = 0; i < hs; i += MG_LANES) {
        const int64_t m = hs - i;
        vf k = mg_load_n(job->k + at + i, m), a = mg_sigmoid(mg_load_n(job->rate + at + i, m));
        vf wish = mg_load_n(k_k + i, m), part = mg_load_n(k_a + i, m);
        vf kk = k * wish * inverse, db = mg_load_n(job->db + at + i, m), dk2 = mg_load_n(job->dk2 + at + i, m);
        vf du = (mg_load_n(job->dkk + at + i, m) + db * a - kk * turned) * inverse;
        vf s = mg_sigmoid(mg_load_n(job->decay + at + i, m));
        vf dw = mg_load_n(job->dw + at + i, m);
        mg_store_n(job->dk + at + i, du * wish + dk2 + dk2 * (a - 1.0f) * part, m);
        mg_store_n(job->d_decay + at + i, dw * mg_exp(-RATE * s) * (-RATE * s * (1.0f - s)), m);
        mg_store_n(job->d_rate + at + i, (db * kk + dk2 * k * part) * a * (1.0f - a), m);
        mg_store_n(dk_k + h * hs + i, mg_load_n(dk_k + h * hs + i, m) + du * k, m);
        mg_store_n(dk_a + h * hs + i, mg_load_n(dk_a + h * hs + i, m) + dk2 * k * (a - 1.0f), m);
    }
}

static void backward_rows(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    const int64_t C = job->H * job->hs;
    float *partial = job->partials + index * 2 * C;
    memset(partial, 0, (size_t)(2 * C) * sizeof *partial);
    for (int64_t n = index * job->rows; n < mg_block_end(job->N, job->rows, index); n++)
        for (int64_t h = 0; h < job->H; h++) backward_head(job, partial, partial + C, n, h);
}

void mg_rwkv7_inputs_backward(float *dk, float *d_decay, float *d_rate, float *dk_k, float *dk_a, float *scratch,
    const float *dw, const float *dk2, const float *dkk, const float *db, const float *k, const float *decay,
    const float *rate, const float *k_k, const float *k_a, int64_t N, int64_t H, int64_t hs)
{
    const int64_t C = H * hs;
    struct job job = {.dk = dk, .d_decay = d_decay, .d_rate = d_rate, .partials = scratch, .dw = dw, .dk2 = dk2,
        .dkk = dkk, .db = db, .k = k, .decay = decay, .rate = rate, .k_k = k_k, .k_a = k_a, .N = N, .H = H, .hs = hs,
        .rows = mg_blocks(N, MG_PARTIALS)};
    if (N == 0) return;
    const int64_t blocks = mg_blocks(N, job.rows);
    mg_parallel(backward_rows, &job, blocks);
    mg_add_partials(dk_k, scratch, blocks, 2 * C, C);
    mg_add_partials(dk_a, scratch + C, blocks, 2 * C, C);
}
