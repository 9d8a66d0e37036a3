/* SPDX-License-Identifier: MIT
 * Matrix products: by our own kernel, or through the bound BLAS, which runs on one thread; the pool runs many of its
 * products beside each other. */
#ifndef MICROGPT_GEMM_H
#define MICROGPT_GEMM_H

#include "bf16.h"
#include "kernels.h"

typedef struct {
    const float *data;
    int64_t stride;     /* floats from one stored row to the next */
    int transposed;     /* the product uses the transpose of what is stored */
} mg_matrix;

/* c (M,N) = alpha * a (M,K) b (K,N) + beta * c, on the calling thread.  c has rows of c_stride floats. */
void mg_gemm(float *c, int64_t c_stride, mg_matrix a, mg_matrix b, int64_t M, int64_t N, int64_t K, float alpha,
    float beta);

/* c (M,N) = a b, or += for accumulate, on the pool, c dense: through BLAS or by our own kernel, as mg_gemm_use says.
 * scratch: mg_gemm_scratch(M,N,K) floats.  The bits do not depend on the number of threads. */
void mg_gemm_parallel(float *c, mg_matrix a, mg_matrix b, int64_t M, int64_t N, int64_t K, int accumulate,
    float *scratch);

/* The same by our own kernel; it pays from MG_PACKED_ROWS rows on, for all of b is copied first.
 * MG_BF16: a and b are rounded to bfloat16, their products are added in float. */
void mg_gemm_packed(float *c, mg_matrix a, mg_matrix b, int64_t M, int64_t N, int64_t K, int accumulate,
    mg_precision of, float *scratch);
int64_t mg_gemm_packed_scratch(int64_t M, int64_t N, int64_t K, mg_precision of);

/* The precision of large products, and of those inside attention, as mg_gemm_use says. */
mg_precision mg_gemm_precision(void);

#endif
