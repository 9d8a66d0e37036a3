/* Run training and encoding with the n-th allocation failing, for every n until none fails: each run must end with
 * a status, and the sanitizers must find no leak and no bad access.  Prints the number of runs.
 *
 * csrc/bpe*.c are compiled with -Dmalloc=failing_malloc and so on; this file is not. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bpe.h"

void *failing_malloc(size_t n);
void *failing_calloc(size_t n, size_t size);
void *failing_realloc(void *p, size_t n);
void *failing_aligned_alloc(size_t alignment, size_t n);

static int64_t left; /* allocations that succeed before one fails */

static int ok(void)
{
    return left-- != 0;
}

void *failing_malloc(size_t n) { return ok() ? malloc(n) : NULL; }
void *failing_calloc(size_t n, size_t size) { return ok() ? calloc(n, size) : NULL; }
void *failing_realloc(void *p, size_t n) { return ok() ? realloc(p, n) : NULL; }
void *failing_aligned_alloc(size_t alignment, size_t n) { return ok() ? aligned_alloc(alignment, n) : NULL; }

enum { N_TEXT = 60000, N_MERGES = 300 };

static uint8_t text[N_TEXT];
static int32_t ids[N_TEXT + BPE_SLACK], merges[2 * N_MERGES];

/* Words of four letters, many of them new, and a long run without a break. */
static void write_text(void)
{
    uint32_t state = 1;
    for (int i = 0; i < N_TEXT; i++) {
        state = state * 1664525u + 1013904223u;
        text[i] = i % 6 == 0 && i < N_TEXT / 2 ? ' ' : (uint8_t)('a' + (state >> 24) % 11);
    }
}

static int64_t learn(bpe_counter *counter, bpe_counter *other)
{
    uint8_t ranks[256];
    for (int i = 0; i < 256; i++) ranks[i] = (uint8_t)i;
    const int64_t half = N_TEXT / 2;
    bpe_trainer *trainer = NULL;
    int64_t n = bpe_counter_add(other, text + half, &half, 1);
    if (n == BPE_OK) n = bpe_counter_add(counter, text, &half, 1);
    if (n == BPE_OK) n = bpe_counter_merge(counter, other);
    if (n == BPE_OK) n = bpe_trainer_new(&trainer, counter, ranks, 1, N_MERGES, 0);
    if (n == BPE_OK) n = bpe_trainer_step(trainer, merges, N_MERGES);
    bpe_trainer_free(trainer);
    return n;
}

static int64_t encode(int64_t n_merges)
{
    const int64_t length = N_TEXT;
    int64_t n_ids;
    bpe_encoder *encoder = NULL;
    bpe_cache *cache = bpe_cache_new();
    int64_t n = cache ? bpe_encoder_new(&encoder, merges, n_merges, 1) : BPE_NO_MEMORY;
    if (n == BPE_OK) n = bpe_encode(encoder, cache, ids, &n_ids, text, &length, 1);
    bpe_encoder_free(encoder);
    bpe_cache_free(cache);
    return n;
}

static int64_t run(void)
{
    bpe_counter *counter = bpe_counter_new(1), *other = bpe_counter_new(1);
    int64_t n = counter && other ? learn(counter, other) : BPE_NO_MEMORY;
    bpe_counter_free(counter);
    bpe_counter_free(other);
    return n < 0 ? n : encode(n);
}

int main(void)
{
    write_text();
    for (int64_t runs = 0;; runs++) {
        left = runs;
        const int64_t n = run();
        if (left >= 0) {
            printf("%d\n", (int)runs);
            return n > 0 ? 0 : 1;
        }
        if (n != BPE_NO_MEMORY) return 2;
    }
}
