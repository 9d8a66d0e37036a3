/* SPDX-License-Identifier: MIT
 * One vector type, as wide as the instruction-set level that this file is compiled for.
 *
 * The compiler's vector extensions give +, -, *, / and comparisons on it, and -ffp-contract=fast turns a*b+c into
 * one FMA where the level has it.  So every kernel is written once; only this file knows the widths.
 */
#ifndef MICROGPT_SIMD_H
#define MICROGPT_SIMD_H

#include <stdint.h>
#include <string.h>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#define MG_INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__)
#define MG_LANES 16
#elif defined(__AVX2__)
#define MG_LANES 8
#else
#define MG_LANES 4
#endif

typedef float vf __attribute__((vector_size(4 * MG_LANES)));
typedef int32_t vi __attribute__((vector_size(4 * MG_LANES)));
typedef uint32_t vu __attribute__((vector_size(4 * MG_LANES)));

/* 0, 1, ..: the number of each lane. */
#if MG_LANES == 16
#define MG_LANE_NUMBERS ((vi){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
#elif MG_LANES == 8
#define MG_LANE_NUMBERS ((vi){0, 1, 2, 3, 4, 5, 6, 7})
#else
#define MG_LANE_NUMBERS ((vi){0, 1, 2, 3})
#endif

/* All lanes a.  Minus zero, because plus zero is no copy for a = -0 and the compiler would really add. */
static inline vf mg_set(float a) { return a - (vf){0}; }

static inline vf mg_load(const float *p)
{
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void mg_store(float *p, vf v) { memcpy(p, &v, sizeof v); }

/* The first m lanes of memory, zeros behind; m >= MG_LANES is a plain load.  So a loop needs no second text for
 * its tail:  for (i = 0; i < n; i += MG_LANES) { vf v = mg_load_n(x + i, n - i); ... }
 * With masks it costs what a plain load costs; a memcpy of unknown length is a call, ten times that. */
static inline vf mg_load_n(const float *p, int64_t m)
{
    if (m >= MG_LANES) return mg_load(p);
#if defined(__AVX512F__)
    return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << m) - 1), p);
#else
    vf v = {0};
    memcpy(&v, p, (size_t)m * sizeof *p);
    return v;
#endif
}

static inline void mg_store_n(float *p, vf v, int64_t m)
{
    if (m >= MG_LANES) mg_store(p, v);
#if defined(__AVX512F__)
    else _mm512_mask_storeu_ps(p, (__mmask16)((1u << m) - 1), (__m512)v);
#else
    else memcpy(p, &v, (size_t)m * sizeof *p);
#endif
}

/* mask ? a : b, lane by lane; a comparison of two vf gives the mask. */
static inline vf mg_select(vi mask, vf a, vf b)
{
    vi bits = (mask & (vi)a) | (~mask & (vi)b);
    return (vf)bits;
}

/* NaN in a comes through: a comparison with NaN is false. */
static inline vf mg_max(vf a, vf b) { return mg_select(a < b, b, a); }
static inline vf mg_min(vf a, vf b) { return mg_select(a > b, b, a); }

/* Lane i is that lane of a, and behind them of b, which order[i] names.  Clang makes one instruction of the loop. */
static inline vf mg_shuffle(vf a, vf b, vi order)
{
#if defined(__clang__)
    vf v;
    for (int i = 0; i < MG_LANES; i++) v[i] = order[i] < MG_LANES ? a[order[i]] : b[order[i] - MG_LANES];
    return v;
#else
    return __builtin_shuffle(a, b, order);
#endif
}

/* The sum (the largest) of the lanes, by halves: lane i meets lane i ^ step. */
static inline float mg_sum(vf v)
{
#pragma GCC unroll 4
    for (int step = MG_LANES / 2; step > 0; step /= 2) v += mg_shuffle(v, v, MG_LANE_NUMBERS ^ step);
    return v[0];
}

static inline float mg_largest(vf v)
{
#pragma GCC unroll 4
    for (int step = MG_LANES / 2; step > 0; step /= 2) v = mg_max(v, mg_shuffle(v, v, MG_LANE_NUMBERS ^ step));
    return v[0];
}

static inline float mg_dot(const float *a, const float *b, int64_t n)
{
    vf sum = {0};
    for (int64_t i = 0; i < n; i += MG_LANES) sum += mg_load_n(a + i, n - i) * mg_load_n(b + i, n - i);
    return mg_sum(sum);
}

/* The largest of n >= 1 floats. */
static inline float mg_row_max(const float *x, int64_t n)
{
    float most = x[0];
    vf best = mg_set(x[0]);
    int64_t s = 0;
    for (; s + MG_LANES <= n; s += MG_LANES) best = mg_max(best, mg_load(x + s));
    for (int lane = 0; lane < MG_LANES; lane++) most = best[lane] > most ? best[lane] : most;
    for (; s < n; s++) most = x[s] > most ? x[s] : most;
    return most;
}

/* The first m lanes of v, `rest` in those behind. */
static inline vf mg_first(vf v, int64_t m, float rest)
{
    return mg_select(MG_LANE_NUMBERS < (int32_t)m, v, mg_set(rest));
}

/* 2^x with an error of at most 2 ulp for x < 128; 2^-126 below that, NaN stays NaN.  Attention asks for 2^x rather than
 * e^x because its log2(e) goes into the scale of the queries, which leaves 7 instead of 11 operations on the FMA units.
 * x = n + r with |r| <= 1/2; a degree-6 polynomial fitted for the least relative error. */
static inline vf mg_exp2(vf x)
{
    const float shift = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer in the low bits */
    vf clamped = mg_max(x, mg_set(-126.0f));
    vf rounded = clamped + shift;
    vf r = clamped - (rounded - shift);
    vf p = mg_set(1.53533620e-4f);
    p = p * r + 1.33988750e-3f;
    p = p * r + 9.61843692e-3f;
    p = p * r + 5.55033237e-2f;
    p = p * r + 2.40226477e-1f;
    p = p * r + 6.93147182e-1f;
    p = p * r + 1.0f;
    return p * (vf)(((vi)rounded << 23) + (vi)mg_set(1.0f));
}

/* exp(x) with an error of at most 2 ulp (tests/core/test_ops.py scans it); 0 below -87.34, inf above 88.72, NaN
 * stays NaN.  x = n ln2 + r with |r| <= ln2/2, ln2 in two parts; a degree-6 polynomial for exp(r) fitted for the
 * least relative error; then two multiplications by powers of two, so that no intermediate exponent overflows. */
static inline vf mg_exp(vf x)
{
    const float shift = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer in the low bits */
    vf clamped = mg_min(mg_max(x, mg_set(-104.0f)), mg_set(104.0f));
    vf rounded = clamped * 1.44269504088896341f + shift;
    vf n = rounded - shift;
    vf r = clamped - n * 0.693145751953125f;
    r = r - n * 1.42860682030941723e-6f;
    vf p = mg_set(1.38146058e-3f);
    p = p * r + 8.36871192e-3f;
    p = p * r + 4.16683890e-2f;
    p = p * r + 1.66665211e-1f;
    p = p * r + 0.49999994f;
    p = p * r * r + r + 1.0f;
    vi k = (vi)rounded - (vi)mg_set(shift);
    vi half = k >> 1;
    vf scale1 = (vf)((half + 127) << 23), scale2 = (vf)((k - half + 127) << 23);
    return mg_select(x < mg_set(-87.336548f), mg_set(0.0f), p * scale1 * scale2);
}

/* Turn MG_LANES vectors into those of their columns.  Each round deals two halves into one another like cards. */
static inline void mg_transpose(vf v[MG_LANES])
{
    const vi low = MG_LANE_NUMBERS / 2 + MG_LANE_NUMBERS % 2 * MG_LANES, high = low + MG_LANES / 2;
#pragma GCC unroll 4
    for (int round = 1; round < MG_LANES; round *= 2) {
        vf dealt[MG_LANES];
#pragma GCC unroll 8
        for (int i = 0; i < MG_LANES / 2; i++) {
            dealt[2 * i] = mg_shuffle(v[i], v[i + MG_LANES / 2], low);
            dealt[2 * i + 1] = mg_shuffle(v[i], v[i + MG_LANES / 2], high);
        }
        memcpy(v, dealt, sizeof dealt);
    }
}

#endif
