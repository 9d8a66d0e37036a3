/* SPDX-License-Identifier: MIT */
#include "kernels.h"
#include "pool.h"
#include "simd.h"

struct job {
    float *qkv;
    const float *cos, *sin;
    int64_t rows, N, T, H, hs, start;
    float direction;
};

/* (a, b) -> (a cos - b sin, b cos + a sin), a and b being the halves of a head. */
static void rotate(float *head, const float *cos_t, const float *sin_t, int64_t half, float direction)
{
    for (int64_t i = 0; i < half; i += MG_LANES) {
        int64_t m = half - i;
        vf c = mg_load_n(cos_t + i, m), s = mg_load_n(sin_t + i, m) * direction;
        vf a = mg_load_n(head + i, m), b = mg_load_n(head + half + i, m);
        mg_store_n(head + i, a * c - b * s, m);
        mg_store_n(head + half + i, b * c + a * s, m);
    }
}

static void rotate_rows(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    const int64_t half = job->hs / 2, C = job->H * job->hs;
    for (int64_t n = index * job->rows; n < mg_block_end(job->N, job->rows, index); n++) {
        const float *cos_t = job->cos + (job->start + n % job->T) * half;
        const float *sin_t = job->sin + (job->start + n % job->T) * half;
        float *qkv_n = job->qkv + n * 3 * C;
        for (int64_t h = 0; h < 2 * job->H; h++) /* queries, then keys */
            rotate(qkv_n + h * job->hs, cos_t, sin_t, half, job->direction);
    }
}

void mg_rope(float *qkv, const float *cos, const float *sin, int64_t B, int64_t T, int64_t H, int64_t hs,
    int64_t start, float direction)
{
    struct job job = {qkv, cos, sin, mg_rows_per_task(2 * H * hs), B * T, T, H, hs, start, direction};
    mg_parallel(rotate_rows, &job, mg_blocks(job.N, job.rows));
}
