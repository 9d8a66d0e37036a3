/* SPDX-License-Identifier: MIT */
#include "gemm.h"
#include "kernels.h"
#include "pool.h"

enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112 }; /* of the cblas interface */

typedef void (*sgemm_function)(int order, int trans_a, int trans_b, int M, int N, int K, float alpha, const float *a,
    int a_stride, const float *b, int b_stride, float beta, float *c, int c_stride);

static sgemm_function sgemm;

void mg_blas_bind(void *cblas_sgemm) { sgemm = (sgemm_function)cblas_sgemm; }

/* A tile packs its operands anew, so it should be large, and there should be enough tiles to share evenly.  On shapes
 * from 128 to 1536 columns one thread lost less than 3 % on 256 x 768 and 5 % on 128 x 768 (benchmarks/LOG.md). */
#define TILE_ROWS 256
#define TILE_COLUMNS 768
#define ENOUGH_TILES 8

struct job {
    float *c, *scratch;
    mg_matrix a, b;
    int64_t M, N, K, tile_rows, tile_columns, tiles_across;
    float beta;
};

/* The rows of a from i on. */
static mg_matrix rows_from(mg_matrix a, int64_t i)
{
    a.data = mg_number(a.data, a.transposed ? i : i * a.stride, MG_TYPE_FP32);
    return a;
}

/* n columns of b from j on, which is K rows high; bfloat16 as floats in the worker's scratch. */
static mg_matrix columns_from(const struct job *job, int64_t j, int64_t n, int64_t worker)
{
    mg_matrix b = job->b;
    b.data = mg_number(b.data, b.transposed ? j * b.stride : j, b.type);
    if (b.type == MG_TYPE_FP32) return b;
    const int64_t rows = b.transposed ? n : job->K, columns = b.transposed ? job->K : n;
    float *floats = job->scratch + worker * job->tile_columns * job->K;
    for (int64_t i = 0; i < rows; i++) mg_bf16_floats(floats + i * columns, mg_number(b.data, i * b.stride, b.type), columns);
    return (mg_matrix){floats, columns, b.transposed, MG_TYPE_FP32};
}

static void tile_task(void *argument, int64_t index, int64_t worker)
{
    const struct job *job = argument;
    int64_t across = index % job->tiles_across, down = index / job->tiles_across;
    int64_t i = down * job->tile_rows, j = across * job->tile_columns;
    int64_t M = mg_block_end(job->M, job->tile_rows, down) - i, N = mg_block_end(job->N, job->tile_columns, across) - j;
    mg_matrix a = rows_from(job->a, i), b = columns_from(job, j, N, worker);
    sgemm(ROW_MAJOR, a.transposed ? TRANS : NO_TRANS, b.transposed ? TRANS : NO_TRANS, (int)M, (int)N, (int)job->K, 1.0f,
        a.data, (int)a.stride, b.data, (int)b.stride, job->beta, job->c + i * job->N + j, (int)job->N);
}

/* Equal tiles of at most `most`: 300 columns become 2 x 150 rather than 256 + 44. */
static int64_t even_tile(int64_t n, int64_t most)
{
    int64_t tiles = mg_blocks(n, most);
    int64_t size = mg_blocks(n, tiles);
    return mg_blocks(size, 16) * 16;
}

static void blas_parallel(float *c, mg_matrix a, mg_matrix b, int64_t M, int64_t N, int64_t K, float beta,
    float *scratch)
{
    struct job job = {c, scratch, a, b, M, N, K, even_tile(M, TILE_ROWS), even_tile(N, TILE_COLUMNS), 0, beta};
    job.tiles_across = mg_blocks(N, job.tile_columns);
    if (job.tiles_across * mg_blocks(M, job.tile_rows) < ENOUGH_TILES) job.tile_rows = even_tile(M, TILE_ROWS / 2);
    int64_t tiles = job.tiles_across * mg_blocks(M, job.tile_rows);
    mg_parallel_flop(tile_task, &job, tiles, 2.0 * (double)M * (double)N * (double)K);
}

static int is_packed(int64_t M, int how) { return how != MG_GEMM_BLAS && M >= MG_PACKED_ROWS; }

int64_t mg_gemm_scratch_of(int64_t workers, int64_t M, int64_t N, int64_t K, int type, int how)
{
    if (is_packed(M, how)) return mg_gemm_packed_scratch(workers, M, N, K, mg_precision_of(how));
    return type == MG_TYPE_FP32 || N == 0 ? 0 : workers * even_tile(N, TILE_COLUMNS) * K;
}

int64_t mg_gemm_scratch(int64_t M, int64_t N, int64_t K, int type, int how)
{
    return mg_gemm_scratch_of(mg_threads(), M, N, K, type, how);
}

void mg_gemm_parallel(float *c, mg_matrix a, mg_matrix b, int64_t M, int64_t N, int64_t K, int accumulate, int how,
    float *scratch)
{
    if (M == 0 || N == 0) return;
    if (is_packed(M, how) && K > 0) mg_gemm_packed(c, a, b, M, N, K, accumulate, 0, mg_precision_of(how), scratch);
    else blas_parallel(c, a, b, M, N, K, accumulate ? 1.0f : 0.0f, scratch);
}

void mg_gemm_symmetric(float *c, mg_matrix a, mg_matrix b, int64_t M, int64_t K, int how, float *scratch)
{
    if (is_packed(M, how) && K > 0) mg_gemm_packed(c, a, b, M, M, K, 0, 1, mg_precision_of(how), scratch);
    else mg_gemm_parallel(c, a, b, M, M, K, 0, how, scratch);
}
