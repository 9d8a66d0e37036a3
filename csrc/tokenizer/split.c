/* Splitting as such: for tests, and for cutting long texts into pieces that can be worked on apart. */
#include "split.h"

#include "bpe.h"

int64_t bpe_split(int64_t *ends, const uint8_t *text, int64_t n)
{
    int64_t n_chunks = 0;
    for (int64_t i = 0; i < n;) {
        i = bpe_chunk_end(text, i, n);
        ends[n_chunks++] = i;
    }
    return n_chunks;
}

/* Does a white space character end at i?  It may say yes wrongly inside invalid UTF-8, which costs one cut. */
static int space_before(const uint8_t *text, int64_t i)
{
    for (int64_t size = 1; size <= 3 && size <= i; size++) {
        int64_t length;
        if (bpe_class(text, i - size, i, &length) == BPE_SPACE && length == size) return 1;
    }
    return 0;
}

/* Every run but one of white space ends before white space, and no rule looks back: so the chunks before i end
 * there anyway, and those after it are found from i as from any start. */
static int safe(const uint8_t *text, int64_t i)
{
    return text[i] < 0x80 && bpe_ascii_class[text[i]] == BPE_SPACE && !space_before(text, i);
}

int64_t bpe_safe_cut(const uint8_t *text, int64_t n, int64_t at)
{
    for (int64_t i = at < n ? at : n - 1; i > 0; i--)
        if (safe(text, i)) return i;
    for (int64_t i = at + 1; i < n; i++)
        if (safe(text, i)) return i;
    return n;
}
