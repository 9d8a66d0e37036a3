/* Hashing of byte strings and of pairs of ids, and a map from pairs to numbers. */
#ifndef BPE_HASH_H
#define BPE_HASH_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bpe.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "bpe_load needs a little-endian machine"
#endif

/* Odd numbers without structure: the fractional digits of sqrt(2), sqrt(3) and sqrt(5). */
#define BPE_HASH_1 0x6A09E667F3BCC909u
#define BPE_HASH_2 0xBB67AE8584CAA73Bu
#define BPE_HASH_3 0x3C6EF372FE94F82Bu

/* Both halves of the 128-bit product: every bit of the result depends on every bit of a and b. */
static inline uint64_t bpe_mix(uint64_t a, uint64_t b)
{
    __extension__ typedef unsigned __int128 wide;
    const wide product = (wide)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* The first min(n, 8) bytes at p as a number, zero beyond; n >= 0.  room >= n bytes can be read. */
static inline uint64_t bpe_load(const uint8_t *p, int64_t n, int64_t room)
{
    uint64_t word = 0;
    if (room < 8) {
        memcpy(&word, p, (size_t)n);
        return word;
    }
    memcpy(&word, p, 8);
    return n >= 8 ? word : word & ((UINT64_C(1) << (8 * n)) - 1);
}

/* Hash of the n bytes at p, of which room >= n can be read. */
static inline uint64_t bpe_hash(const uint8_t *p, int64_t n, int64_t room, uint64_t salt)
{
    uint64_t hash = bpe_mix(salt ^ (uint64_t)n, BPE_HASH_1);
    while (n > 8) {
        hash = bpe_mix(hash ^ bpe_load(p, 8, room), BPE_HASH_2);
        p += 8, n -= 8, room -= 8;
    }
    return bpe_mix(hash ^ bpe_load(p, n, room), BPE_HASH_3);
}

/* ---- pairs ---- */

static inline uint64_t bpe_pair(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

#define BPE_NONE UINT32_MAX /* the value of a pair that is not in the map */

/* Open addressing with linear probing, at most half full.  values[i] == BPE_NONE: free. */
typedef struct {
    uint64_t *keys;
    uint32_t *values;
    uint64_t mask, n, salt;
} bpe_map;

static inline uint64_t bpe_map_slot(const bpe_map *map, uint64_t pair)
{
    uint64_t i = bpe_mix(pair ^ map->salt, BPE_HASH_1) & map->mask;
    while (map->values[i] != BPE_NONE && map->keys[i] != pair) i = (i + 1) & map->mask;
    return i;
}

/* The value of a pair, or BPE_NONE. */
static inline uint32_t bpe_map_get(const bpe_map *map, uint64_t pair)
{
    return map->values[bpe_map_slot(map, pair)];
}

void bpe_map_free(bpe_map *map);

/* An empty map with room for at least n pairs.  A map of zeros, or one that failed here, can be freed. */
int32_t bpe_map_init(bpe_map *map, uint64_t n, uint64_t salt);

/* Add a pair that is not in the map.  value < BPE_NONE. */
int32_t bpe_map_add(bpe_map *map, uint64_t pair, uint32_t value);

#endif
