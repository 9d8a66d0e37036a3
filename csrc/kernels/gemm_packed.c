/* SPDX-License-Identifier: MIT
 * A matrix product of our own, by the method of Goto & van de Geijn 2008 (doi 10.1145/1356052.1356053): both operands
 * are copied into panels in the order in which the innermost loop reads them, and that loop keeps a block of c in
 * registers.
 *
 * A panel is made of 32-bit words.  In fp32 a word is one term of the sum over k; in bf16 it is two neighbours, rounded,
 * and the innermost loop adds both their products in float.  All else is one text, inlined into the tasks of each
 * precision, where `of`, the precision and the terms in a word, is a constant.
 *
 * Every element of c is a sum over k, in order, cut only every DEPTH words, each piece added to c as a whole; so its bits
 * do not depend on how rows and columns are cut into tasks, nor on the number of threads.
 *
 * Packing waits for memory and not for arithmetic: from the cache it is four times as fast.  So it asks ahead for what the
 * same task will read, at strides that the processor does not guess. */
#include "gemm.h"
#include "pool.h"

/* The register block: so many rows of two vectors.  24 (12) accumulators, two vectors of b and one element of a fill the
 * 32 (16) registers. */
#define BLOCK_ROWS (MG_LANES == 16 ? 12 : MG_LANES == 8 ? 6 : 4)
#define BLOCK_COLUMNS (2 * MG_LANES)
#define DEPTH 1536    /* words of a sum between two visits of c: the terms in the widest layer of a 34m model */
#define TASK_ROWS 120 /* at most; a multiple of every BLOCK_ROWS */
#define TASKS 32      /* enough to share evenly */
#define SHARED_TERMS 32 /* even: a word has one or two */
#define AHEAD 32        /* rows of a straight panel from asking to reading */
#define LINE 16         /* floats that come together */
#define RUNS 4          /* of neighbouring panels, for each thread */

struct job {
    float *c, *packed_b, *packed_a;
    mg_matrix a, b;
    int64_t M, N, K;
    int64_t k, terms, depth; /* the terms [k, k + terms) of this round, in `depth` words */
    int64_t task_rows, run; /* rows of a that a task multiplies; panels of b that a task packs */
    int accumulate, is_symmetric;
};

static int64_t at_most(int64_t a, int64_t b) { return a < b ? a : b; }

static int64_t rows_per_task(int64_t M)
{
    return at_most(TASK_ROWS, mg_padded(mg_blocks(M, TASKS), BLOCK_ROWS));
}

int64_t mg_gemm_packed_scratch(int64_t workers, int64_t M, int64_t N, int64_t K, mg_precision of)
{
    const int64_t depth = at_most(mg_blocks(K, of), DEPTH);
    return depth * mg_padded(N, BLOCK_COLUMNS) + workers * (depth * rows_per_task(M) + MG_LANES);
}

/* The next MG_LANES words of a row of which `n` more terms exist; zeros behind them. */
MG_INLINE vf load_words(const void *x, int64_t n, mg_precision of, int type)
{
    const vf first = mg_load_numbers(x, n, type);
    if (of == MG_FP32) return first;
    const void *rest = mg_number(x, MG_LANES, type);
    return (vf)mg_bf16_words(first, n > MG_LANES ? mg_load_numbers(rest, n - MG_LANES, type) : mg_set(0.0f));
}

/* Have n numbers of some rows of x on their way into the second-level cache. */
MG_INLINE void ask_for(const void *x, int64_t stride, int64_t rows, int64_t n, int type)
{
    const int64_t line = type == MG_TYPE_BF16 ? 2 * LINE : LINE;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < n; j += line) __builtin_prefetch(mg_number(x, i * stride + j, type), 0, 2);
}

/* panel (words, width) = rows [0,n) of x (terms), stored `stride` apart, as columns; zeros where the rows end.
 * Whole vectors are written, so each row of the panel spills into the next one, which comes after, and the last one
 * into MG_LANES floats behind the panel.  next: rows after these that will be packed next. */
MG_INLINE void pack_turned(float *panel, const void *x, int64_t stride, int64_t terms, int64_t width, int64_t n,
    int64_t next, mg_precision of, int type)
{
    const int64_t words = mg_blocks(terms, of);
    for (int64_t k = 0; k < words; k += MG_LANES) {
        const int64_t n_terms = at_most(of * MG_LANES, terms - of * k);
        if (next) ask_for(mg_number(x, n * stride + of * k, type), stride, next, n_terms, type);
        for (int64_t j = 0; j < width; j += MG_LANES) {
            vf v[MG_LANES];
            for (int64_t i = 0; i < MG_LANES; i++) {
                const void *row = mg_number(x, (j + i) * stride + of * k, type);
                v[i] = j + i < n ? load_words(row, terms - of * k, of, type) : mg_set(0.0f);
            }
            mg_transpose(v);
            for (int64_t i = 0; i < at_most(MG_LANES, words - k); i++) mg_store(panel + (k + i) * width + j, v[i]);
        }
    }
}

/* One row of words of a panel: n columns of one row of x, or of two that lie `stride` apart (0: there is no second). */
MG_INLINE void pack_row(float *panel, const void *x, int64_t stride, int64_t n, mg_precision of, int type)
{
    if (of == MG_FP32 && type == MG_TYPE_FP32) memcpy(panel, x, (size_t)n * sizeof *panel);
    else if (of == MG_FP32) mg_bf16_floats(panel, x, n);
    else
        for (int64_t j = 0; j < n; j += MG_LANES) {
            const vf even = mg_load_numbers(mg_number(x, j, type), n - j, type);
            const vf odd = stride ? mg_load_numbers(mg_number(x, stride + j, type), n - j, type) : mg_set(0.0f);
            mg_store_n(panel + j, (vf)mg_bf16_pairs(even, odd), n - j);
        }
}

/* panel (words, width) = columns [0,n) of x (terms), whose rows lie `stride` apart; zeros where the columns end.
 * A copy of a width that the compiler knows takes one or two instructions, hence the branch.  rows: of x, from its first,
 * that will be packed in all. */
MG_INLINE void pack_straight(float *panel, const void *x, int64_t stride, int64_t terms, int64_t width, int64_t n,
    int64_t rows, mg_precision of, int type)
{
    if (n < width) memset(panel, 0, (size_t)(mg_blocks(terms, of) * width) * sizeof *panel);
    for (int64_t k = 0; k < terms; k += of, panel += width) {
        const int64_t second = k + 1 < terms ? stride : 0;
        const void *row = mg_number(x, k * stride, type);
        if (k + AHEAD + of <= rows) ask_for(mg_number(x, (k + AHEAD) * stride, type), stride, of, n, type);
        if (n == width) pack_row(panel, row, second, width, of, type);
        else pack_row(panel, row, second, n, of, type);
    }
}

MG_INLINE void pack_b(const struct job *job, int64_t index, mg_precision of, int type)
{
    const int64_t stride = job->b.stride, end = mg_block_end(job->N, job->run * BLOCK_COLUMNS, index);
    for (int64_t j = index * job->run * BLOCK_COLUMNS; j < end; j += BLOCK_COLUMNS) {
        const int64_t n = at_most(BLOCK_COLUMNS, end - j), next = at_most(BLOCK_COLUMNS, end - j - n);
        float *panel = job->packed_b + j * job->depth;
        const void *first = mg_number(job->b.data, job->b.transposed ? j * stride + job->k : job->k * stride + j, type);
        if (job->b.transposed) pack_turned(panel, first, stride, job->terms, BLOCK_COLUMNS, n, next, of, type);
        else pack_straight(panel, first, stride, job->terms, BLOCK_COLUMNS, n, job->terms, of, type);
    }
}

/* c (BLOCK_ROWS,BLOCK_COLUMNS) = a b, or += for accumulate.  c is asked for first and used last. */
MG_INLINE void multiply(float *c, int64_t c_stride, const float *a, const float *b, int64_t depth, int accumulate,
    mg_precision of)
{
    vf sum[BLOCK_ROWS][2];
#pragma GCC unroll 12
    for (int m = 0; m < BLOCK_ROWS; m++)
        for (int v = 0; v < 2; v++) {
            __builtin_prefetch(c + m * c_stride + v * MG_LANES);
            sum[m][v] = mg_set(0.0f);
        }
    for (int64_t k = 0; k < depth; k++) {
        const vf b_0 = mg_load(b + k * BLOCK_COLUMNS), b_1 = mg_load(b + k * BLOCK_COLUMNS + MG_LANES);
#pragma GCC unroll 12
        for (int m = 0; m < BLOCK_ROWS; m++) {
            const vf a_m = mg_set(a[k * BLOCK_ROWS + m]);
            sum[m][0] = mg_add_product(sum[m][0], a_m, b_0, of);
            sum[m][1] = mg_add_product(sum[m][1], a_m, b_1, of);
        }
    }
#pragma GCC unroll 12
    for (int m = 0; m < BLOCK_ROWS; m++)
        for (int v = 0; v < 2; v++) {
            float *place = c + m * c_stride + v * MG_LANES;
            mg_store(place, accumulate ? mg_load(place) + sum[m][v] : sum[m][v]);
        }
}

/* The same at the edge, where only `rows` and `columns` of the block exist. */
MG_INLINE void multiply_edge(float *c, int64_t c_stride, const float *a, const float *b, int64_t depth,
    int accumulate, int64_t rows, int64_t columns, mg_precision of)
{
    float block[BLOCK_ROWS * BLOCK_COLUMNS] = {0};
    if (accumulate)
        for (int64_t m = 0; m < rows; m++)
            memcpy(block + m * BLOCK_COLUMNS, c + m * c_stride, (size_t)columns * sizeof *c);
    multiply(block, BLOCK_COLUMNS, a, b, depth, accumulate, of);
    for (int64_t m = 0; m < rows; m++)
        memcpy(c + m * c_stride, block + m * BLOCK_COLUMNS, (size_t)columns * sizeof *c);
}

/* The panels of rows [first, first + rows) of a, one for every BLOCK_ROWS.  Stored transposed, a few of its rows at a
 * time: neighbouring panels share cache lines. */
MG_INLINE void pack_a(const struct job *job, float *packed_a, int64_t first, int64_t rows, mg_precision of)
{
    const int64_t stride = job->a.stride, step = job->a.transposed ? SHARED_TERMS : job->terms;
    for (int64_t k = 0; k < job->terms; k += step)
        for (int64_t i = 0; i < rows; i += BLOCK_ROWS) {
            const int64_t n = at_most(BLOCK_ROWS, rows - i), next = at_most(BLOCK_ROWS, rows - i - n), row = first + i;
            const int64_t left = job->terms - k, terms = at_most(step, left);
            float *panel = packed_a + i * job->depth + k / of * BLOCK_ROWS;
            const float *a = job->a.data;
            if (job->a.transposed)
                pack_straight(panel, a + (job->k + k) * stride + row, stride, terms, BLOCK_ROWS, n, left, of, MG_TYPE_FP32);
            else pack_turned(panel, a + row * stride + job->k, stride, terms, BLOCK_ROWS, n, next, of, MG_TYPE_FP32);
        }
}

MG_INLINE void multiply_rows(const struct job *job, int64_t index, int64_t worker, mg_precision of)
{
    const int64_t first = index * job->task_rows, rows = mg_block_end(job->M, job->task_rows, index) - first;
    float *packed_a = job->packed_a + worker * (job->task_rows * job->depth + MG_LANES);
    const int64_t columns = job->is_symmetric ? first + rows : job->N;
    pack_a(job, packed_a, first, rows, of);
    for (int64_t j = 0; j < columns; j += BLOCK_COLUMNS)
        for (int64_t i = 0; i < rows; i += BLOCK_ROWS) {
            float *c = job->c + (first + i) * job->N + j;
            const float *a_i = packed_a + i * job->depth, *b_j = job->packed_b + j * job->depth;
            if (rows - i >= BLOCK_ROWS && job->N - j >= BLOCK_COLUMNS)
                multiply(c, job->N, a_i, b_j, job->depth, job->accumulate, of);
            else
                multiply_edge(c, job->N, a_i, b_j, job->depth, job->accumulate, at_most(BLOCK_ROWS, rows - i),
                    at_most(BLOCK_COLUMNS, job->N - j), of);
        }
}

/* What lies above the diagonal, in some rows of a symmetric c, from what lies below it. */
static void mirror_rows(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    const int64_t first = index * job->task_rows, end = mg_block_end(job->M, job->task_rows, index);
    for (int64_t j = first + 1; j < job->N; j++)
        for (int64_t i = first; i < at_most(j, end); i++) job->c[i * job->N + j] = job->c[j * job->N + i];
}

#define PACK_B(name, of, type) \
    static void name(void *job, int64_t index, int64_t worker) { (void)worker, pack_b(job, index, of, type); }
PACK_B(pack_b_fp32, MG_FP32, MG_TYPE_FP32)
PACK_B(pack_b_bf16, MG_BF16, MG_TYPE_FP32)
PACK_B(pack_stored_b_fp32, MG_FP32, MG_TYPE_BF16)
PACK_B(pack_stored_b_bf16, MG_BF16, MG_TYPE_BF16)
static const mg_task pack_b_tasks[2][2] = {{pack_b_fp32, pack_b_bf16}, {pack_stored_b_fp32, pack_stored_b_bf16}};
static void rows_fp32(void *job, int64_t index, int64_t worker) { multiply_rows(job, index, worker, MG_FP32); }
static void rows_bf16(void *job, int64_t index, int64_t worker) { multiply_rows(job, index, worker, MG_BF16); }

void mg_gemm_packed(float *c, mg_matrix a, mg_matrix b, int64_t M, int64_t N, int64_t K, int accumulate,
    int is_symmetric, mg_precision of, float *scratch)
{
    struct job job = {.c = c, .packed_b = scratch, .a = a, .b = b, .M = M, .N = N, .K = K, .task_rows = rows_per_task(M),
        .run = mg_blocks(mg_blocks(N, BLOCK_COLUMNS), RUNS * mg_threads()), .accumulate = accumulate,
        .is_symmetric = is_symmetric};
    job.packed_a = scratch + at_most(mg_blocks(K, of), DEPTH) * mg_padded(N, BLOCK_COLUMNS);
    for (job.k = 0; job.k < K; job.k += of * DEPTH, job.accumulate = 1) {
        job.terms = at_most(of * DEPTH, K - job.k);
        job.depth = mg_blocks(job.terms, of);
        mg_parallel(pack_b_tasks[b.type][of == MG_BF16], &job, mg_blocks(N, job.run * BLOCK_COLUMNS));
        mg_parallel(of == MG_BF16 ? rows_bf16 : rows_fp32, &job, mg_blocks(M, job.task_rows));
    }
    if (is_symmetric) mg_parallel(mirror_rows, &job, mg_blocks(M, job.task_rows));
}
