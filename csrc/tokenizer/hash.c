/* The map from pairs of ids to numbers that training and encoding share. */
#include "hash.h"

void bpe_map_free(bpe_map *map)
{
    free(map->keys);
    free(map->values);
    memset(map, 0, sizeof *map);
}

int32_t bpe_map_init(bpe_map *map, uint64_t n, uint64_t salt)
{
    uint64_t slots = 64;
    while (slots < 2 * n) slots *= 2;
    map->keys = malloc(slots * sizeof *map->keys);
    map->values = malloc(slots * sizeof *map->values);
    map->mask = slots - 1;
    map->n = 0;
    map->salt = salt;
    if (!map->keys || !map->values) return BPE_NO_MEMORY;
    memset(map->values, 0xFF, slots * sizeof *map->values); /* BPE_NONE */
    return BPE_OK;
}

static int32_t grow(bpe_map *map)
{
    bpe_map larger;
    const int32_t status = bpe_map_init(&larger, map->mask + 1, map->salt);
    for (uint64_t i = 0; status == BPE_OK && i <= map->mask; i++)
        if (map->values[i] != BPE_NONE) bpe_map_add(&larger, map->keys[i], map->values[i]);
    bpe_map_free(status == BPE_OK ? map : &larger);
    if (status == BPE_OK) *map = larger;
    return status;
}

int32_t bpe_map_add(bpe_map *map, uint64_t pair, uint32_t value)
{
    if (2 * (map->n + 1) > map->mask + 1) {
        const int32_t status = grow(map);
        if (status != BPE_OK) return status;
    }
    const uint64_t i = bpe_map_slot(map, pair);
    map->keys[i] = pair;
    map->values[i] = value;
    map->n++;
    return BPE_OK;
}
