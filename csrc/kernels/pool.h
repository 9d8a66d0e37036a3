/* SPDX-License-Identifier: MIT
 * The one thread pool.  A kernel cuts its work into tasks by shape alone and hands them here. */
#ifndef MICROGPT_POOL_H
#define MICROGPT_POOL_H

#include <stdint.h>

/* One task: `index` of n_tasks, on `worker` of the pool (0 is the caller), which selects scratch memory. */
typedef void (*mg_task)(void *job, int64_t index, int64_t worker);

/* Run all tasks on the pool and return when they are done.  Tasks are handed out in order, one at a time. */
void mg_parallel(mg_task task, void *job, int64_t n_tasks);

/* The same for work of a known size: below about ten microseconds, waking the workers costs more than they give. */
void mg_parallel_flop(mg_task task, void *job, int64_t n_tasks, double flop);

/* As many workers as a task may see, so many scratch memories it needs. */
int mg_threads(void);

/* Cut n items into blocks of `block`: the range of block `index`. */
static inline int64_t mg_blocks(int64_t n, int64_t block) { return (n + block - 1) / block; }
static inline int64_t mg_padded(int64_t n, int64_t block) { return mg_blocks(n, block) * block; }
static inline int64_t mg_block_end(int64_t n, int64_t block, int64_t index)
{
    int64_t end = (index + 1) * block;
    return end < n ? end : n;
}

/* Rows of C floats per task, so that one task is worth about ten microseconds. */
static inline int64_t mg_rows_per_task(int64_t C)
{
    int64_t rows = 32768 / (C > 0 ? C : 1);
    return rows > 0 ? rows : 1;
}

/* Elements per task of an elementwise kernel; a multiple of every vector width. */
#define MG_ELEMENTS_PER_TASK 32768

#endif
