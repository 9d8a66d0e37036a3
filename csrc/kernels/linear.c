/* SPDX-License-Identifier: MIT */
#include "gemm.h"
#include "kernels.h"

static mg_matrix plain(const void *data, int64_t columns, int type) { return (mg_matrix){data, columns, 0, type}; }
static mg_matrix transposed(const void *data, int64_t columns, int type) { return (mg_matrix){data, columns, 1, type}; }

void mg_linear_forward(float *y, float *scratch, const float *x, const void *weight,
    int64_t N, int64_t M, int64_t K, int type, int how)
{
    mg_gemm_parallel(y, plain(x, K, MG_TYPE_FP32), transposed(weight, K, type), N, M, K, 0, how, scratch);
}

void mg_linear_backward_input(float *dx, float *scratch, const float *dy, const void *weight,
    int64_t N, int64_t M, int64_t K, int type, int how)
{
    mg_gemm_parallel(dx, plain(dy, M, MG_TYPE_FP32), plain(weight, K, type), N, K, M, 0, how, scratch);
}

void mg_linear_backward_weight(float *dweight, float *scratch, const float *dy, const float *x,
    int64_t N, int64_t M, int64_t K, int how)
{
    mg_gemm_parallel(dweight, transposed(dy, M, MG_TYPE_FP32), plain(x, K, MG_TYPE_FP32), M, K, N, 1, how, scratch);
}
