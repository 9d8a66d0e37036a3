/* SPDX-License-Identifier: MIT
 * A small matrix product whose operands already lie in cache: attention's tiles, for which BLAS is the wrong size
 * (an inner dimension of 32 leaves it no time to recover its packing).
 *
 * One block of the result, MG_TILE_ROWS by one or two vectors, stays in registers: clear it (or load it), multiply,
 * do with it what the caller likes, store it.  Operands are made of 32-bit words: a float, or two bfloat16 that are
 * neighbours in the sum.  All is inlined, with `vectors` and the precision `of` constants. */
#ifndef MICROGPT_TILE_H
#define MICROGPT_TILE_H

#include "bf16.h"

/* With two vectors a row a block holds 16 (8) of 32 (16) registers, enough independent chains to hide the latency of
 * an FMA: the loop runs at 97 % of the FMA peak. */
#define MG_TILE_ROWS (MG_LANES == 16 ? 8 : 4)

#define MG_EACH_ROW _Pragma("GCC unroll 8") for (int m = 0; m < MG_TILE_ROWS; m++)

typedef vf mg_block[MG_TILE_ROWS][2];

MG_INLINE void mg_block_clear(mg_block sum, int vectors)
{
    MG_EACH_ROW for (int v = 0; v < vectors; v++) sum[m][v] = mg_set(0.0f);
}

MG_INLINE void mg_block_load(mg_block sum, const float *c, int64_t c_stride, int vectors)
{
    MG_EACH_ROW for (int v = 0; v < vectors; v++) sum[m][v] = mg_load(c + m * c_stride + v * MG_LANES);
}

MG_INLINE void mg_block_store(float *c, int64_t c_stride, mg_block sum, int vectors)
{
    MG_EACH_ROW for (int v = 0; v < vectors; v++) mg_store(c + m * c_stride + v * MG_LANES, sum[m][v]);
}

/* sum += a b over K words.  Word (m,k) of a is a[m * a_row + k * a_column], so a may be stored either way round; vector v
 * of row k of b is at b + k * b_row + v * b_vector, so b may be rows or panels. */
MG_INLINE void mg_block_multiply(mg_block sum, const float *a, int64_t a_row, int64_t a_column, const float *b,
    int64_t b_row, int64_t b_vector, int64_t K, int vectors, mg_precision of)
{
    for (int64_t k = 0; k < K; k++) {
        vf b_k[2];
        for (int v = 0; v < vectors; v++) b_k[v] = mg_load(b + k * b_row + v * b_vector);
        MG_EACH_ROW
        {
            vf a_mk = mg_set(a[m * a_row + k * a_column]);
            for (int v = 0; v < vectors; v++) sum[m][v] = mg_add_product(sum[m][v], a_mk, b_k[v], of);
        }
    }
}

#endif
