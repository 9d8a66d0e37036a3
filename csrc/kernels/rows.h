/* SPDX-License-Identifier: MIT
 * Rows that need not follow one another: heads that stand side by side in a part of wider rows. */
#ifndef MG_ROWS_H
#define MG_ROWS_H

#include <stdint.h>

/* N rows of C: `beside` of them side by side, and such groups `apart` floats from one another. */
struct mg_rows {
    int64_t N, C, beside, apart;
};

static inline int64_t mg_row(const struct mg_rows *rows, int64_t n)
{
    return n / rows->beside * rows->apart + n % rows->beside * rows->C;
}

#endif
