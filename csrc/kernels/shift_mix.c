/* SPDX-License-Identifier: MIT
 * The gradient of x at t comes from position t itself and from the next, which looked back at it. */
#include "kernels.h"
#include "recurrence.h"

struct job {
    float *y, *dx, *dmore, *partials;
    const float *dy, *x, *mix, *more, *last;
    const int32_t *starts;
    int64_t B, T, C, J, rows;
};

/* What comes before position n = b T + t, or NULL where nothing does. */
static const float *row_before(const struct job *job, int64_t n)
{
    const int64_t b = n / job->T, t = n % job->T;
    if (t == 0) return job->last ? job->last + b * job->C : NULL;
    return mg_begins(job->starts ? job->starts + b * job->T : NULL, t) ? NULL : job->x + (n - 1) * job->C;
}

static inline vf load_or_zero(const float *p, int64_t i, int64_t C) { return p ? mg_load_n(p + i, C - i) : (vf){0}; }

/* The share of the row before, of mix j at channel i of row n. */
static inline vf share(const struct job *job, int64_t j, int64_t n, int64_t i)
{
    const int64_t C = job->C;
    vf mix = mg_load_n(job->mix + j * C + i, C - i);
    return job->more ? mix + mg_load_n(job->more + (j * job->B * job->T + n) * C + i, C - i) : mix;
}

static void forward_rows(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    const int64_t C = job->C, N = job->B * job->T;
    for (int64_t n = index * job->rows; n < mg_block_end(N, job->rows, index); n++) {
        const float *x = job->x + n * C, *before = row_before(job, n);
        for (int64_t i = 0; i < C; i += MG_LANES) {
            vf x_i = mg_load_n(x + i, C - i), change = load_or_zero(before, i, C) - x_i;
            for (int64_t j = 0; j < job->J; j++)
                mg_store_n(job->y + (j * N + n) * C + i, x_i + change * share(job, j, n, i), C - i);
        }
    }
}

void mg_shift_mix_forward(float *y, const float *x, const float *mix, const float *more, const int32_t *starts,
    const float *last, int64_t B, int64_t T, int64_t C, int64_t J)
{
    struct job job = {.y = y, .x = x, .mix = mix, .more = more, .last = last, .starts = starts, .B = B, .T = T, .C = C,
        .J = J, .rows = mg_rows_per_task(C * J)};
    mg_parallel(forward_rows, &job, mg_blocks(B * T, job.rows));
}

static void backward_row(const struct job *job, float *partial, int64_t n)
{
    const int64_t C = job->C, N = job->B * job->T;
    const float *x = job->x + n * C, *before = row_before(job, n);
    const int is_seen = n % job->T + 1 < job->T && row_before(job, n + 1);
    for (int64_t i = 0; i < C; i += MG_LANES) {
        vf change = load_or_zero(before, i, C) - mg_load_n(x + i, C - i), dx = {0};
        for (int64_t j = 0; j < job->J; j++) {
            const float *dy = job->dy + (j * N + n) * C + i;
            vf dy_i = mg_load_n(dy, C - i), dmix = dy_i * change;
            dx += dy_i - dy_i * share(job, j, n, i);
            if (is_seen) dx += mg_load_n(dy + C, C - i) * share(job, j, n + 1, i);
            mg_store_n(partial + j * C + i, mg_load_n(partial + j * C + i, C - i) + dmix, C - i);
            if (job->more) mg_store_n(job->dmore + (j * N + n) * C + i, dmix, C - i);
        }
        mg_store_n(job->dx + n * C + i, dx, C - i);
    }
}

static void backward_rows(void *argument, int64_t index, int64_t worker)
{
    (void)worker;
    const struct job *job = argument;
    const int64_t size = job->J * job->C;
    float *partial = job->partials + index * size;
    memset(partial, 0, (size_t)size * sizeof *partial);
    for (int64_t n = index * job->rows; n < mg_block_end(job->B * job->T, job->rows, index); n++)
        backward_row(job, partial, n);
}

void mg_shift_mix_backward(float *dx, float *dmix, float *dmore, float *scratch, const float *dy, const float *x,
    const float *mix, const float *more, const int32_t *starts, const float *last, int64_t B, int64_t T, int64_t C,
    int64_t J)
{
    struct job job = {.dx = dx, .dmore = dmore, .partials = scratch, .dy = dy, .x = x, .mix = mix, .more = more,
        .last = last, .starts = starts, .B = B, .T = T, .C = C, .J = J, .rows = mg_blocks(B * T, MG_PARTIALS)};
    if (B * T == 0) return;
    const int64_t blocks = mg_blocks(B * T, job.rows);
    mg_parallel(backward_rows, &job, blocks);
    mg_add_partials(dmix, scratch, blocks, J * C, J * C);
}
