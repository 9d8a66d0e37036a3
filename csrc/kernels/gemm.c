/* SPDX-License-Identifier: MIT */
#include "gemm.h"
#include "kernels.h"
#include "pool.h"

enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112 }; /* of the cblas interface */

typedef void (*sgemm_function)(int order, int trans_a, int trans_b, int M, int N, int K, float alpha, const float *a,
    int a_stride, const float *b, int b_stride, float beta, float *c, int c_stride);

static sgemm_function sgemm;

void mg_blas_bind(void *cblas_sgemm) { sgemm = (sgemm_function)cblas_sgemm; }

static int used = MG_GEMM_BLAS;

void mg_gemm_use(int kind) { used = kind; }

mg_precision mg_gemm_precision(void) { return used == MG_GEMM_BF16 ? MG_BF16 : MG_FP32; }

static int is_packed(int64_t M) { return used != MG_GEMM_BLAS && M >= MG_PACKED_ROWS; }

int64_t mg_gemm_scratch(int64_t M, int64_t N, int64_t K)
{
    return is_packed(M) ? mg_gemm_packed_scratch(M, N, K, mg_gemm_precision()) : 0;
}

void mg_gemm(float *c, int64_t c_stride, mg_matrix a, mg_matrix b, int64_t M, int64_t N, int64_t K, float alpha,
    float beta)
{
    sgemm(ROW_MAJOR, a.transposed ? TRANS : NO_TRANS, b.transposed ? TRANS : NO_TRANS, (int)M, (int)N, (int)K, alpha,
        a.data, (int)a.stride, b.data, (int)b.stride, beta, c, (int)c_stride);
}

/* A tile packs its operands anew, so it should be large, and there should be enough tiles to share evenly.  On shapes
 * from 128 to 1536 columns one thread lost less than 3 % on 256 x 768 and 5 % on 128 x 768 (benchmarks/LOG.md). */
#define TILE_ROWS 256
#define TILE_COLUMNS 768
#define ENOUGH_TILES 8

struct job {
    float *c;
    mg_matrix a, b;
    int64_t M, N, K, tile_rows, tile_columns, tiles_across;
    float beta;
};

static const float *row(mg_matrix m, int64_t i) { return m.data + (m.transposed ? i : i * m.stride); }
static const float *column(mg_matrix m, int64_t j) { return m.data + (m.transposed ? j * m.stride : j); }

static void tile_task(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    int64_t across = index % job->tiles_across, down = index / job->tiles_across;
    int64_t i = down * job->tile_rows, j = across * job->tile_columns;
    mg_matrix a = {row(job->a, i), job->a.stride, job->a.transposed};
    mg_matrix b = {column(job->b, j), job->b.stride, job->b.transposed};
    mg_gemm(job->c + i * job->N + j, job->N, a, b, mg_block_end(job->M, job->tile_rows, down) - i,
        mg_block_end(job->N, job->tile_columns, across) - j, job->K, 1.0f, job->beta);
}

/* Equal tiles of at most `most`: 300 columns become 2 x 150 rather than 256 + 44. */
static int64_t even_tile(int64_t n, int64_t most)
{
    int64_t tiles = mg_blocks(n, most);
    int64_t size = mg_blocks(n, tiles);
    return mg_blocks(size, 16) * 16;
}

static void blas_parallel(float *c, mg_matrix a, mg_matrix b, int64_t M, int64_t N, int64_t K, float beta)
{
    struct job job = {c, a, b, M, N, K, even_tile(M, TILE_ROWS), even_tile(N, TILE_COLUMNS), 0, beta};
    job.tiles_across = mg_blocks(N, job.tile_columns);
    if (job.tiles_across * mg_blocks(M, job.tile_rows) < ENOUGH_TILES) job.tile_rows = even_tile(M, TILE_ROWS / 2);
    int64_t tiles = job.tiles_across * mg_blocks(M, job.tile_rows);
    mg_parallel_flop(tile_task, &job, tiles, 2.0 * (double)M * (double)N * (double)K);
}

void mg_gemm_parallel(float *c, mg_matrix a, mg_matrix b, int64_t M, int64_t N, int64_t K, int accumulate,
    float *scratch)
{
    if (M == 0 || N == 0) return;
    if (is_packed(M) && K > 0) mg_gemm_packed(c, a, b, M, N, K, accumulate, mg_gemm_precision(), scratch);
    else blas_parallel(c, a, b, M, N, K, accumulate ? 1.0f : 0.0f);
}
