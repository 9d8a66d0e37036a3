/* SPDX-License-Identifier: MIT */
#include "rope.h"
#include "kernels.h"
#include "pool.h"

struct job {
    float *qkv;
    mg_rope_tables tables;
    int64_t rows, T, turned, heads, hs, start;
};

static void rotate_rows(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    for (int64_t t = index * job->rows; t < mg_block_end(job->T, job->rows, index); t++)
        for (int64_t h = 0; h < job->turned; h++) { /* queries, then keys */
            float *head = job->qkv + (t * job->heads + h) * job->hs;
            mg_rotate(head, head, job->tables, job->start + t, 1.0f, 1.0f);
        }
}

void mg_rope(float *qkv, const float *cos, const float *sin, int64_t T, int64_t H, int64_t H_kv, int64_t hs,
    int64_t start)
{
    const int64_t turned = H + H_kv;
    struct job job = {qkv, {cos, sin, hs / 2}, mg_rows_per_task(turned * hs), T, turned, turned + H_kv, hs, start};
    mg_parallel(rotate_rows, &job, mg_blocks(T, job.rows));
}
