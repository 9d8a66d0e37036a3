/* SPDX-License-Identifier: MIT
 * Matrix products through the bound BLAS.  BLAS runs on one thread; the pool runs many products beside each other. */
#ifndef MICROGPT_GEMM_H
#define MICROGPT_GEMM_H

#include <stdint.h>

typedef struct {
    const float *data;
    int64_t stride;     /* floats from one stored row to the next */
    int transposed;     /* the product uses the transpose of what is stored */
} mg_matrix;

/* c (M,N) = alpha * a (M,K) b (K,N) + beta * c, on the calling thread.  c has rows of c_stride floats. */
void mg_gemm(float *c, int64_t c_stride, mg_matrix a, mg_matrix b, int64_t M, int64_t N, int64_t K, float alpha,
    float beta);

/* c (M,N) = a b + beta * c on the pool, c dense.  The tiles depend on M and N alone, so the bits do not depend on the
 * number of threads. */
void mg_gemm_parallel(float *c, mg_matrix a, mg_matrix b, int64_t M, int64_t N, int64_t K, float beta);

#endif
