/* Learning merges: the counts of all pairs are kept up to date while merges are applied in place.
 *
 * The distinct chunks lie in one array `symbols`, one element per byte, a SEPARATOR before, between and after them
 * and, where digits stay single, in place of each.
 * A token of n bytes is written on its first and on its last byte, INNER between.  So from any token its neighbours
 * are found by the lengths of tokens, without links, and a merge writes four elements.
 *
 * Every pair has its weight (occurrences times the count of their chunk) and the list of its positions, made in
 * ascending order by the one merge that made the newer of its two tokens, and never added to later.  So:
 *   - a weight only falls after that, and the heap of weights can be corrected lazily, when a pair reaches the top;
 *   - a list goes stale but never lacks a position; a position is good if both tokens still stand there.  (No other
 *     token can come to look like `left` there: a position that has been joined to its left holds INNER or the
 *     longer token that ends there.)
 * The work of a merge is the length of its list, and all lists together have at most three positions per byte.
 *
 * Inside, a byte is its rank in the order of ties (tokenizer/alphabet.py), so that order is that of the pair. */
#include <stdlib.h>
#include <string.h>

#include "counter.h"
#include "hash.h"
#include "heap.h"

enum { SEPARATOR = -1, INNER = -2 };

typedef struct {
    uint64_t weight;
    uint64_t list; /* where its n positions start in bpe_trainer.positions */
    uint32_t n;
} pair_info;

/* What one merge finds on one side of its occurrences, by the token that stands there. */
typedef struct {
    uint64_t *weight;    /* (tokens) */
    uint32_t *n;         /* (tokens) number of positions; while the lists are filled, the number still to come */
    int32_t *seen;       /* (n_seen) tokens with n > 0, in order of appearance */
    int32_t *tokens;     /* (n_events) in order of position: the token ... */
    uint32_t *positions; /* ... and where the new pair starts */
    int64_t n_seen, n_events, capacity;
} side;

struct bpe_trainer {
    int32_t *symbols;     /* (n_symbols) */
    uint32_t *chunk_of;   /* (n_symbols) */
    uint64_t *chunk_count;
    uint64_t n_symbols;
    int64_t *length;      /* (256+max_merges) bytes of each token */
    int64_t n_merges, max_merges;
    uint8_t bytes_by_rank[256];
    bpe_map map; /* pair -> index in pairs */
    pair_info *pairs;
    uint64_t n_pairs, pairs_capacity;
    uint32_t *positions;
    uint64_t n_positions, positions_capacity;
    bpe_heap heap; /* first: weight, inverted; second: pair */
    side before, after;
};

/* ---- memory ---------------------------------------------------------------------------------------------- */

static void free_side(side *s)
{
    free(s->weight);
    free(s->n);
    free(s->seen);
    free(s->tokens);
    free(s->positions);
}

void bpe_trainer_free(bpe_trainer *t)
{
    if (!t) return;
    free(t->symbols);
    free(t->chunk_of);
    free(t->chunk_count);
    free(t->length);
    bpe_map_free(&t->map);
    free(t->pairs);
    free(t->positions);
    free(t->heap.items);
    free_side(&t->before);
    free_side(&t->after);
    free(t);
}

static int32_t new_side(side *s, size_t n_tokens)
{
    s->weight = calloc(n_tokens, sizeof *s->weight);
    s->n = calloc(n_tokens, sizeof *s->n);
    s->seen = malloc(n_tokens * sizeof *s->seen);
    return s->weight && s->n && s->seen ? BPE_OK : BPE_NO_MEMORY;
}

/* Room for n events. */
static int32_t reserve_events(side *s, int64_t n)
{
    if (n <= s->capacity) return BPE_OK;
    free(s->tokens);
    free(s->positions);
    s->tokens = malloc((size_t)n * sizeof *s->tokens);
    s->positions = malloc((size_t)n * sizeof *s->positions);
    s->capacity = s->tokens && s->positions ? n : 0;
    return s->capacity ? BPE_OK : BPE_NO_MEMORY;
}

/* Room for n more positions. */
static int32_t reserve_positions(bpe_trainer *t, uint64_t n)
{
    if (t->n_positions + n <= t->positions_capacity) return BPE_OK;
    const uint64_t capacity = t->n_positions + n + t->n_positions / 4;
    uint32_t *positions = realloc(t->positions, capacity * sizeof *positions);
    if (!positions) return BPE_NO_MEMORY;
    t->positions = positions;
    t->positions_capacity = capacity;
    return BPE_OK;
}

/* ---- pairs ----------------------------------------------------------------------------------------------- */

/* Add a pair with room for n positions, which the caller fills in.  reserve_positions comes first. */
static int32_t add_pair(bpe_trainer *t, uint64_t pair, uint64_t weight, uint32_t n)
{
    if (t->n_pairs == t->pairs_capacity) {
        const uint64_t capacity = t->pairs_capacity ? 2 * t->pairs_capacity : 4096;
        pair_info *pairs = realloc(t->pairs, capacity * sizeof *pairs);
        if (!pairs) return BPE_NO_MEMORY;
        t->pairs = pairs;
        t->pairs_capacity = capacity;
    }
    if (t->n_pairs >= BPE_NONE) return BPE_TOO_LARGE;
    const int32_t status = bpe_map_add(&t->map, pair, (uint32_t)t->n_pairs);
    if (status != BPE_OK) return status;
    t->pairs[t->n_pairs++] = (pair_info){.weight = weight, .list = t->n_positions, .n = n};
    t->n_positions += n;
    return weight ? bpe_heap_push(&t->heap, (bpe_item){~weight, pair}) : BPE_OK;
}

static pair_info *find_pair(const bpe_trainer *t, uint64_t pair)
{
    return t->pairs + bpe_map_get(&t->map, pair);
}

/* The heaviest pair, taken off the heap, in *pair; 0 if none is left. */
static int take_best(bpe_trainer *t, uint64_t *pair)
{
    while (t->heap.n) {
        const bpe_item top = bpe_heap_pop(&t->heap);
        const uint64_t weight = find_pair(t, top.second)->weight;
        *pair = top.second;
        if (weight == ~top.first) return 1;
        if (weight) (void)bpe_heap_push(&t->heap, (bpe_item){~weight, top.second}); /* there is room: one was taken */
    }
    return 0;
}

/* ---- one merge ------------------------------------------------------------------------------------------- */

static void note(side *s, int32_t token, uint64_t position, uint64_t weight)
{
    if (!s->n[token]++) s->seen[s->n_seen++] = token;
    s->weight[token] += weight;
    s->tokens[s->n_events] = token;
    s->positions[s->n_events++] = (uint32_t)position;
}

/* Replace left right by `new` at every position of the list that is still good, and note the neighbours. */
static void join_all(bpe_trainer *t, const pair_info *info, int32_t left, int32_t right, int32_t new)
{
    const uint64_t n_left = (uint64_t)t->length[left], n_new = (uint64_t)t->length[new];
    const uint32_t *list = t->positions + info->list;
    int32_t *symbols = t->symbols;
    for (uint32_t k = 0; k < info->n; k++) {
        const uint64_t p = list[k], middle = p + n_left, end = p + n_new;
        if (symbols[p] != left || symbols[middle] != right) continue;
        const uint64_t weight = t->chunk_count[t->chunk_of[p]];
        const int32_t previous = symbols[p - 1], next = symbols[end];
        if (previous >= 0) note(&t->before, previous, p - (uint64_t)t->length[previous], weight);
        if (next >= 0) note(&t->after, next, p, weight);
        symbols[middle - 1] = symbols[middle] = INNER;
        symbols[p] = symbols[end - 1] = new;
    }
}

/* Add the pairs of `new` with every token noted on one side, and forget the notes. */
static int32_t add_noted(bpe_trainer *t, side *s, int32_t new, int new_is_left)
{
    for (int64_t k = 0; k < s->n_seen; k++) {
        const int32_t token = s->seen[k];
        const uint64_t pair = new_is_left ? bpe_pair(new, token) : bpe_pair(token, new);
        const int32_t status = add_pair(t, pair, s->weight[token], s->n[token]);
        if (status != BPE_OK) return status;
        s->weight[token] = t->n_positions; /* from here on: where the list of the pair ends */
    }
    for (int64_t k = 0; k < s->n_events; k++) {
        const int32_t token = s->tokens[k];
        t->positions[s->weight[token] - s->n[token]--] = s->positions[k];
    }
    for (int64_t k = 0; k < s->n_seen; k++) s->weight[s->seen[k]] = 0;
    s->n_seen = s->n_events = 0;
    return BPE_OK;
}

/* x left right y has become x new y: (x, left) and (right, y) lose what (x, new) and (new, y) win.  Where x is
 * itself new, (new, left) is not yet a pair but a note of the occurrence before, which is taken back. */
static int32_t update_pairs(bpe_trainer *t, int32_t left, int32_t right, int32_t new)
{
    side *before = &t->before, *after = &t->after;
    for (int64_t k = 0; k < after->n_seen; k++)
        find_pair(t, bpe_pair(right, after->seen[k]))->weight -= after->weight[after->seen[k]];
    for (int64_t k = 0; k < before->n_seen; k++)
        if (before->seen[k] != new)
            find_pair(t, bpe_pair(before->seen[k], left))->weight -= before->weight[before->seen[k]];
    after->weight[left] -= before->weight[new];

    int32_t status = reserve_positions(t, (uint64_t)(before->n_events + after->n_events));
    if (status == BPE_OK) status = add_noted(t, before, new, 0);
    if (status == BPE_OK) status = add_noted(t, after, new, 1);
    return status;
}

static int32_t merge(bpe_trainer *t, uint64_t pair)
{
    const int32_t left = (int32_t)(pair >> 32), right = (int32_t)(pair & UINT32_MAX);
    const int32_t new = 256 + (int32_t)t->n_merges++;
    const pair_info *info = find_pair(t, pair);
    t->length[new] = t->length[left] + t->length[right];
    int32_t status = reserve_events(&t->before, info->n);
    if (status == BPE_OK) status = reserve_events(&t->after, info->n);
    if (status != BPE_OK) return status;
    join_all(t, info, left, right, new);
    return update_pairs(t, left, right, new);
}

int64_t bpe_trainer_step(bpe_trainer *t, int32_t *merges, int64_t n)
{
    int64_t done = 0;
    uint64_t pair;
    while (done < n && t->n_merges < t->max_merges && take_best(t, &pair)) {
        const int32_t left = (int32_t)(pair >> 32), right = (int32_t)(pair & UINT32_MAX);
        const int32_t status = merge(t, pair);
        if (status != BPE_OK) return status;
        merges[2 * done] = left < 256 ? t->bytes_by_rank[left] : left;
        merges[2 * done + 1] = right < 256 ? t->bytes_by_rank[right] : right;
        done++;
    }
    return done;
}

/* ---- the start ------------------------------------------------------------------------------------------- */

/* Lay out the chunks as symbols: bytes by rank, or the separator, which is never merged. */
static int32_t lay_out(bpe_trainer *t, const bpe_counter *counter, const int32_t *symbol_of_byte)
{
    t->n_symbols = counter->used + counter->n + 1;
    if (t->n_symbols > UINT32_MAX || counter->n > UINT32_MAX) return BPE_TOO_LARGE;
    t->symbols = malloc(t->n_symbols * sizeof *t->symbols);
    t->chunk_of = malloc(t->n_symbols * sizeof *t->chunk_of);
    t->chunk_count = malloc((counter->n + 1) * sizeof *t->chunk_count);
    if (!t->symbols || !t->chunk_of || !t->chunk_count) return BPE_NO_MEMORY;
    uint64_t end = 0;
    uint32_t n_chunks = 0;
    t->symbols[end++] = SEPARATOR;
    for (uint64_t i = 0; i <= counter->mask; i++) {
        const bpe_chunk *chunk = counter->chunks + i;
        if (!chunk->count) continue;
        for (uint64_t k = 0; k < chunk->length; k++, end++) {
            t->symbols[end] = symbol_of_byte[counter->bytes[chunk->offset + k]];
            t->chunk_of[end] = n_chunks;
        }
        t->symbols[end++] = SEPARATOR;
        t->chunk_count[n_chunks++] = chunk->count;
    }
    return BPE_OK;
}

/* Count the pairs of bytes and list their positions; weight and end (65536) are zeros, by left and right rank. */
static int32_t list_byte_pairs(bpe_trainer *t, uint64_t *weight, uint64_t *end)
{
    const int32_t *symbols = t->symbols;
    for (uint64_t p = 1; p + 1 < t->n_symbols; p++) {
        if (symbols[p] < 0 || symbols[p + 1] < 0) continue;
        weight[symbols[p] << 8 | symbols[p + 1]] += t->chunk_count[t->chunk_of[p]];
        end[symbols[p] << 8 | symbols[p + 1]]++;
    }
    int32_t status = reserve_positions(t, t->n_symbols);
    for (int32_t pair = 0; status == BPE_OK && pair < 65536; pair++) {
        const uint32_t n = (uint32_t)end[pair];
        end[pair] = t->n_positions;
        if (n) status = add_pair(t, bpe_pair(pair >> 8, pair & 255), weight[pair], n);
    }
    for (uint64_t p = 1; status == BPE_OK && p + 1 < t->n_symbols; p++)
        if (symbols[p] >= 0 && symbols[p + 1] >= 0)
            t->positions[end[symbols[p] << 8 | symbols[p + 1]]++] = (uint32_t)p;
    return status;
}

static int32_t start(bpe_trainer *t, const bpe_counter *counter, uint64_t salt, int32_t single_digits)
{
    int32_t symbol_of_byte[256];
    for (int rank = 0; rank < 256; rank++) symbol_of_byte[t->bytes_by_rank[rank]] = rank;
    for (int digit = '0'; single_digits && digit <= '9'; digit++) symbol_of_byte[digit] = SEPARATOR;
    const size_t n_tokens = (size_t)t->max_merges + 256;
    t->length = malloc(n_tokens * sizeof *t->length);
    uint64_t *numbers = calloc(2 * 65536, sizeof *numbers);
    int32_t status = t->length && numbers ? BPE_OK : BPE_NO_MEMORY;
    if (status == BPE_OK) status = new_side(&t->before, n_tokens);
    if (status == BPE_OK) status = new_side(&t->after, n_tokens);
    if (status == BPE_OK) status = bpe_map_init(&t->map, 4096, salt);
    if (status == BPE_OK) status = lay_out(t, counter, symbol_of_byte);
    if (status == BPE_OK) status = list_byte_pairs(t, numbers, numbers + 65536);
    for (int k = 0; status == BPE_OK && k < 256; k++) t->length[k] = 1;
    free(numbers);
    return status;
}

int32_t bpe_trainer_new(bpe_trainer **trainer, const bpe_counter *counter, const uint8_t *bytes_by_rank,
                        uint64_t salt, int64_t max_merges, int32_t single_digits)
{
    *trainer = NULL;
    if (max_merges < 0 || max_merges > INT32_MAX - 256) return BPE_TOO_LARGE;
    bpe_trainer *t = calloc(1, sizeof *t);
    if (!t) return BPE_NO_MEMORY;
    t->max_merges = max_merges;
    memcpy(t->bytes_by_rank, bytes_by_rank, 256);
    const int32_t status = start(t, counter, salt, single_digits);
    if (status == BPE_OK) *trainer = t;
    else bpe_trainer_free(t);
    return status;
}
