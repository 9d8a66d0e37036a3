/* SPDX-License-Identifier: MIT
 * The rotation of one head by its position: attention applies it while it packs, rope.c in place. */
#ifndef MICROGPT_ROPE_H
#define MICROGPT_ROPE_H

#include "simd.h"

/* Rotary tables (rows, half): the cosine and sine of every position and pair. */
typedef struct {
    const float *cos, *sin;
    int64_t half;
} mg_rope_tables;

/* to = factor * from turned by position t: (a, b) -> (a cos - b sin, b cos + a sin), a and b being the halves of a
 * head; direction -1 turns back.  `to` may be `from`. */
static inline void mg_rotate(float *to, const float *from, mg_rope_tables tables, int64_t t, float direction,
    float factor)
{
    const int64_t half = tables.half;
    const float *cos_t = tables.cos + t * half, *sin_t = tables.sin + t * half;
    for (int64_t i = 0; i < half; i += MG_LANES) {
        int64_t m = half - i;
        vf c = mg_load_n(cos_t + i, m) * factor, s = mg_load_n(sin_t + i, m) * (direction * factor);
        vf a = mg_load_n(from + i, m), b = mg_load_n(from + half + i, m);
        mg_store_n(to + i, a * c - b * s, m);
        mg_store_n(to + half + i, b * c + a * s, m);
    }
}

#endif
