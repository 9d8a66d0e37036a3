/* A binary heap of pairs of numbers, the smallest (first, then second) on top. */
#ifndef BPE_HEAP_H
#define BPE_HEAP_H

#include <stdint.h>
#include <stdlib.h>

#include "bpe.h"

typedef struct {
    uint64_t first, second;
} bpe_item;

typedef struct {
    bpe_item *items;
    uint64_t n, capacity;
} bpe_heap;

static inline int bpe_item_less(bpe_item a, bpe_item b)
{
    return a.first != b.first ? a.first < b.first : a.second < b.second;
}

static inline int32_t bpe_heap_push(bpe_heap *heap, bpe_item item)
{
    if (heap->n == heap->capacity) {
        const uint64_t capacity = heap->capacity ? 2 * heap->capacity : 1024;
        bpe_item *items = realloc(heap->items, capacity * sizeof *items);
        if (!items) return BPE_NO_MEMORY;
        heap->items = items;
        heap->capacity = capacity;
    }
    uint64_t i = heap->n++;
    for (; i > 0 && bpe_item_less(item, heap->items[(i - 1) / 2]); i = (i - 1) / 2)
        heap->items[i] = heap->items[(i - 1) / 2];
    heap->items[i] = item;
    return BPE_OK;
}

/* Remove the top; the heap must not be empty. */
static inline bpe_item bpe_heap_pop(bpe_heap *heap)
{
    const bpe_item top = heap->items[0], item = heap->items[--heap->n];
    uint64_t i = 0;
    for (uint64_t child; (child = 2 * i + 1) < heap->n; i = child) {
        if (child + 1 < heap->n && bpe_item_less(heap->items[child + 1], heap->items[child])) child++;
        if (!bpe_item_less(heap->items[child], item)) break;
        heap->items[i] = heap->items[child];
    }
    heap->items[i] = item;
    return top;
}

#endif
