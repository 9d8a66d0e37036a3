/* SPDX-License-Identifier: MIT
 * Workers spin for a short while between kernels (the next one usually comes within microseconds) and then sleep, so
 * that an idle pool costs nothing.  A kernel that finds the pool busy, because another Python thread is inside it,
 * does all its tasks itself: the result is the same, for tasks never depend on who runs them.
 * Every instruction-set level is a library with this text in it; mg_pool_share makes all of them use the pool of one. */
#include "pool.h"
#include "kernels.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#define MAX_THREADS 256
#define SPINS 20000 /* about 50 microseconds */

struct pool {
    pthread_mutex_t entry; /* held by the thread whose tasks are running, or who resizes */
    pthread_mutex_t mutex; /* guards sleeping and waking */
    pthread_cond_t wake;
    pthread_t handles[MAX_THREADS];
    _Atomic int n_threads; /* with the caller: what was asked for and granted */
    int n_running;         /* of them; fewer only in a forked child, until its first kernel */
    _Atomic mg_task task;
    void *_Atomic job;
    _Atomic int64_t n_tasks;
    _Atomic uint64_t next; /* round << 32 | index of the task to hand out; a new round wakes the workers */
    _Atomic int64_t done;  /* tasks finished in this round */
    _Atomic int quit;
};

static struct pool own = {.entry = PTHREAD_MUTEX_INITIALIZER, .mutex = PTHREAD_MUTEX_INITIALIZER,
    .wake = PTHREAD_COND_INITIALIZER, .n_threads = 1, .n_running = 1};
static struct pool *pool = &own;

void *mg_pool(void) { return &own; }

void mg_pool_share(void *other) { pool = other; }

static inline void pause_cpu(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static inline uint64_t current_round(void) { return atomic_load(&pool->next) >> 32; }

/* Do tasks of one round until none is left.  A worker that comes late, when the round is over, finds another round in
 * `next` and its exchange fails, so nobody has to wait for threads that the system has not scheduled. */
static void run_tasks(uint64_t round, int64_t worker)
{
    for (;;) {
        mg_task task = atomic_load(&pool->task);
        void *job = atomic_load(&pool->job);
        int64_t n_tasks = atomic_load(&pool->n_tasks);
        uint64_t next = atomic_load(&pool->next);
        int64_t index = (int64_t)(next & 0xffffffff);
        if (next >> 32 != round || index >= n_tasks) return;
        if (!atomic_compare_exchange_weak(&pool->next, &next, next + 1)) continue;
        task(job, index, worker);
        atomic_fetch_add(&pool->done, 1);
    }
}

static uint64_t wait_for_round(uint64_t seen)
{
    for (int i = 0; i < SPINS; i++) {
        if (current_round() != seen) return current_round();
        pause_cpu();
    }
    pthread_mutex_lock(&pool->mutex);
    while (current_round() == seen) pthread_cond_wait(&pool->wake, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
    return current_round();
}

struct start {
    int64_t worker;
    uint64_t round;
};

static void *worker_main(void *argument)
{
    struct start start = *(struct start *)argument;
    free(argument);
    for (uint64_t round = start.round;;) {
        round = wait_for_round(round);
        if (atomic_load(&pool->quit)) return NULL;
        run_tasks(round, start.worker);
    }
}

/* The old round is closed before task, job and count change, so that no late worker can take an index of it against
 * the new count; a worker that wakes for the closed number finds nothing and waits for the next. */
static uint64_t start_round(mg_task task, void *job, int64_t n_tasks)
{
    uint64_t closed = (current_round() + 1) & 0xffffffff, round = (closed + 1) & 0xffffffff;
    atomic_store(&pool->next, closed << 32 | 0xffffffff);
    atomic_store(&pool->n_tasks, n_tasks);
    atomic_store(&pool->task, task);
    atomic_store(&pool->job, job);
    atomic_store(&pool->done, 0);
    pthread_mutex_lock(&pool->mutex);
    atomic_store(&pool->next, round << 32);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
    return round;
}

static void run_alone(mg_task task, void *job, int64_t n_tasks)
{
    for (int64_t index = 0; index < n_tasks; index++) task(job, index, 0);
}

static void stop_workers(void)
{
    atomic_store(&pool->quit, 1);
    start_round(NULL, NULL, 0);
    for (int i = 1; i < pool->n_running; i++) pthread_join(pool->handles[i], NULL);
    atomic_store(&pool->quit, 0);
    pool->n_running = 1;
}

static int start_worker(int worker)
{
    struct start *start = malloc(sizeof *start);
    if (!start) return ENOMEM;
    *start = (struct start){worker, current_round()};
    sigset_t all, before; /* a worker inherits the mask: signals are for the threads that Python knows */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int status = pthread_create(&pool->handles[worker], NULL, worker_main, start);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (status) free(start);
    return status;
}

static int start_workers(int n)
{
    int status = 0;
    while (pool->n_running < n && (status = start_worker(pool->n_running)) == 0) pool->n_running++;
    return status;
}

void mg_parallel(mg_task task, void *job, int64_t n_tasks)
{
    if (n_tasks <= 1 || pool->n_threads == 1 || pthread_mutex_trylock(&pool->entry) != 0) {
        run_alone(task, job, n_tasks);
        return;
    }
    if (pool->n_running < pool->n_threads) start_workers(pool->n_threads);
    run_tasks(start_round(task, job, n_tasks), 0);
    while (atomic_load(&pool->done) < n_tasks) pause_cpu();
    pthread_mutex_unlock(&pool->entry);
}

void mg_parallel_flop(mg_task task, void *job, int64_t n_tasks, double flop)
{
    if (flop < 1e6) run_alone(task, job, n_tasks);
    else mg_parallel(task, job, n_tasks);
}

int mg_threads(void) { return pool->n_threads; }

/* A forked child has only the calling thread.  Its workers start with its first kernel: most children exit or become
 * another program before that. */
static void forget_workers(void)
{
    pool->n_running = 1;
    atomic_store(&pool->quit, 0);
    pthread_mutex_init(&pool->entry, NULL);
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->wake, NULL);
}

static void watch_fork(void) { pthread_atfork(NULL, NULL, forget_workers); }

int mg_set_threads(int n)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_fork);
    if (n < 1 || n > MAX_THREADS) return EINVAL;
    pthread_mutex_lock(&pool->entry);
    stop_workers();
    int status = start_workers(n);
    if (status == 0) pool->n_threads = n;
    else { /* not some of the n: as many as before */
        stop_workers();
        start_workers(pool->n_threads);
    }
    pthread_mutex_unlock(&pool->entry);
    return status;
}
