/* SPDX-License-Identifier: MIT
 * All of it is matrix products, most of them with a symmetric result, which are computed by half.  A tall matrix is
 * multiplied from its right, so that those are of its shorter side.
 *
 * Of a long matrix several steps go in one round: all that happens to X is a product with polynomials in A = X X^T, so
 * the round multiplies those, which are small, and X but once:  B = a I + b A + c A^2,  Q = B Q,  A = B A B.  The error
 * of A grows with each step where singular values are small; after two steps, and then after three, it is still that of
 * the products themselves (3e-5 of the largest entry instead of 1e-3 for five; benchmarks/LOG.md).  bfloat16 has no such
 * room: there each step is a round, and so it is where X is nearly square, for then it costs the same.
 *
 * Small matrices go one to a thread, whose products then run on it alone: they are too small to share. */
#include "gemm.h"
#include "kernels.h"
#include "pool.h"

#include <math.h>

#define SMALL (1 << 18) /* elements of a matrix that one thread does */
#define SUM_BLOCK 65536 /* of mg_sum_squares */
#define EPS 1e-7        /* added to a norm */

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* The products of a step: the short side's inner products, their square, and the polynomial times the matrix. */
static int64_t products_scratch(int64_t workers, int64_t M, int64_t K, int how)
{
    const int64_t s = least(M, K), l = most(M, K);
    const int64_t inner = most(mg_gemm_scratch_of(workers, s, s, l, MG_TYPE_FP32, how),
        mg_gemm_scratch_of(workers, s, s, s, MG_TYPE_FP32, how));
    return most(inner, mg_gemm_scratch_of(workers, M, K, s, MG_TYPE_FP32, how));
}

static int64_t sums_floats(int64_t n) { return 2 * mg_blocks(n, SUM_BLOCK); } /* a double takes two */

/* Of one matrix on so many workers, in whole cache lines. */
static int64_t one_scratch(int64_t workers, int64_t M, int64_t K, int how)
{
    const int64_t s = least(M, K);
    return mg_padded(sums_floats(M * K) + M * K + 4 * s * s + products_scratch(workers, M, K, how), 16);
}

/* Small ones may also come alone, or find the pool busy when they begin: then one has all workers. */
int64_t mg_newton_schulz_scratch(int64_t M, int64_t K, int how)
{
    const int64_t shared = one_scratch(mg_threads(), M, K, how);
    return M * K > SMALL ? shared : most(shared, mg_threads() * one_scratch(1, M, K, how));
}

struct polynomial_job {
    float *y;
    const float *x;
    float by_x, by_y, diagonal;
    int64_t n;
};

static void scaled_block(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct polynomial_job *job = argument;
    const int64_t end = mg_block_end(job->n, MG_ELEMENTS_PER_TASK, index);
    for (int64_t i = index * MG_ELEMENTS_PER_TASK; i < end; i++) job->y[i] = job->by_x * job->x[i];
}

/* y = by_x x, n numbers. */
static void scaled(float *y, const float *x, float by_x, int64_t n)
{
    struct polynomial_job job = {.y = y, .x = x, .by_x = by_x, .n = n};
    mg_parallel(scaled_block, &job, mg_blocks(n, MG_ELEMENTS_PER_TASK));
}

static void polynomial_row(void *argument, int64_t i, int64_t worker)
{
    (void)worker;
    const struct polynomial_job *job = argument;
    float *y = job->y + i * job->n;
    const float *x = job->x + i * job->n;
    for (int64_t j = 0; j < job->n; j++) y[j] = job->by_x * x[j] + job->by_y * y[j];
    y[i] += job->diagonal;
}

static mg_matrix square(const float *x, int64_t s) { return (mg_matrix){x, s, 0, MG_TYPE_FP32}; }

/* B = a I + b A + c A^2, (s,s). */
static void polynomial(float *B, const float *A, const float *abc, int64_t s, int how, float *scratch)
{
    mg_gemm_symmetric(B, square(A, s), square(A, s), s, s, how, scratch);
    struct polynomial_job job = {.y = B, .x = A, .by_x = abc[1], .by_y = abc[2], .diagonal = abc[0], .n = s};
    mg_parallel(polynomial_row, &job, s);
}

/* y = Q x of `steps` polynomials, Q their product; of a tall x, y = x Q.  Four (s,s) to work in, and products' scratch. */
static void round_of(int64_t steps, float *y, const float *x, const float *abc, float *squares, float *scratch, int64_t M,
    int64_t K, int how)
{
    const int is_tall = M > K;
    const int64_t s = least(M, K), l = most(M, K);
    float *A = squares, *B = A + s * s, *Q = B + s * s, *other = Q + s * s;
    const mg_matrix wide = {x, K, is_tall, MG_TYPE_FP32}, turned = {x, K, !is_tall, MG_TYPE_FP32};
    mg_gemm_symmetric(A, wide, turned, s, l, how, scratch);
    polynomial(Q, A, abc, s, how, scratch);
    const float *last = Q;
    for (int64_t j = 1; j < steps; j++) {
        mg_gemm_symmetric(other, square(last, s), square(A, s), s, s, how, scratch);
        mg_gemm_symmetric(A, square(last, s), square(other, s), s, s, how, scratch);
        polynomial(B, A, abc + 3 * j, s, how, scratch);
        mg_gemm_symmetric(other, square(B, s), square(Q, s), s, s, how, scratch);
        float *spent = Q;
        Q = other, other = spent, last = B;
    }
    const mg_matrix plain = {x, K, 0, MG_TYPE_FP32};
    if (is_tall) mg_gemm_parallel(y, plain, square(Q, s), M, K, s, 0, how, scratch);
    else mg_gemm_parallel(y, square(Q, s), plain, M, K, s, 0, how, scratch);
}

/* Steps of the next round, `done` being behind. */
static int64_t steps_of_round(int64_t done, int64_t steps, int64_t M, int64_t K, int how)
{
    const int is_long = 2 * most(M, K) >= 3 * least(M, K);
    return how == MG_GEMM_BF16 || !is_long ? 1 : least(steps - done, done ? 3 : 2);
}

struct job {
    float *const *x, *scratch;
    const float *abc;
    int64_t M, K, steps;
    float margin;
    int how;
};

static void matrix_task(void *argument, int64_t index, int64_t worker)
{
    const struct job *job = argument;
    const int64_t M = job->M, K = job->K, size = M * K, s = least(M, K);
    float *x = job->x[index], *scratch = job->scratch + worker * one_scratch(1, M, K, job->how);
    float *other = scratch + sums_floats(size), *squares = other + size, *rest = squares + 4 * s * s;
    int64_t rounds = 0;
    for (int64_t done = 0; done < job->steps; rounds++) done += steps_of_round(done, job->steps, M, K, job->how);
    const double norm = sqrt(mg_sum_squares(x, (double *)scratch, size));
    float *from = rounds % 2 ? other : x, *to = rounds % 2 ? x : other; /* the last round ends in x */
    scaled(from, x, (float)(1 / (job->margin * norm + EPS)), size);
    for (int64_t done = 0; done < job->steps;) {
        const int64_t now = steps_of_round(done, job->steps, M, K, job->how);
        round_of(now, to, from, job->abc + 3 * done, squares, rest, M, K, job->how);
        done += now;
        float *last = from;
        from = to, to = last;
    }
}

void mg_newton_schulz(float *const *x, float *scratch, const float *abc, int64_t n, int64_t M, int64_t K, int64_t steps,
    float margin, int how)
{
    struct job job = {x, scratch, abc, M, K, steps, margin, how};
    if (M * K <= SMALL && n >= mg_threads()) mg_parallel(matrix_task, &job, n);
    else
        for (int64_t i = 0; i < n; i++) matrix_task(&job, i, 0);
}
