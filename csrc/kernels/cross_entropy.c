/* SPDX-License-Identifier: MIT */
#include "kernels.h"
#include "pool.h"
#include "simd.h"

#include <math.h>

struct job {
    float *loss, *lse, *dlogits;
    const float *logits, *known_lse;
    const int32_t *targets;
    int64_t N, V, rows;
    float scale;
};

/* The largest logit is subtracted first, so that no exp overflows. */
static float log_sum_exp(const float *x, int64_t V)
{
    const float most = mg_row_max(x, V);
    vf sum = {0};
    int64_t i = 0;
    for (; i + MG_LANES <= V; i += MG_LANES) sum += mg_exp(mg_load(x + i) - most);
    float total = mg_sum(sum);
    for (; i < V; i++) total += expf(x[i] - most);
    return most + logf(total);
}

static void forward_rows(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    for (int64_t n = index * job->rows; n < mg_block_end(job->N, job->rows, index); n++) {
        const float *logits_n = job->logits + n * job->V;
        job->lse[n] = log_sum_exp(logits_n, job->V);
        job->loss[n] = job->targets[n] < 0 ? 0.0f : job->lse[n] - logits_n[job->targets[n]];
    }
}

int64_t mg_cross_entropy_forward(float *loss, float *lse, const float *logits, const int32_t *targets,
    int64_t N, int64_t V)
{
    for (int64_t n = 0; n < N; n++)
        if (targets[n] < -1 || targets[n] >= V) return n;
    struct job job = {.loss = loss, .lse = lse, .logits = logits, .targets = targets, .N = N, .V = V,
        .rows = mg_rows_per_task(V)};
    mg_parallel(forward_rows, &job, mg_blocks(N, job.rows));
    return -1;
}

static void backward_rows(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    const int64_t V = job->V;
    for (int64_t n = index * job->rows; n < mg_block_end(job->N, job->rows, index); n++) {
        const float *logits_n = job->logits + n * V;
        float *dlogits_n = job->dlogits + n * V;
        if (job->targets[n] < 0) {
            memset(dlogits_n, 0, (size_t)V * sizeof *dlogits_n);
            continue;
        }
        for (int64_t i = 0; i < V; i += MG_LANES)
            mg_store_n(dlogits_n + i, mg_exp(mg_load_n(logits_n + i, V - i) - job->known_lse[n]) * job->scale, V - i);
        dlogits_n[job->targets[n]] -= job->scale;
    }
}

void mg_cross_entropy_backward(float *dlogits, const float *logits, const float *lse, const int32_t *targets,
    int64_t N, int64_t V, float scale)
{
    struct job job = {.dlogits = dlogits, .logits = logits, .known_lse = lse, .targets = targets, .N = N, .V = V,
        .rows = mg_rows_per_task(V), .scale = scale};
    mg_parallel(backward_rows, &job, mg_blocks(N, job.rows));
}
