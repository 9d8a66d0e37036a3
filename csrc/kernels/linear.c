/* SPDX-License-Identifier: MIT */
#include "gemm.h"
#include "kernels.h"

static mg_matrix plain(const float *data, int64_t columns) { return (mg_matrix){data, columns, 0}; }
static mg_matrix transposed(const float *data, int64_t columns) { return (mg_matrix){data, columns, 1}; }

void mg_linear_forward(float *y, float *scratch, const float *x, const float *weight,
    int64_t N, int64_t M, int64_t K)
{
    mg_gemm_parallel(y, plain(x, K), transposed(weight, K), N, M, K, 0, scratch);
}

void mg_linear_backward_input(float *dx, float *scratch, const float *dy, const float *weight,
    int64_t N, int64_t M, int64_t K)
{
    mg_gemm_parallel(dx, plain(dy, M), plain(weight, K), N, K, M, 0, scratch);
}

void mg_linear_backward_weight(float *dweight, float *scratch, const float *dy, const float *x,
    int64_t N, int64_t M, int64_t K)
{
    mg_gemm_parallel(dweight, transposed(dy, M), plain(x, K), M, K, N, 1, scratch);
}
