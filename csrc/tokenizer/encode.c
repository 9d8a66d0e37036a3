/* Encoding: look every chunk up among those encoded lately, merge those that are new.  Chunks are cut in groups, so
 * that all lines of a group are on their way to the processor before the first is looked at.
 *
 * The cache is one table of lines of 64 bytes, one chunk each, the newer replacing the older: no lists, no locks, no
 * growth.  In dialogue more than 98 % of all chunks are found there. */
#include <stdlib.h>
#include <string.h>

#include "encoder.h"
#include "split.h"

enum {
    CACHE_LINES = 1 << 16, /* 4 MiB: beyond the second-level cache, but a miss costs more (benchmarks/LOG.md) */
    CACHED_BYTES = 24,
    CACHED_IDS = 9,
    SHORT_BYTES = 64, /* up to here scanning all pairs for the best beats a heap */
    GROUP = 32,       /* chunks cut before the first is encoded */
};

typedef struct {
    uint64_t key[3]; /* the bytes of the chunk, zero-filled */
    int32_t ids[CACHED_IDS];
    uint8_t length, n_ids; /* length 0: empty */
    uint8_t unused[2];
} cache_line;

_Static_assert(sizeof(cache_line) == 64, "one cache line");
_Static_assert((int)BPE_SLACK >= (int)CACHED_IDS, "all ids of a line are copied");

struct bpe_cache {
    cache_line lines[CACHE_LINES];
};

bpe_cache *bpe_cache_new(void)
{
    bpe_cache *cache = aligned_alloc(64, sizeof *cache);
    if (cache) memset(cache, 0, sizeof *cache);
    return cache;
}

void bpe_cache_free(bpe_cache *cache)
{
    free(cache);
}

void bpe_encoder_free(bpe_encoder *encoder)
{
    if (!encoder) return;
    bpe_map_free(&encoder->ranks);
    free(encoder->merges);
    free(encoder->length);
    free(encoder);
}

/* Define id 256+i. */
static int32_t add_merge(bpe_encoder *encoder, const int32_t *pair, int64_t i)
{
    if (pair[0] < 0 || pair[0] >= 256 + i || pair[1] < 0 || pair[1] >= 256 + i) return BPE_BAD_MERGES;
    const int64_t length = encoder->length[pair[0]] + encoder->length[pair[1]];
    if (length > INT32_MAX) return BPE_TOO_LARGE;
    encoder->length[256 + i] = length;
    if (bpe_map_get(&encoder->ranks, bpe_pair(pair[0], pair[1])) != BPE_NONE) return BPE_BAD_MERGES;
    return bpe_map_add(&encoder->ranks, bpe_pair(pair[0], pair[1]), (uint32_t)i);
}

static int32_t fill(bpe_encoder *encoder, const int32_t *merges, int64_t n_merges, uint64_t salt)
{
    encoder->merges = malloc(2 * (size_t)n_merges * sizeof *merges + 1);
    encoder->length = malloc((size_t)(256 + n_merges) * sizeof *encoder->length);
    int32_t status = bpe_map_init(&encoder->ranks, 2 * (uint64_t)n_merges, salt); /* sparse: most pairs miss */
    if (!encoder->merges || !encoder->length) status = BPE_NO_MEMORY;
    if (status != BPE_OK) return status;
    memcpy(encoder->merges, merges, 2 * (size_t)n_merges * sizeof *merges);
    for (int k = 0; k < 256; k++) encoder->length[k] = 1;
    for (int64_t i = 0; status == BPE_OK && i < n_merges; i++) status = add_merge(encoder, merges + 2 * i, i);
    return status;
}

int32_t bpe_encoder_new(bpe_encoder **encoder, const int32_t *merges, int64_t n_merges, uint64_t salt)
{
    *encoder = NULL;
    if (n_merges < 0 || n_merges > INT32_MAX - 256) return BPE_TOO_LARGE;
    bpe_encoder *e = calloc(1, sizeof *e);
    if (!e) return BPE_NO_MEMORY;
    const int32_t status = fill(e, merges, n_merges, salt);
    if (status == BPE_OK) *encoder = e;
    else bpe_encoder_free(e);
    return status;
}

static uint32_t rank_of(const bpe_encoder *encoder, const int32_t *pair)
{
    return bpe_map_get(&encoder->ranks, bpe_pair(pair[0], pair[1]));
}

/* Encode a chunk of 1 to SHORT_BYTES bytes by merging the best pair until there is none. */
static int64_t merge_short(const bpe_encoder *encoder, int32_t *ids, const uint8_t *chunk, int64_t n)
{
    uint32_t ranks[SHORT_BYTES]; /* of the pair that starts at each id; BPE_NONE is larger than any */
    for (int64_t i = 0; i < n; i++) ids[i] = chunk[i];
    for (int64_t i = 0; i + 1 < n; i++) ranks[i] = rank_of(encoder, ids + i);
    while (n > 1) {
        int64_t best = 0;
        for (int64_t i = 1; i + 1 < n; i++)
            if (ranks[i] < ranks[best]) best = i;
        if (ranks[best] == BPE_NONE) break;
        ids[best] = 256 + (int32_t)ranks[best];
        n--;
        for (int64_t i = best + 1; i < n; i++) ids[i] = ids[i + 1];
        for (int64_t i = best + 1; i + 1 < n; i++) ranks[i] = ranks[i + 1];
        if (best > 0) ranks[best - 1] = rank_of(encoder, ids + best - 1);
        if (best + 1 < n) ranks[best] = rank_of(encoder, ids + best);
    }
    return n;
}

typedef struct {
    const uint8_t *bytes;
    int64_t length, text; /* text: the number of the text it is of */
    uint64_t key[3];      /* of a chunk of at most CACHED_BYTES, and the line where it is or will be */
    cache_line *line;
} piece;

/* Cut off the chunk that starts at text[i], i < n, of which `room` bytes can be read, and ask for its line. */
static inline piece cut(bpe_cache *cache, const uint8_t *text, int64_t i, int64_t n, int64_t room)
{
    piece p = {.bytes = text + i, .length = bpe_chunk_end(text, i, n) - i};
    if (p.length > CACHED_BYTES) return p;
    p.key[0] = bpe_load(p.bytes, p.length, room);
    if (p.length > 8) p.key[1] = bpe_load(p.bytes + 8, p.length - 8, room - 8);
    if (p.length > 16) p.key[2] = bpe_load(p.bytes + 16, p.length - 16, room - 16);
    const uint64_t hash = bpe_mix(p.key[0] ^ BPE_HASH_1, BPE_HASH_2) ^
                          bpe_mix(p.key[1] ^ BPE_HASH_2, p.key[2] ^ BPE_HASH_3);
    p.line = cache->lines + hash % CACHE_LINES;
    __builtin_prefetch(p.line);
    return p;
}

/* Encode a chunk of 1 to CACHED_BYTES bytes. */
static inline int64_t encode_cached(const bpe_encoder *encoder, int32_t *ids, const piece *p)
{
    const uint64_t *key = p->key;
    cache_line *line = p->line;
    if (line->key[0] == key[0] && line->key[1] == key[1] && line->key[2] == key[2] && line->length == p->length) {
        memcpy(ids, line->ids, sizeof line->ids);
        return line->n_ids;
    }
    const int64_t n_ids = merge_short(encoder, ids, p->bytes, p->length);
    if (n_ids > CACHED_IDS) return n_ids;
    *line = (cache_line){.key = {key[0], key[1], key[2]}, .length = (uint8_t)p->length, .n_ids = (uint8_t)n_ids};
    memcpy(line->ids, ids, (size_t)n_ids * sizeof *ids);
    return n_ids;
}

static inline int64_t encode_piece(const bpe_encoder *encoder, int32_t *ids, const piece *p)
{
    if (p->length <= CACHED_BYTES) return encode_cached(encoder, ids, p);
    if (p->length <= SHORT_BYTES) return merge_short(encoder, ids, p->bytes, p->length);
    if (p->length <= INT32_MAX) return bpe_merge_long(encoder, ids, p->bytes, p->length);
    return BPE_TOO_LARGE;
}

int64_t bpe_encode(const bpe_encoder *encoder, bpe_cache *cache, int32_t *ids, int64_t *n_ids,
                   const uint8_t *text, const int64_t *lengths, int64_t n_texts)
{
    piece group[GROUP];
    int64_t total = 0, room = 0, i = 0; /* i: bytes of text k that are cut */
    for (int64_t k = 0; k < n_texts; k++) {
        room += lengths[k];
        n_ids[k] = 0;
    }
    for (int64_t k = 0; k < n_texts;) {
        int64_t size = 0;
        while (size < GROUP && k < n_texts) {
            if (i == lengths[k]) {
                text += lengths[k];
                room -= lengths[k++];
                i = 0;
                continue;
            }
            group[size] = cut(cache, text, i, lengths[k], room - i);
            group[size].text = k;
            i += group[size++].length;
        }
        for (int64_t g = 0; g < size; g++) {
            const int64_t added = encode_piece(encoder, ids + total, group + g);
            if (added < 0) return added;
            n_ids[group[g].text] += added;
            total += added;
        }
    }
    return total;
}
