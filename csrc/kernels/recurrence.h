/* SPDX-License-Identifier: MIT
 * What the recurrent kernels share.  A state is a matrix with a row for each channel of a key and the channels of the
 * value side by side, in whole vectors: so what is read from it and what is written to it are sums over rows, which
 * stay in registers, and only gradients of keys need sums along rows. */
#ifndef MICROGPT_RECURRENCE_H
#define MICROGPT_RECURRENCE_H

#include "pool.h"
#include "simd.h"

/* Whether a document begins at position t of a row: then nothing before it is remembered.  What comes before position 0
 * is the caller's, who hands in the state. */
static inline int mg_begins(const int32_t *starts, int64_t t) { return starts && t > 0 && starts[t] == (int32_t)t; }

/* to = the n floats of from, zeros behind them up to a whole vector. */
static inline void mg_pad_row(float *to, const float *from, int64_t n)
{
    for (int64_t i = 0; i < n; i += MG_LANES) mg_store(to + i, mg_load_n(from + i, n - i));
}

/* A dense matrix (rows, n) into rows of whole vectors, or zeros where there is none; and back. */
static inline void mg_pad_matrix(float *to, const float *from, int64_t rows, int64_t n)
{
    const int64_t padded = mg_padded(n, MG_LANES);
    if (!from) memset(to, 0, (size_t)(rows * padded) * sizeof *to);
    else
        for (int64_t i = 0; i < rows; i++) mg_pad_row(to + i * padded, from + i * n, n);
}

static inline void mg_unpad_matrix(float *to, const float *from, int64_t rows, int64_t n)
{
    const int64_t padded = mg_padded(n, MG_LANES);
    for (int64_t i = 0; i < rows; i++) memcpy(to + i * n, from + i * padded, (size_t)n * sizeof *to);
}

/* out[i] = the sum of the lanes of vector i, for n rounded up to whole vectors. */
static inline void mg_lane_sums(float *out, const float *vectors, int64_t n)
{
    for (int64_t i = 0; i < n; i += MG_LANES) {
        vf v[MG_LANES], sum = {0};
        for (int j = 0; j < MG_LANES; j++) v[j] = mg_load(vectors + (i + j) * MG_LANES);
        mg_transpose(v);
        for (int j = 0; j < MG_LANES; j++) sum += v[j];
        mg_store(out + i, sum);
    }
}

/* to[i] += the sum over blocks, in order, of partials[block * stride + i], for i < n. */
static inline void mg_add_partials(float *to, const float *partials, int64_t blocks, int64_t stride, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float sum = 0.0f;
        for (int64_t block = 0; block < blocks; block++) sum += partials[block * stride + i];
        to[i] += sum;
    }
}

static inline vf mg_sigmoid(vf x) { return 1.0f / (1.0f + mg_exp(-x)); }

/* For the vectors of a row of n floats: f4 with `begin` at four at a time, then f2, then f1. */
#define MG_STRIPS(n, begin, f4, f2, f1)                                                                                \
    do {                                                                                                               \
        int64_t begin = 0;                                                                                             \
        for (; begin + 4 * MG_LANES <= (n); begin += 4 * MG_LANES) f4;                                                 \
        for (; begin + 2 * MG_LANES <= (n); begin += 2 * MG_LANES) f2;                                                 \
        for (; begin < (n); begin += MG_LANES) f1;                                                                     \
    } while (0)

#endif
