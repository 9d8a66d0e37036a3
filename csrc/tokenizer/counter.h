/* What a counter holds: read by the trainer. */
#ifndef BPE_COUNTER_H
#define BPE_COUNTER_H

#include <stdint.h>

#include "bpe.h"

typedef struct {
    uint64_t hash;
    uint64_t count;  /* 0: this place of the table is free */
    uint64_t offset; /* of its bytes in bpe_counter.bytes */
    uint32_t length;
} bpe_chunk;

struct bpe_counter {
    bpe_chunk *chunks; /* (mask+1), at most half full */
    uint64_t mask, n;
    uint8_t *bytes;
    uint64_t used, capacity;
    uint64_t salt;
};

#endif
