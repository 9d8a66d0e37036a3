/* SPDX-License-Identifier: MIT
 * The gate of the tanh form of GELU, sigmoid(2u), and the slope of 2u: for the plain and the gated MLP. */
#ifndef MICROGPT_GELU_H
#define MICROGPT_GELU_H

#include "simd.h"

#define MG_TWO_SQRT_2_OVER_PI 1.5957691216057308f
#define MG_CUBIC 0.044715f

static inline vf mg_gelu_gate(vf x) { return 1.0f / (1.0f + mg_exp(-MG_TWO_SQRT_2_OVER_PI * (x + MG_CUBIC * x * x * x))); }
static inline vf mg_gelu_gate_slope(vf x) { return MG_TWO_SQRT_2_OVER_PI * (1.0f + 3.0f * MG_CUBIC * x * x); }

#endif
