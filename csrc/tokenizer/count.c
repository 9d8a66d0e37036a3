/* Counting distinct chunks: one open-addressing table, the bytes of the chunks in one growing block.
 *
 * Natural text has few distinct chunks (some 100,000 in 100 MB of dialogue), so from here on the size of the corpus
 * does not matter.  Chunks of one byte hold no pair and are not kept. */
#include <stdlib.h>
#include <string.h>

#include "counter.h"
#include "hash.h"
#include "split.h"

bpe_counter *bpe_counter_new(uint64_t salt)
{
    bpe_counter *counter = calloc(1, sizeof *counter);
    if (!counter) return NULL;
    counter->salt = salt;
    counter->mask = (1 << 12) - 1;
    counter->chunks = calloc(counter->mask + 1, sizeof *counter->chunks);
    if (counter->chunks) return counter;
    free(counter);
    return NULL;
}

void bpe_counter_free(bpe_counter *counter)
{
    if (!counter) return;
    free(counter->chunks);
    free(counter->bytes);
    free(counter);
}

static int32_t grow_table(bpe_counter *counter)
{
    const uint64_t mask = 2 * counter->mask + 1;
    bpe_chunk *chunks = calloc(mask + 1, sizeof *chunks);
    if (!chunks) return BPE_NO_MEMORY;
    for (uint64_t i = 0; i <= counter->mask; i++) {
        if (!counter->chunks[i].count) continue;
        uint64_t k = counter->chunks[i].hash & mask;
        while (chunks[k].count) k = (k + 1) & mask;
        chunks[k] = counter->chunks[i];
    }
    free(counter->chunks);
    counter->chunks = chunks;
    counter->mask = mask;
    return BPE_OK;
}

/* Room for `length` more bytes. */
static int32_t grow_bytes(bpe_counter *counter, uint64_t length)
{
    if (counter->used + length <= counter->capacity) return BPE_OK;
    uint64_t capacity = counter->capacity ? counter->capacity : 1 << 16;
    while (capacity < counter->used + length) capacity += capacity / 2;
    uint8_t *bytes = realloc(counter->bytes, capacity);
    if (!bytes) return BPE_NO_MEMORY;
    counter->bytes = bytes;
    counter->capacity = capacity;
    return BPE_OK;
}

/* Put a chunk into the free place i of the table. */
static int32_t insert(bpe_counter *counter, uint64_t i, bpe_chunk chunk, const uint8_t *bytes)
{
    const int32_t status = grow_bytes(counter, chunk.length);
    if (status != BPE_OK) return status;
    memcpy(counter->bytes + counter->used, bytes, chunk.length);
    chunk.offset = counter->used;
    counter->used += chunk.length;
    counter->chunks[i] = chunk;
    counter->n++;
    return 2 * counter->n > counter->mask ? grow_table(counter) : BPE_OK;
}

/* Add chunk.count to the chunk of these bytes; chunk.offset is not used. */
static inline int32_t add(bpe_counter *counter, bpe_chunk chunk, const uint8_t *bytes)
{
    uint64_t i = chunk.hash & counter->mask;
    for (; counter->chunks[i].count; i = (i + 1) & counter->mask) {
        bpe_chunk *here = counter->chunks + i;
        if (here->hash == chunk.hash && here->length == chunk.length &&
            !memcmp(counter->bytes + here->offset, bytes, chunk.length)) {
            here->count += chunk.count;
            return BPE_OK;
        }
    }
    return insert(counter, i, chunk, bytes);
}

int32_t bpe_counter_add(bpe_counter *counter, const uint8_t *text, const int64_t *lengths, int64_t n_texts)
{
    int64_t room = 0; /* bytes from `text` to the end of the last text */
    for (int64_t k = 0; k < n_texts; k++) room += lengths[k];
    for (int64_t k = 0; k < n_texts; k++) {
        const int64_t n = lengths[k];
        for (int64_t i = 0, end; i < n; i = end) {
            end = bpe_chunk_end(text, i, n);
            const int64_t length = end - i;
            if (length < 2) continue;
            if (length > INT32_MAX) return BPE_TOO_LARGE;
            const uint64_t hash = bpe_hash(text + i, length, room - i, counter->salt);
            const int32_t status = add(
                counter, (bpe_chunk){.hash = hash, .count = 1, .length = (uint32_t)length}, text + i);
            if (status != BPE_OK) return status;
        }
        text += n;
        room -= n;
    }
    return BPE_OK;
}

int32_t bpe_counter_merge(bpe_counter *counter, const bpe_counter *other)
{
    int32_t status = BPE_OK;
    for (uint64_t i = 0; status == BPE_OK && i <= other->mask; i++)
        if (other->chunks[i].count)
            status = add(counter, other->chunks[i], other->bytes + other->chunks[i].offset);
    return status;
}

int64_t bpe_counter_size(const bpe_counter *counter)
{
    return (int64_t)counter->n;
}

int64_t bpe_counter_slots(const bpe_counter *counter)
{
    return (int64_t)counter->mask + 1;
}

int64_t bpe_counter_get(const bpe_counter *counter, int64_t i, uint8_t *chunk, int64_t room, uint64_t *count)
{
    const bpe_chunk *here = counter->chunks + i;
    if (!here->count) return 0;
    const uint64_t copied = here->length < (uint64_t)room ? here->length : (uint64_t)room;
    if (copied) memcpy(chunk, counter->bytes + here->offset, copied);
    *count = here->count;
    return here->length;
}
