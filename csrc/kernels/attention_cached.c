/* SPDX-License-Identifier: MIT
 * Decoding: few query rows, so the work is reading keys and values once; plain dot products do it. */
#include "kernels.h"
#include "pool.h"
#include "simd.h"

#include <math.h>

struct job {
    float *y, *scratch;
    const float *qkv, *keys, *values;
    int64_t T, S, H, H_kv, hs, window, stride;
};

/* scores (n) become probabilities, not yet divided by their sum, which is returned. */
static float softmax_numerators(float *scores, int64_t n)
{
    const float most = mg_row_max(scores, n);
    float sum = 0.0f;
    for (int64_t s = 0; s < n; s += MG_LANES) mg_store_n(scores + s, mg_exp(mg_load_n(scores + s, n - s) - most), n - s);
    for (int64_t s = 0; s < n; s++) sum += scores[s];
    return sum;
}

static void attend(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    const int64_t h = index % job->H, t = index / job->H, hs = job->hs, C_kv = job->H_kv * hs;
    const int64_t at = h / (job->H / job->H_kv) * hs; /* of this head in a cached row */
    const int64_t end = job->S - job->T + t + 1, near = job->window && job->window < end ? end - job->window : 0;
    const int64_t far = job->stride ? mg_blocks(near, job->stride) : 0, n = far + end - near; /* visible keys */
    const float *q = job->qkv + (t * (job->H + 2 * job->H_kv) + h) * hs;
    float *scores = job->scratch + index * job->S, *y = job->y + (t * job->H + h) * hs;
    const float scale = 1.0f / sqrtf((float)hs);
    for (int64_t i = 0; i < n; i++) {
        const int64_t s = i < far ? i * job->stride : near + i - far;
        scores[i] = mg_dot(q, job->keys + s * C_kv + at, hs) * scale;
    }
    const float sum = softmax_numerators(scores, n);
    memset(y, 0, (size_t)hs * sizeof *y);
    for (int64_t i = 0; i < n; i++) {
        const int64_t s = i < far ? i * job->stride : near + i - far;
        const float *v = job->values + s * C_kv + at;
        const float weight = scores[i] / sum;
        for (int64_t j = 0; j < hs; j++) y[j] += weight * v[j];
    }
}

void mg_attention_cached(float *y, float *scratch, const float *qkv, const float *keys, const float *values,
    int64_t T, int64_t S, int64_t H, int64_t H_kv, int64_t hs, int64_t window, int64_t stride)
{
    struct job job = {y, scratch, qkv, keys, values, T, S, H, H_kv, hs, window, stride};
    const int64_t near = window && window < S ? window : S, seen = near + (stride ? (S - near) / stride : 0);
    mg_parallel_flop(attend, &job, T * H, 4.0 * (double)(T * H) * (double)(seen * hs));
}
