/* Byte-level BPE: count chunks, learn merges, encode.  tokenizer/reference.py says what each result must be.
 *
 *   text -> split.h cuts chunks -> count.c counts them -> train.c learns merges
 *                                   -> encode.c (long.c for long chunks) turns them into ids
 *
 * A handle is used by one thread at a time, but an encoder, which is never changed, by any number.  Nothing here
 * prints, exits or keeps state outside its handles.  Salts only spread hash tables; no result depends on them. */
#ifndef BPE_H
#define BPE_H

#include <stdint.h>

/* cdef: begin */
enum {
    BPE_OK = 0,
    BPE_NO_MEMORY = -1,
    BPE_TOO_LARGE = -2,  /* a chunk of 2 GiB, or distinct chunks of more than 4 GiB together */
    BPE_BAD_MERGES = -3, /* a pair of ids not yet defined, or the same pair twice */
};

/* The encoder may write this many ids beyond the last one that it reports. */
enum { BPE_SLACK = 16 };

/* ---- splitting ---- */

/* Cut text (n) into chunks: ends (n) receives the end of each, returned is their number. */
int64_t bpe_split(int64_t *ends, const uint8_t *text, int64_t n);

/* The last place at or before `at` where text can be cut into two texts without changing any chunk: between a
 * character that is no white space and ASCII white space.  The first such place after `at` if there is none
 * before, n if there is none at all. */
int64_t bpe_safe_cut(const uint8_t *text, int64_t n, int64_t at);

/* ---- counting: how often each distinct chunk of two bytes or more occurs ---- */

typedef struct bpe_counter bpe_counter;

/* NULL: no memory. */
bpe_counter *bpe_counter_new(uint64_t salt);
void bpe_counter_free(bpe_counter *counter);

/* Count the chunks of n_texts texts that lie back to back in `text`, each with its length.  After an error the
 * counts are incomplete. */
int32_t bpe_counter_add(bpe_counter *counter, const uint8_t *text, const int64_t *lengths, int64_t n_texts);

/* Add the counts of a counter that was made with the same salt. */
int32_t bpe_counter_merge(bpe_counter *counter, const bpe_counter *other);

int64_t bpe_counter_size(const bpe_counter *counter);

/* Copy chunk i of the table, 0 <= i < bpe_counter_slots, if there is one: returns its length, or 0.  At most
 * `room` bytes are copied. */
int64_t bpe_counter_slots(const bpe_counter *counter);
int64_t bpe_counter_get(const bpe_counter *counter, int64_t i, uint8_t *chunk, int64_t room, uint64_t *count);

/* ---- training ---- */

typedef struct bpe_trainer bpe_trainer;

/* Prepare at most max_merges merges over the counted chunks; the counter is not needed afterwards.
 * bytes_by_rank (256): every byte once, in the order of ties.  single_digits: no merge holds a digit, 0 to 9. */
int32_t bpe_trainer_new(bpe_trainer **trainer, const bpe_counter *counter, const uint8_t *bytes_by_rank,
                        uint64_t salt, int64_t max_merges, int32_t single_digits);
void bpe_trainer_free(bpe_trainer *trainer);

/* Learn up to n more merges; merges (n,2) receives the pairs of token ids.  Returns their number, less than n
 * when no pair or no allowed merge is left, or a negative status, after which the trainer can only be freed. */
int64_t bpe_trainer_step(bpe_trainer *trainer, int32_t *merges, int64_t n);

/* ---- encoding ---- */

typedef struct bpe_encoder bpe_encoder;
typedef struct bpe_cache bpe_cache; /* recently encoded chunks: one per thread, for one encoder only */

/* merges (n_merges,2): pairs of ids, in the order learnt; merge i defines id 256+i. */
int32_t bpe_encoder_new(bpe_encoder **encoder, const int32_t *merges, int64_t n_merges, uint64_t salt);
void bpe_encoder_free(bpe_encoder *encoder);

/* NULL: no memory. */
bpe_cache *bpe_cache_new(void);
void bpe_cache_free(bpe_cache *cache);

/* Encode n_texts texts that lie back to back in `text`.  ids (sum of lengths + BPE_SLACK) receives the ids back to
 * back, n_ids (n_texts) the number for each text.  Returns the number of all ids, or a negative status. */
int64_t bpe_encode(const bpe_encoder *encoder, bpe_cache *cache, int32_t *ids, int64_t *n_ids,
                   const uint8_t *text, const int64_t *lengths, int64_t n_texts);
/* cdef: end */

#endif
