/* SPDX-License-Identifier: MIT
 * Matrix products: by our own kernel, or through the bound BLAS, which runs on one thread; the pool runs many of its
 * products beside each other. */
#ifndef MICROGPT_GEMM_H
#define MICROGPT_GEMM_H

#include "bf16.h"
#include "kernels.h"

typedef struct {
    const void *data;
    int64_t stride;     /* numbers from one stored row to the next */
    int transposed;     /* the product uses the transpose of what is stored */
    int type;           /* MG_TYPE_ of the numbers; of a left operand always MG_TYPE_FP32 */
} mg_matrix;

/* c (M,N) = a (M,K) b (K,N), or += for accumulate, on the pool, c dense: through BLAS or by our own kernel, as `how` says.
 * scratch: mg_gemm_scratch(M,N,K,b.type,how) floats.  The bits do not depend on the number of threads, and those of a
 * bfloat16 b are those of the same floats. */
void mg_gemm_parallel(float *c, mg_matrix a, mg_matrix b, int64_t M, int64_t N, int64_t K, int accumulate, int how,
    float *scratch);

/* The scratch of a product on so many workers; of one inside a task, on the only worker that it has there. */
int64_t mg_gemm_scratch_of(int64_t workers, int64_t M, int64_t N, int64_t K, int type, int how);

/* c (M,M) = a (M,K) b (K,M), which is known to be symmetric: our own kernel computes half of it and copies that.  The
 * same scratch, and the same bits where the whole product has those of a symmetric one, as that of a and a^T has. */
void mg_gemm_symmetric(float *c, mg_matrix a, mg_matrix b, int64_t M, int64_t K, int how, float *scratch);

/* The same by our own kernel; it pays from MG_PACKED_ROWS rows on, for all of b is copied first.
 * is_symmetric: so is c, and computed up to its diagonal; nothing is accumulated then.
 * MG_BF16: a and b are rounded to bfloat16, their products are added in float. */
void mg_gemm_packed(float *c, mg_matrix a, mg_matrix b, int64_t M, int64_t N, int64_t K, int accumulate,
    int is_symmetric, mg_precision of, float *scratch);
int64_t mg_gemm_packed_scratch(int64_t workers, int64_t M, int64_t N, int64_t K, mg_precision of);

/* The precision of large products, and of those inside attention. */
static inline mg_precision mg_precision_of(int how) { return how == MG_GEMM_BF16 ? MG_BF16 : MG_FP32; }

#endif
