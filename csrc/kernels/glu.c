/* SPDX-License-Identifier: MIT
 * Gated units: a row holds F gates and behind them F values, so that both come out of one matrix product. */
#include "gelu.h"
#include "kernels.h"
#include "pool.h"
#include "simd.h"

struct forward_job {
    float *y;
    const float *x;
    int64_t N, F, rows;
};

struct backward_job {
    float *dx, *y;
    const float *dy, *x;
    int64_t N, F, rows;
};

/* What an activation is made of: x * gate(x), and the slope of what stands in its sigmoid. */
typedef vf (*function)(vf);

static inline vf silu_gate(vf x) { return 1.0f / (1.0f + mg_exp(-x)); }
static inline vf silu_gate_slope(vf x)
{
    (void)x;
    return mg_set(1.0f);
}

MG_INLINE void forward_rows(const struct forward_job *job, int64_t index, function gate)
{
    const int64_t F = job->F;
    for (int64_t n = index * job->rows; n < mg_block_end(job->N, job->rows, index); n++) {
        const float *gate_n = job->x + 2 * n * F, *value_n = gate_n + F;
        for (int64_t i = 0; i < F; i += MG_LANES) {
            vf x = mg_load_n(gate_n + i, F - i);
            mg_store_n(job->y + n * F + i, x * gate(x) * mg_load_n(value_n + i, F - i), F - i);
        }
    }
}

MG_INLINE void backward_rows(const struct backward_job *job, int64_t index, function gate, function slope)
{
    const int64_t F = job->F;
    for (int64_t n = index * job->rows; n < mg_block_end(job->N, job->rows, index); n++) {
        const float *gate_n = job->x + 2 * n * F, *value_n = gate_n + F;
        float *dgate_n = job->dx + 2 * n * F, *dvalue_n = dgate_n + F;
        for (int64_t i = 0; i < F; i += MG_LANES) {
            vf x = mg_load_n(gate_n + i, F - i), value = mg_load_n(value_n + i, F - i);
            vf dy = mg_load_n(job->dy + n * F + i, F - i);
            vf s = gate(x), active = x * s;
            mg_store_n(job->y + n * F + i, active * value, F - i);
            mg_store_n(dvalue_n + i, dy * active, F - i);
            mg_store_n(dgate_n + i, dy * value * (s + active * (1.0f - s) * slope(x)), F - i);
        }
    }
}

static void swiglu_forward_task(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    forward_rows(argument, index, silu_gate);
}

static void geglu_forward_task(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    forward_rows(argument, index, mg_gelu_gate);
}

static void swiglu_backward_task(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    backward_rows(argument, index, silu_gate, silu_gate_slope);
}

static void geglu_backward_task(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    backward_rows(argument, index, mg_gelu_gate, mg_gelu_gate_slope);
}

static void forward(mg_task task, float *y, const float *x, int64_t N, int64_t F)
{
    struct forward_job job = {y, x, N, F, mg_rows_per_task(F)};
    mg_parallel(task, &job, mg_blocks(N, job.rows));
}

static void backward(mg_task task, float *dx, float *y, const float *dy, const float *x, int64_t N, int64_t F)
{
    struct backward_job job = {dx, y, dy, x, N, F, mg_rows_per_task(F)};
    mg_parallel(task, &job, mg_blocks(N, job.rows));
}

void mg_swiglu_forward(float *y, const float *x, int64_t N, int64_t F) { forward(swiglu_forward_task, y, x, N, F); }
void mg_geglu_forward(float *y, const float *x, int64_t N, int64_t F) { forward(geglu_forward_task, y, x, N, F); }

void mg_swiglu_backward(float *dx, float *y, const float *dy, const float *x, int64_t N, int64_t F)
{
    backward(swiglu_backward_task, dx, y, dy, x, N, F);
}

void mg_geglu_backward(float *dx, float *y, const float *dy, const float *x, int64_t N, int64_t F)
{
    backward(geglu_backward_task, dx, y, dy, x, N, F);
}
