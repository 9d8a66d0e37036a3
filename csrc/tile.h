/* SPDX-License-Identifier: MIT
 * A small matrix product whose operands already lie in cache: attention's tiles, for which BLAS is the wrong size
 * (an inner dimension of 32 leaves it no time to recover its packing).
 *
 * All extents are padded by the caller: M to MG_TILE_ROWS, N to MG_LANES, with zeros.  So there are no tails. */
#ifndef MICROGPT_TILE_H
#define MICROGPT_TILE_H

#include "simd.h"

/* Rows of one register block; with two vectors a row it holds 16 (8) accumulators of 32 (16) registers, enough
 * independent chains to hide the latency of an FMA. */
#define MG_TILE_ROWS (MG_LANES == 16 ? 8 : 4)

static inline int64_t mg_padded(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

/* c (MG_TILE_ROWS, vectors * MG_LANES) = a b, or += for accumulate.  Element (m,k) of a is a[m * a_row + k * a_column],
 * so a may be stored either way round; b and c have rows of b_stride and c_stride floats. */
static inline __attribute__((always_inline)) void mg_tile_block(float *c, int64_t c_stride, const float *a,
    int64_t a_row, int64_t a_column, const float *b, int64_t b_stride, int64_t K, int vectors, int accumulate)
{
    vf sum[MG_TILE_ROWS][2];
#pragma GCC unroll 8
    for (int m = 0; m < MG_TILE_ROWS; m++)
        for (int v = 0; v < vectors; v++)
            sum[m][v] = accumulate ? mg_load(c + m * c_stride + v * MG_LANES) : mg_set(0.0f);
    for (int64_t k = 0; k < K; k++) {
        vf b_k[2];
        for (int v = 0; v < vectors; v++) b_k[v] = mg_load(b + k * b_stride + v * MG_LANES);
#pragma GCC unroll 8
        for (int m = 0; m < MG_TILE_ROWS; m++) {
            vf a_mk = mg_set(a[m * a_row + k * a_column]);
            for (int v = 0; v < vectors; v++) sum[m][v] += a_mk * b_k[v];
        }
    }
#pragma GCC unroll 8
    for (int m = 0; m < MG_TILE_ROWS; m++)
        for (int v = 0; v < vectors; v++) mg_store(c + m * c_stride + v * MG_LANES, sum[m][v]);
}

/* c (M,N) = a (M,K) b (K,N), or += for accumulate; M, N padded. */
static inline void mg_tile_product(float *c, int64_t c_stride, const float *a, int64_t a_row, int64_t a_column,
    const float *b, int64_t b_stride, int64_t M, int64_t N, int64_t K, int accumulate)
{
    for (int64_t m = 0; m < M; m += MG_TILE_ROWS) {
        const float *a_m = a + m * a_row;
        float *c_m = c + m * c_stride;
        int64_t n = 0;
        for (; n + 2 * MG_LANES <= N; n += 2 * MG_LANES)
            mg_tile_block(c_m + n, c_stride, a_m, a_row, a_column, b + n, b_stride, K, 2, accumulate);
        if (n < N) mg_tile_block(c_m + n, c_stride, a_m, a_row, a_column, b + n, b_stride, K, 1, accumulate);
    }
}

#endif
