/* SPDX-License-Identifier: MIT
 * bfloat16, the upper half of a float, two in a 32-bit word: a product of pairs takes one instruction on CPUs with
 * AVX512_BF16 and a few elsewhere, to the same bits as long as products and partial sums are normal floats (that
 * instruction takes subnormals as zeros). */
#ifndef MICROGPT_BF16_H
#define MICROGPT_BF16_H

#include "kernels.h"
#include "simd.h"

typedef uint16_t vh __attribute__((vector_size(2 * MG_LANES)));
typedef enum { MG_FP32 = 1, MG_BF16 = 2 } mg_precision; /* and the terms of a sum in a 32-bit word */

#if defined(__AVX512BF16__)

/* Word i: even[i] in its lower half, odd[i] in its upper one; rounded to nearest even, subnormals to zero. */
static inline vi mg_bf16_pairs(vf even, vf odd)
{
    const vi halves = MG_LANE_NUMBERS | (MG_LANE_NUMBERS + MG_LANES) << 16;
    return (vi)_mm512_permutexvar_epi16((__m512i)halves, (__m512i)_mm512_cvtne2ps_pbh((__m512)odd, (__m512)even));
}

/* Words of 2 MG_LANES floats in order. */
static inline vi mg_bf16_words(vf first, vf second)
{
    return (vi)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
}

/* sum += a b of the odd terms, rounded, then of the even ones. */
static inline vf mg_bf16_dot(vf sum, vi a, vi b)
{
    return (vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
}

#else

static inline vi mg_bf16_rounded(vf x)
{
    const vi bits = (vi)x, magnitude = bits & 0x7fffffff;
    const vi is_nan = magnitude > 0x7f800000, is_subnormal = magnitude < 0x00800000;
    const vi rounded = (vi)((vu)bits + 0x7fff + (((vu)bits >> 16) & 1));
    return (((rounded & ~is_nan) | ((bits | 0x00400000) & is_nan)) & ~is_subnormal) | (bits & (int32_t)0x80000000);
}

static inline vi mg_bf16_pairs(vf even, vf odd)
{
    return (mg_bf16_rounded(odd) & (int32_t)0xffff0000) | ((mg_bf16_rounded(even) >> 16) & 0xffff);
}

static inline vi mg_bf16_words(vf first, vf second)
{
    const vi even = 2 * MG_LANE_NUMBERS;
    return mg_bf16_pairs(mg_shuffle(first, second, even), mg_shuffle(first, second, even + 1));
}

/* The product of two bfloat16 is exact in float, so it is the same whether the compiler makes this an FMA. */
static inline vf mg_bf16_dot(vf sum, vi a, vi b)
{
    const int32_t upper = (int32_t)0xffff0000;
    sum += (vf)(a & upper) * (vf)(b & upper);
    sum += (vf)(a << 16) * (vf)(b << 16);
    return sum;
}

#endif

/* The first m of MG_LANES stored bfloat16 as floats, zeros behind. */
static inline vf mg_load_bf16_n(const uint16_t *p, int64_t m)
{
    vh halves = {0};
    if (m >= MG_LANES) memcpy(&halves, p, sizeof halves);
    else memcpy(&halves, p, (size_t)m * sizeof *p);
    return (vf)(__builtin_convertvector(halves, vu) << 16);
}

/* x (n) = stored bfloat16 (n). */
static inline void mg_bf16_floats(float *x, const uint16_t *stored, int64_t n)
{
    for (int64_t i = 0; i < n; i += MG_LANES) mg_store_n(x + i, mg_load_bf16_n(stored + i, n - i), n - i);
}

/* Number i of a matrix of this type; and vectors of them, as mg_load_n. */
MG_INLINE const void *mg_number(const void *x, int64_t i, int type)
{
    return (const char *)x + i * (type == MG_TYPE_BF16 ? 2 : 4);
}
MG_INLINE vf mg_load_numbers(const void *x, int64_t m, int type)
{
    return type == MG_TYPE_BF16 ? mg_load_bf16_n(x, m) : mg_load_n(x, m);
}

/* sum += a b, words of this precision. */
MG_INLINE vf mg_add_product(vf sum, vf a, vf b, mg_precision of)
{
    return of == MG_FP32 ? sum + a * b : mg_bf16_dot(sum, (vi)a, (vi)b);
}

#endif
