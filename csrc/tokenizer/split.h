/* Where the next chunk ends: the split pattern of GPT-2 as a hand-written state machine, inlined in the loops that
 * count and that encode.  The rules and their Python form are in tokenizer/reference.py. */
#ifndef BPE_SPLIT_H
#define BPE_SPLIT_H

#include <stdint.h>

#include "unicode_tables.h"

enum { BPE_OTHER, BPE_LETTER, BPE_NUMBER, BPE_SPACE }; /* as in tokenizer/unicode_tables.py */

#define O BPE_OTHER
#define L BPE_LETTER
#define N BPE_NUMBER
#define S BPE_SPACE
static const uint8_t bpe_ascii_class[128] = {
    O, O, O, O, O, O, O, O, O, S, S, S, S, S, O, O, /* \t \n \v \f \r */
    O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O,
    S, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, /* space ! " # ... */
    N, N, N, N, N, N, N, N, N, N, O, O, O, O, O, O,
    O, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L,
    L, L, L, L, L, L, L, L, L, L, L, O, O, O, O, O,
    O, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L,
    L, L, L, L, L, L, L, L, L, L, L, O, O, O, O, O,
};
#undef O
#undef L
#undef N
#undef S

static inline int bpe_unicode_class(uint32_t c)
{
    if (c >= BPE_UNICODE_END) return BPE_OTHER;
    const uint64_t bits = bpe_unicode_bits[8 * bpe_unicode_block[c / 256] + c / 32 % 8];
    return (int)(bits >> (2 * (c % 32)) & 3);
}

static inline int bpe_is_tail(uint8_t byte)
{
    return (byte & 0xC0) == 0x80;
}

/* Code point of the UTF-8 sequence of 2 to 4 bytes at p[0..room), its length in *length.  Anything else is one byte
 * long and UINT32_MAX, which has class "other".  Surrogates and what lies beyond U+10FFFF is no UTF-8 either, but
 * need not be told apart: it is "other" as a whole and byte by byte. */
static inline uint32_t bpe_decode(const uint8_t *p, int64_t room, int64_t *length)
{
    uint32_t c;
    if (p[0] < 0xE0 && room >= 2 && bpe_is_tail(p[1])) {
        c = (p[0] & 0x1Fu) << 6 | (p[1] & 0x3Fu);
        *length = 2;
        if (p[0] >= 0xC2) return c;
    } else if (p[0] >= 0xE0 && p[0] < 0xF0 && room >= 3 && bpe_is_tail(p[1]) && bpe_is_tail(p[2])) {
        c = (p[0] & 0x0Fu) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu);
        *length = 3;
        if (c >= 0x800) return c;
    } else if (p[0] >= 0xF0 && p[0] < 0xF8 && room >= 4 && bpe_is_tail(p[1]) && bpe_is_tail(p[2]) &&
               bpe_is_tail(p[3])) {
        c = (p[0] & 0x07u) << 18 | (p[1] & 0x3Fu) << 12 | (p[2] & 0x3Fu) << 6 | (p[3] & 0x3Fu);
        *length = 4;
        if (c >= 0x10000) return c;
    }
    *length = 1;
    return UINT32_MAX;
}

/* Class of the character at text[i], its length in *length. */
static inline int bpe_class(const uint8_t *text, int64_t i, int64_t n, int64_t *length)
{
    *length = 1;
    if (text[i] < 0x80) return bpe_ascii_class[text[i]];
    return bpe_unicode_class(bpe_decode(text + i, n - i, length));
}

/* End of the run of characters of one class that goes on at i. */
static inline int64_t bpe_run_end(const uint8_t *text, int64_t i, int64_t n, int class)
{
    int64_t length;
    while (i < n && bpe_class(text, i, n, &length) == class) i += length;
    return i;
}

/* Length of the contraction at text[i], which is an apostrophe; 0 if there is none. */
static inline int64_t bpe_contraction(const uint8_t *text, int64_t i, int64_t n)
{
    const uint8_t a = i + 1 < n ? text[i + 1] : 0, b = i + 2 < n ? text[i + 2] : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if ((a == 'l' && b == 'l') || ((a == 'v' || a == 'r') && b == 'e')) return 3;
    return 0;
}

/* End of the run of white space at i, less its last character if something follows and something is left:
 * a last space belongs to the chunk that follows. */
static inline int64_t bpe_space_end(const uint8_t *text, int64_t i, int64_t n)
{
    int64_t length, j = i, last = i;
    while (j < n && bpe_class(text, j, n, &length) == BPE_SPACE) {
        last = j;
        j += length;
    }
    return j == n || last == i ? j : last;
}

/* End of the chunk that starts at text[i], i < n. */
static inline int64_t bpe_chunk_end(const uint8_t *text, int64_t i, int64_t n)
{
    if (text[i] == '\'') {
        const int64_t length = bpe_contraction(text, i, n);
        if (length) return i + length;
    }
    const int64_t j = i + (text[i] == ' ');
    if (j < n) {
        int64_t length;
        const int class = bpe_class(text, j, n, &length);
        if (class != BPE_SPACE) return bpe_run_end(text, j + length, n, class);
    }
    return bpe_space_end(text, i, n);
}

#endif
