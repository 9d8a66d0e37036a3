/* SPDX-License-Identifier: MIT
 * All of it is matrix products, of which two out of three have a symmetric result and are computed by half.  A tall
 * matrix is multiplied from its right, so that the inner products are those of its shorter side. */
#include "gemm.h"
#include "kernels.h"
#include "pool.h"

#include <math.h>

#define SUM_BLOCK 65536 /* of mg_sum_squares */
#define EPS 1e-7        /* added to a norm */

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* The products of a step: the short side's inner products, their square, and the polynomial times the matrix. */
static int64_t products_scratch(int64_t M, int64_t K, int how)
{
    const int64_t s = least(M, K), l = most(M, K);
    const int64_t inner = most(mg_gemm_scratch(s, s, l, MG_TYPE_FP32, how), mg_gemm_scratch(s, s, s, MG_TYPE_FP32, how));
    return most(inner, mg_gemm_scratch(M, K, s, MG_TYPE_FP32, how));
}

static int64_t sums_floats(int64_t n) { return 2 * mg_blocks(n, SUM_BLOCK); } /* a double takes two */

int64_t mg_newton_schulz_scratch(int64_t M, int64_t K, int how)
{
    const int64_t s = least(M, K);
    return sums_floats(M * K) + M * K + 2 * s * s + products_scratch(M, K, how);
}

struct sum_job {
    float *y;
    const float *x;
    float by_x, by_y;
    int64_t n;
};

static void scaled_block(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct sum_job *job = argument;
    const int64_t end = mg_block_end(job->n, MG_ELEMENTS_PER_TASK, index);
    for (int64_t i = index * MG_ELEMENTS_PER_TASK; i < end; i++) job->y[i] = job->by_x * job->x[i];
}

static void sum_block(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct sum_job *job = argument;
    const int64_t end = mg_block_end(job->n, MG_ELEMENTS_PER_TASK, index);
    for (int64_t i = index * MG_ELEMENTS_PER_TASK; i < end; i++) job->y[i] = job->by_x * job->x[i] + job->by_y * job->y[i];
}

/* y = by_x x. */
static void scaled(float *y, const float *x, float by_x, int64_t n)
{
    struct sum_job job = {y, x, by_x, 0, n};
    mg_parallel(scaled_block, &job, mg_blocks(n, MG_ELEMENTS_PER_TASK));
}

/* y = by_x x + by_y y. */
static void sum(float *y, const float *x, float by_x, float by_y, int64_t n)
{
    struct sum_job job = {y, x, by_x, by_y, n};
    mg_parallel(sum_block, &job, mg_blocks(n, MG_ELEMENTS_PER_TASK));
}

/* y = a x + (b A + c A^2) x with A = x x^T; of a tall x with A = x^T x, from the right. */
static void step(float *y, const float *x, const float *abc, float *A, float *B, float *scratch, int64_t M, int64_t K,
    int how)
{
    const int is_tall = M > K;
    const int64_t s = least(M, K), l = most(M, K);
    mg_gemm_gram(A, (mg_matrix){x, K, is_tall, MG_TYPE_FP32}, s, l, how, scratch);
    mg_gemm_gram(B, (mg_matrix){A, s, 0, MG_TYPE_FP32}, s, s, how, scratch);
    sum(B, A, abc[1], abc[2], s * s);
    scaled(y, x, abc[0], M * K);
    const mg_matrix wide = {x, K, 0, MG_TYPE_FP32}, square = {B, s, 0, MG_TYPE_FP32};
    mg_gemm_parallel(y, is_tall ? wide : square, is_tall ? square : wide, M, K, s, 1, how, scratch);
}

void mg_newton_schulz(float *x, float *scratch, const float *abc, int64_t n, int64_t M, int64_t K, int64_t steps,
    float margin, int how)
{
    const int64_t size = M * K, s = least(M, K);
    float *other = scratch + sums_floats(size), *A = other + size, *B = A + s * s, *rest = B + s * s;
    for (int64_t i = 0; i < n; i++, x += size) {
        const double norm = sqrt(mg_sum_squares(x, (double *)scratch, size));
        float *from = steps % 2 ? other : x, *to = steps % 2 ? x : other; /* the last step ends in x */
        scaled(from, x, (float)(1 / (margin * norm + EPS)), size);
        for (int64_t j = 0; j < steps; j++) {
            step(to, from, abc + 3 * j, A, B, rest, M, K, how);
            float *last = from;
            from = to, to = last;
        }
    }
}
