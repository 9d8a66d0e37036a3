/* SPDX-License-Identifier: MIT
 * Counter-based randomness: every number is a pure function of (key, index), so nothing has a state to save and no
 * order of work can change a result.  microgpt/core/random.py is the same in NumPy and says how keys are made. */
#ifndef MICROGPT_RANDOM_H
#define MICROGPT_RANDOM_H

#include <stdint.h>

/* The index-th 64 bits of the stream `key`: SplitMix64 (Steele, Lea & Flood 2014, doi 10.1145/2714064.2660195). */
static inline uint64_t mg_random_bits(uint64_t key, uint64_t index)
{
    uint64_t z = key + (index + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

#endif
