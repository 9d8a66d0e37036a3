/* SPDX-License-Identifier: MIT */
#include "kernels.h"
#include "recurrence.h"

#include <math.h>

struct job {
    float *y, *dx, *dgate, *dr, *dk, *dv, *partials;
    const float *dy, *x, *gate, *weight, *bias, *r, *k, *v, *r_k;
    int64_t N, H, hs, rows;
    float eps;
};

/* The mean of a head, and one divided by its standard deviation. */
static void moments(const float *x, int64_t hs, float eps, float *mean, float *rstd)
{
    vf sum = {0}, squares = {0};
    for (int64_t i = 0; i < hs; i += MG_LANES) sum += mg_load_n(x + i, hs - i);
    *mean = mg_sum(sum) / (float)hs;
    for (int64_t i = 0; i < hs; i += MG_LANES) {
        vf away = mg_first(mg_load_n(x + i, hs - i) - *mean, hs - i, 0.0f);
        squares += away * away;
    }
    *rstd = 1.0f / sqrtf(mg_sum(squares) / (float)hs + eps);
}

/* The bonus of a head: sum over its channels of r k r_k; 0 where there is none. */
static float bonus(const struct job *job, int64_t at, int64_t h)
{
    const int64_t hs = job->hs;
    if (!job->r_k) return 0.0f;
    vf sum = {0};
    for (int64_t i = 0; i < hs; i += MG_LANES)
        sum += mg_load_n(job->r + at + i, hs - i) * mg_load_n(job->k + at + i, hs - i)
            * mg_load_n(job->r_k + h * hs + i, hs - i);
    return mg_sum(sum);
}

static void forward_head(const struct job *job, int64_t n, int64_t h)
{
    const int64_t hs = job->hs, at = (n * job->H + h) * hs;
    const float *weight = job->weight + h * hs, *bias = job->bias + h * hs;
    const float more = bonus(job, at, h);
    float mean, rstd;
    moments(job->x + at, hs, job->eps, &mean, &rstd);
    for (int64_t i = 0; i < hs; i += MG_LANES) {
        const int64_t m = hs - i;
        vf sum = (mg_load_n(job->x + at + i, m) - mean) * rstd * mg_load_n(weight + i, m) + mg_load_n(bias + i, m);
        if (job->r_k) sum += mg_load_n(job->v + at + i, m) * more;
        mg_store_n(job->y + at + i, sum * mg_load_n(job->gate + at + i, m), m);
    }
}

static void forward_rows(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    for (int64_t n = index * job->rows; n < mg_block_end(job->N, job->rows, index); n++)
        for (int64_t h = 0; h < job->H; h++) forward_head(job, n, h);
}

void mg_rwkv_output_forward(float *y, const float *x, const float *gate, const float *weight, const float *bias,
    const float *r, const float *k, const float *v, const float *r_k, int64_t N, int64_t H, int64_t hs, float eps)
{
    struct job job = {.y = y, .x = x, .gate = gate, .weight = weight, .bias = bias, .r = r, .k = k, .v = v, .r_k = r_k,
        .N = N, .H = H, .hs = hs, .rows = mg_rows_per_task(2 * H * hs), .eps = eps};
    mg_parallel(forward_rows, &job, mg_blocks(N, job.rows));
}

static inline void add_to(float *to, vf what, int64_t m) { mg_store_n(to, mg_load_n(to, m) + what, m); }

/* dr, dk, dv of a head's bonus, from the gradient of the sum. */
static void backward_bonus(const struct job *job, float *dr_k, const float *dsum, int64_t at, int64_t h, float more)
{
    const int64_t hs = job->hs;
    const float d_more = mg_dot(dsum, job->v + at, hs);
    for (int64_t i = 0; i < hs; i += MG_LANES) {
        const int64_t m = hs - i;
        vf r = mg_load_n(job->r + at + i, m), k = mg_load_n(job->k + at + i, m);
        vf r_k = mg_load_n(job->r_k + h * hs + i, m) * d_more;
        mg_store_n(job->dr + at + i, k * r_k, m);
        mg_store_n(job->dk + at + i, r * r_k, m);
        mg_store_n(job->dv + at + i, mg_load_n(dsum + i, m) * more, m);
        add_to(dr_k + i, r * k * d_more, m);
    }
}

static void backward_head(const struct job *job, float *partial, int64_t n, int64_t h)
{
    const int64_t hs = job->hs, C = job->H * hs, at = (n * job->H + h) * hs;
    float *dweight = partial + h * hs, *dbias = dweight + C, *dr_k = dbias + C;
    float *dx = job->dx + at; /* holds the gradient of the sum until dx is known */
    const float *weight = job->weight + h * hs, *bias = job->bias + h * hs;
    const float more = bonus(job, at, h);
    float mean, rstd;
    moments(job->x + at, hs, job->eps, &mean, &rstd);
    vf plain = {0}, along = {0};
    for (int64_t i = 0; i < hs; i += MG_LANES) {
        const int64_t m = hs - i;
        vf xhat = (mg_load_n(job->x + at + i, m) - mean) * rstd, gain = mg_load_n(weight + i, m);
        vf sum = xhat * gain + mg_load_n(bias + i, m), dy = mg_load_n(job->dy + at + i, m);
        if (job->r_k) sum += mg_load_n(job->v + at + i, m) * more;
        vf dsum = dy * mg_load_n(job->gate + at + i, m);
        mg_store_n(job->dgate + at + i, dy * sum, m);
        add_to(dweight + i, dsum * xhat, m);
        add_to(dbias + i, dsum, m);
        plain += dsum * gain;
        along += dsum * gain * xhat;
        mg_store_n(dx + i, dsum, m);
    }
    if (job->r_k) backward_bonus(job, dr_k, dx, at, h, more);
    const float mean_plain = mg_sum(plain) / (float)hs, mean_along = mg_sum(along) / (float)hs;
    for (int64_t i = 0; i < hs; i += MG_LANES) {
        const int64_t m = hs - i;
        vf xhat = (mg_load_n(job->x + at + i, m) - mean) * rstd;
        mg_store_n(dx + i, (mg_load_n(dx + i, m) * mg_load_n(weight + i, m) - mean_plain - xhat * mean_along) * rstd, m);
    }
}

static void backward_rows(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    const int64_t size = 3 * job->H * job->hs;
    float *partial = job->partials + index * size;
    memset(partial, 0, (size_t)size * sizeof *partial);
    for (int64_t n = index * job->rows; n < mg_block_end(job->N, job->rows, index); n++)
        for (int64_t h = 0; h < job->H; h++) backward_head(job, partial, n, h);
}

void mg_rwkv_output_backward(float *dx, float *dgate, float *dr, float *dk, float *dv, float *dweight, float *dbias,
    float *dr_k, float *scratch, const float *dy, const float *x, const float *gate, const float *weight,
    const float *bias, const float *r, const float *k, const float *v, const float *r_k, int64_t N, int64_t H, int64_t hs,
    float eps)
{
    const int64_t C = H * hs;
    struct job job = {.dx = dx, .dgate = dgate, .dr = dr, .dk = dk, .dv = dv, .partials = scratch, .dy = dy, .x = x,
        .gate = gate, .weight = weight, .bias = bias, .r = r, .k = k, .v = v, .r_k = r_k, .N = N, .H = H, .hs = hs,
        .rows = mg_blocks(N, MG_PARTIALS), .eps = eps};
    if (N == 0) return;
    const int64_t blocks = mg_blocks(N, job.rows);
    mg_parallel(backward_rows, &job, blocks);
    mg_add_partials(dweight, scratch, blocks, 3 * C, C);
    mg_add_partials(dbias, scratch + C, blocks, 3 * C, C);
    if (r_k) mg_add_partials(dr_k, scratch + 2 * C, blocks, 3 * C, C);
}
