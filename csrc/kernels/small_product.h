/* SPDX-License-Identifier: MIT
 * Products of matrices so small that they stay in the first-level cache. */
#ifndef MICROGPT_SMALL_PRODUCT_H
#define MICROGPT_SMALL_PRODUCT_H

#include "simd.h"

#define MG_TILE_ROWS 4
#define MG_TILE_VECTORS 2

/* A matrix whose element (i, j) lies at i * row + j * column: as it is in memory, or turned. */
struct mg_small {
    const float *at;
    int64_t row, column;
};

static inline struct mg_small mg_as_it_is(const float *a, int64_t ld) { return (struct mg_small){a, ld, 1}; }
static inline struct mg_small mg_turned(const float *a, int64_t ld) { return (struct mg_small){a, 1, ld}; }

MG_INLINE void mg_small_tile(float *to, int64_t ld, struct mg_small a, const float *b, int64_t b_ld, int64_t depth,
    const int rows, const int vectors)
{
    vf sum[MG_TILE_ROWS][MG_TILE_VECTORS];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) sum[r][v] = mg_load(to + r * ld + v * MG_LANES);
    for (int64_t p = 0; p < depth; p++) {
        vf x[MG_TILE_VECTORS];
        for (int v = 0; v < vectors; v++) x[v] = mg_load(b + p * b_ld + v * MG_LANES);
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < vectors; v++) sum[r][v] += x[v] * a.at[r * a.row + p * a.column];
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) mg_store(to + r * ld + v * MG_LANES, sum[r][v]);
}

MG_INLINE void mg_small_strip(float *to, int64_t ld, struct mg_small a, const float *b, int64_t b_ld, int64_t m,
    int64_t depth, const int vectors)
{
    int64_t i = 0;
    for (; i + MG_TILE_ROWS <= m; i += MG_TILE_ROWS, a.at += MG_TILE_ROWS * a.row)
        mg_small_tile(to + i * ld, ld, a, b, b_ld, depth, MG_TILE_ROWS, vectors);
    for (; i < m; i++, a.at += a.row) mg_small_tile(to + i * ld, ld, a, b, b_ld, depth, 1, vectors);
}

/* to (m, n) += a (m, depth) b (depth, n); rows of `to` and b lie ld and b_ld apart, and n is whole vectors. */
static inline void mg_add_small_product(float *to, int64_t ld, struct mg_small a, const float *b, int64_t b_ld,
    int64_t m, int64_t depth, int64_t n)
{
    const int64_t wide = MG_TILE_VECTORS * MG_LANES;
    int64_t j = 0;
    for (; j + wide <= n; j += wide) mg_small_strip(to + j, ld, a, b + j, b_ld, m, depth, MG_TILE_VECTORS);
    for (; j < n; j += MG_LANES) mg_small_strip(to + j, ld, a, b + j, b_ld, m, depth, 1);
}

/* to (n, m) = from (m, n) turned; m and n whole vectors. */
static inline void mg_turn(float *to, int64_t ld, const float *from, int64_t from_ld, int64_t m, int64_t n)
{
    for (int64_t i = 0; i < m; i += MG_LANES)
        for (int64_t j = 0; j < n; j += MG_LANES) {
            vf v[MG_LANES];
            for (int r = 0; r < MG_LANES; r++) v[r] = mg_load(from + (i + r) * from_ld + j);
            mg_transpose(v);
            for (int r = 0; r < MG_LANES; r++) mg_store(to + (j + r) * ld + i, v[r]);
        }
}

#endif
