/* What an encoder holds, shared by the two ways of merging. */
#ifndef BPE_ENCODER_H
#define BPE_ENCODER_H

#include <stdint.h>

#include "bpe.h"
#include "hash.h"

struct bpe_encoder {
    bpe_map ranks;   /* pair -> merge that joins it, which makes id 256+merge */
    int32_t *merges; /* (n_merges,2) */
    int64_t *length; /* (256+n_merges) bytes of each id, at most INT32_MAX */
};

/* Encode a long chunk in O(n log n): ids (n) receives the ids, returned is their number or a status. */
int64_t bpe_merge_long(const bpe_encoder *encoder, int32_t *ids, const uint8_t *chunk, int64_t n);

#endif
