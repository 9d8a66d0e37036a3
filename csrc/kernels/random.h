/* SPDX-License-Identifier: MIT
 * Counter-based randomness: every number is a pure function of (key, index), so nothing has a state to save and no
 * order of work can change a result.  microgpt/core/random.py is the same in NumPy and says how keys are made. */
#ifndef MICROGPT_RANDOM_H
#define MICROGPT_RANDOM_H

#include "simd.h"

#define MG_WORDS (MG_LANES / 4)
typedef uint64_t mg_words __attribute__((vector_size(8 * MG_WORDS)));

/* Words index .. index + MG_WORDS - 1 of the stream `key`: SplitMix64 (Steele, Lea & Flood 2014, doi
 * 10.1145/2714064.2660195), whose state after word i is key + (i+1) * gamma. */
static inline mg_words mg_random_words(uint64_t key, uint64_t index)
{
    mg_words z;
    for (int i = 0; i < MG_WORDS; i++) z[i] = index + 1 + (uint64_t)i;
    z = key + z * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

#endif
