/* SPDX-License-Identifier: MIT */
#include "bf16.h"
#include "kernels.h"
#include "pool.h"

#include <string.h>

int64_t mg_embedding_forward(float *y, const void *weight, const int32_t *ids, int64_t N, int64_t C, int64_t V,
    int type)
{
    for (int64_t n = 0; n < N; n++) {
        if (ids[n] < 0 || ids[n] >= V) return n;
        const void *row = mg_number(weight, ids[n] * C, type);
        if (type == MG_TYPE_BF16) mg_bf16_floats(y + n * C, row, C);
        else memcpy(y + n * C, row, (size_t)C * sizeof *y);
    }
    return -1;
}

struct job {
    float *dweight;
    const float *dy;
    const int32_t *ids;
    int64_t N, C;
};

#define CHANNELS 64

/* A task owns some channels of all rows, so that equal ids never meet and rows are added in order. */
static void add_channels(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    int64_t begin = index * CHANNELS, end = mg_block_end(job->C, CHANNELS, index);
    for (int64_t n = 0; n < job->N; n++) {
        float *dweight_n = job->dweight + job->ids[n] * job->C;
        const float *dy_n = job->dy + n * job->C;
        for (int64_t i = begin; i < end; i++) dweight_n[i] += dy_n[i];
    }
}

void mg_embedding_backward(float *dweight, const float *dy, const int32_t *ids, int64_t N, int64_t C)
{
    struct job job = {dweight, dy, ids, N, C};
    mg_parallel(add_channels, &job, mg_blocks(C, CHANNELS));
}
