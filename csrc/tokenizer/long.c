/* Encoding one long chunk (a line of base64, a megabyte of one letter) without quadratic time: possible merges wait
 * in a heap, lowest rank first, then leftmost.  Tokens lie in `ids` as in train.c: on their first and on their
 * last byte, INNER between; an entry of the heap whose tokens have meanwhile been joined to others is skipped. */
#include "encoder.h"
#include "heap.h"

enum { INNER = -2 };

/* Put the pair of the tokens left and right, left starting at p, into the heap if it can be merged. */
static int32_t offer(const bpe_encoder *encoder, bpe_heap *heap, int32_t left, int32_t right, int64_t p)
{
    const uint32_t rank = bpe_map_get(&encoder->ranks, bpe_pair(left, right));
    return rank == BPE_NONE ? BPE_OK : bpe_heap_push(heap, (bpe_item){rank, (uint64_t)p});
}

/* Apply the merge of `item` if its tokens still stand there, and offer the two pairs that arise. */
static int32_t apply(const bpe_encoder *encoder, bpe_heap *heap, bpe_item item, int32_t *ids, int64_t n)
{
    const int32_t *pair = encoder->merges + 2 * item.first, new = 256 + (int32_t)item.first;
    const int64_t p = (int64_t)item.second, middle = p + encoder->length[pair[0]];
    if (ids[p] != pair[0] || middle >= n || ids[middle] != pair[1]) return BPE_OK;
    const int64_t end = middle + encoder->length[pair[1]];
    ids[middle - 1] = ids[middle] = INNER;
    ids[p] = ids[end - 1] = new;
    int32_t status = BPE_OK;
    if (p > 0) status = offer(encoder, heap, ids[p - 1], new, p - encoder->length[ids[p - 1]]);
    if (status == BPE_OK && end < n) status = offer(encoder, heap, new, ids[end], p);
    return status;
}

int64_t bpe_merge_long(const bpe_encoder *encoder, int32_t *ids, const uint8_t *chunk, int64_t n)
{
    bpe_heap heap = {0};
    int32_t status = BPE_OK;
    for (int64_t p = 0; p < n; p++) ids[p] = chunk[p];
    for (int64_t p = 0; status == BPE_OK && p + 1 < n; p++) status = offer(encoder, &heap, ids[p], ids[p + 1], p);
    while (status == BPE_OK && heap.n) status = apply(encoder, &heap, bpe_heap_pop(&heap), ids, n);
    free(heap.items);
    if (status != BPE_OK) return status;
    int64_t n_ids = 0;
    for (int64_t p = 0; p < n; p += encoder->length[ids[n_ids++]]) ids[n_ids] = ids[p];
    return n_ids;
}
