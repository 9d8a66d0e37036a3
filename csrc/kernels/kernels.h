/* SPDX-License-Identifier: MIT
 * The C kernels of microgpt.  The region between the cdef marks is also the cffi declaration.
 *
 * Letters: B batch, T time, C channels, H heads, hs = C/H head size, N = B*T rows, V vocabulary, M outputs
 * and K inputs of a linear layer.  All arrays are dense, row-major float32 unless said otherwise.
 *
 * Contract of every kernel: it only computes.  No allocation, no printing, no exit; scratch comes in.  Arguments run
 * outputs, inputs, sizes.  A gradient d<name> is returned (overwritten), except a parameter gradient dweight, which
 * is added to.  Outputs do not alias inputs unless said.  Results do not depend on the number of threads: work is
 * cut by shape alone, and partial sums are added in a fixed order.
 */
#ifndef MICROGPT_KERNELS_H
#define MICROGPT_KERNELS_H

#include <stdint.h>

/* cdef: begin */

#define MG_PARTIALS 32 /* row blocks whose partial weight gradients a backward sums; see scratch of rmsnorm */

/* ---- machine ---------------------------------------------------------------------------------------------- */

/* Whether this CPU and its operating system run code of a level: "baseline", "avx2", "avx512", "avx512bf16". */
int mg_cpu_supports(const char *level);

/* Hand in BLAS: the address of a cblas_sgemm with 32-bit integers.  Called once, before any matrix product. */
void mg_blas_bind(void *cblas_sgemm);

/* `how` of a kernel that multiplies matrices: large ones through BLAS, by our own kernel, or by our own on operands
 * rounded to bfloat16, as those inside attention then are too.  Small ones go through BLAS. */
#define MG_GEMM_BLAS 0
#define MG_GEMM_FP32 1
#define MG_GEMM_BF16 2
#define MG_PACKED_ROWS 48 /* of the result, from which on a product is large */

/* `type` of a weight: floats, or bfloat16, the upper halves of floats, which is multiplied as the floats that it is. */
#define MG_TYPE_FP32 0
#define MG_TYPE_BF16 1

/* Floats of scratch that a product of (M,K) and (K,N) takes, (K,N) being of this type, on so many threads as run now. */
int64_t mg_gemm_scratch(int64_t M, int64_t N, int64_t K, int type, int how);

/* Run kernels on n threads (the caller is one of them).  Returns 0, or an errno value when threads cannot be made; then
 * their number stays.  Not to be called while a kernel runs. */
int mg_set_threads(int n);
int mg_threads(void);

/* This library's thread pool; and: use the pool of another library, built from the same sources, from now on. */
void *mg_pool(void);
void mg_pool_share(void *other);

/* ---- layers ----------------------------------------------------------------------------------------------- */

/* y[n] = weight[ids[n]].   y (N,C)  weight (V,C) of this type  ids (N).
 * Returns -1, or the first position whose id is outside [0,V); then y is undefined. */
int64_t mg_embedding_forward(float *y, const void *weight, const int32_t *ids, int64_t N, int64_t C, int64_t V,
    int type);
/* dweight[ids[n]] += dy[n], rows in order.  The ids have passed the forward. */
void mg_embedding_backward(float *dweight, const float *dy, const int32_t *ids, int64_t N, int64_t C);

/* Norms take rows where they lie: `beside` of the N rows side by side, and such groups `apart` floats from one another,
 * in all arrays (N,C) of a call alike; beside = 1 and apart = C where rows follow one another.
 *
 * y = x * rstd * weight with rstd = 1/sqrt(mean(x^2) + eps), per row (Zhang & Sennrich 2019, arXiv 1910.07467).
 * x, y (N,C)  weight (C)  rstd (N), kept for backward. */
void mg_rmsnorm_forward(float *y, float *rstd, const float *x, const float *weight, int64_t N, int64_t C,
    int64_t beside, int64_t apart, float eps);
/* y alone, from the rstd of the forward: the same bits. */
void mg_rmsnorm_again(float *y, const float *x, const float *weight, const float *rstd, int64_t N, int64_t C,
    int64_t beside, int64_t apart);
/* dx = dresidual + rstd * (dy*weight - xhat * mean(dy*weight*xhat)), xhat = x*rstd;  dweight += sum_n dy*xhat.
 * dresidual (N,C) is the gradient that by-passes the norm, or NULL; dx may be dresidual or dy itself.
 * scratch (MG_PARTIALS,C). */
void mg_rmsnorm_backward(float *dx, float *dweight, float *scratch, const float *dy, const float *x,
    const float *weight, const float *rstd, const float *dresidual, int64_t N, int64_t C, int64_t beside,
    int64_t apart);

/* y = (x - mean) * rstd * weight + bias, rstd = 1/sqrt(mean((x - mean)^2) + eps), per row (Ba et al. 2016,
 * arXiv 1607.06450).  x, y (N,C)  weight, bias (C)  stats (N,2): mean and rstd of each row, kept for backward. */
void mg_layernorm_forward(float *y, float *stats, const float *x, const float *weight, const float *bias, int64_t N,
    int64_t C, int64_t beside, int64_t apart, float eps);
/* y alone, from the stats of the forward: the same bits. */
void mg_layernorm_again(float *y, const float *x, const float *weight, const float *bias, const float *stats, int64_t N,
    int64_t C, int64_t beside, int64_t apart);
/* dx = dresidual + rstd * (dy*weight - mean(dy*weight) - xhat * mean(dy*weight*xhat)), xhat = (x - mean) * rstd;
 * dweight += sum_n dy*xhat, dbias += sum_n dy.  dresidual as of rmsnorm.  scratch (MG_PARTIALS,2,C). */
void mg_layernorm_backward(float *dx, float *dweight, float *dbias, float *scratch, const float *dy, const float *x,
    const float *weight, const float *stats, const float *dresidual, int64_t N, int64_t C, int64_t beside,
    int64_t apart);

/* Y = X W^T.   y (N,M)  x (N,K)  weight (M,K) of this type.  scratch of each product: mg_gemm_scratch(its rows, columns,
 * terms, type, how). */
void mg_linear_forward(float *y, float *scratch, const float *x, const void *weight,
    int64_t N, int64_t M, int64_t K, int type, int how);
/* dX = dY W;  dW += dY^T X.   dx (N,K)  dweight (M,K)  dy (N,M). */
void mg_linear_backward_input(float *dx, float *scratch, const float *dy, const void *weight,
    int64_t N, int64_t M, int64_t K, int type, int how);
void mg_linear_backward_weight(float *dweight, float *scratch, const float *dy, const float *x,
    int64_t N, int64_t M, int64_t K, int how);

/* y[n] += bias, in place.   y (N,M)  bias (M). */
void mg_bias_forward(float *y, const float *bias, int64_t N, int64_t M);
/* dbias += sum_n dy[n].   dy (N,M)  scratch (MG_PARTIALS,M). */
void mg_bias_backward(float *dbias, float *scratch, const float *dy, int64_t N, int64_t M);

/* Rows of packed projections, W = (H + 2 H_kv) hs floats: H query heads, H_kv key heads, H_kv value heads of hs channels.
 * Query head h goes with key and value head h / (H / H_kv); H_kv divides H (Ainslie et al. 2023, arXiv 2305.13245). */

/* Rotate, in place, the query and key heads of qkv (T,W): pairs (i, i + hs/2) of a head turn by the angle of position
 * start + t (Su et al. 2021, arXiv 2104.09864, in the half-split pairing).  cos, sin (rows >= start+T, hs/2). */
void mg_rope(float *qkv, const float *cos, const float *sin, int64_t T, int64_t H, int64_t H_kv, int64_t hs,
    int64_t start);

/* Causal self-attention: probs = softmax(q k^T / sqrt(hs)) over the keys s that query t sees;  y = probs v;  q and k
 * turned by their position as mg_rope turns them.
 * Seen: starts[t] <= s <= t; and either t - s < window, or stride divides s - starts[t].  window 0: no bound;
 * stride 0: nothing beyond the window (Beltagy et al. 2020, arXiv 2004.05150; Child et al. 2019, arXiv 1904.10509).
 * qkv (B,T,W): packed projections, not turned.  cos, sin (rows >= T, hs/2).  y (B,T,H hs).
 * starts (B,T): where the document of each row begins, 0 <= starts[t] <= t and never falling; NULL: always 0.  Returns
 * -1, or the first position whose start is none: then nothing is done.
 * lse (B,H,T): log-sum-exp of the scaled scores, kept for backward.  scratch: mg_attention_scratch(B,T,..,stride)
 * floats, on so many threads as run now.  Scores are never stored whole, and those that no row sees never made. */
int64_t mg_attention_forward(float *y, float *lse, float *scratch, const float *qkv, const float *cos, const float *sin,
    const int32_t *starts, int64_t B, int64_t T, int64_t H, int64_t H_kv, int64_t hs, int64_t window, int64_t stride,
    int how);
/* dqkv (B,T,W).  y, lse as the forward left them. */
int64_t mg_attention_backward(float *dqkv, float *scratch, const float *dy, const float *qkv, const float *cos,
    const float *sin, const float *y, const float *lse, const int32_t *starts, int64_t B, int64_t T, int64_t H,
    int64_t H_kv, int64_t hs, int64_t window, int64_t stride, int how);
int64_t mg_attention_scratch(int64_t B, int64_t T, int64_t H, int64_t H_kv, int64_t hs, int64_t window, int64_t stride);

/* The same attention for T new rows of one sequence against S >= T cached rows, of which the last T are the new ones.
 * y (T,H hs)  qkv (T,W)  keys, values (S,H_kv hs)  scratch (T,H,S). */
void mg_attention_cached(float *y, float *scratch, const float *qkv, const float *keys, const float *values,
    int64_t T, int64_t S, int64_t H, int64_t H_kv, int64_t hs, int64_t window, int64_t stride);

/* y = x * sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3): the tanh form of GELU (Hendrycks & Gimpel 2016,
 * arXiv 1606.08415), for 0.5 (1 + tanh u) = sigmoid(2u).   n elements; y may be x. */
void mg_gelu_forward(float *y, const float *x, int64_t n);
/* dx, and y again with the bits of the forward, so that y need not be kept.  dx may be dy, and y may be x. */
void mg_gelu_backward(float *dx, float *y, const float *dy, const float *x, int64_t n);

/* y = x * Phi(x), Phi the part of the standard normal distribution below x: GELU as it is defined.  As mg_gelu. */
void mg_gelu_exact_forward(float *y, const float *x, int64_t n);
void mg_gelu_exact_backward(float *dx, float *y, const float *dy, const float *x, int64_t n);

/* y = max(x, 0)^2 (So et al. 2021, arXiv 2109.08668).  As mg_gelu. */
void mg_relu2_forward(float *y, const float *x, int64_t n);
void mg_relu2_backward(float *dx, float *y, const float *dy, const float *x, int64_t n);

/* y = act(gate) * value, each row of x (N,2F) being F gates and F values; act is x sigmoid(x) in SwiGLU and the GELU of
 * mg_gelu in GEGLU (Shazeer 2020, arXiv 2002.05202).   y (N,F); not x. */
void mg_swiglu_forward(float *y, const float *x, int64_t N, int64_t F);
void mg_geglu_forward(float *y, const float *x, int64_t N, int64_t F);
/* dx (N,2F), and y again with the bits of the forward.   dy (N,F).  dx may be x, and y may be dy. */
void mg_swiglu_backward(float *dx, float *y, const float *dy, const float *x, int64_t N, int64_t F);
void mg_geglu_backward(float *dx, float *y, const float *dy, const float *x, int64_t N, int64_t F);

/* y = cap tanh(x / cap): between -cap and cap (Gemma Team 2024, arXiv 2408.00118).   n elements; y may be x. */
void mg_soft_cap_forward(float *y, const float *x, int64_t n, float cap);
/* dx = dy (1 - tanh(x / cap)^2).   dx may be dy or x. */
void mg_soft_cap_backward(float *dx, const float *dy, const float *x, int64_t n, float cap);

/* y = x with each element zeroed with probability p, else divided by 1-p.  Which ones is a pure function of
 * (key, index), see random.h: x (B,n) are B windows with a key of their own, keys (B), so that no window's mask
 * depends on those beside it.  The backward is the same call on the gradient.  y may be x. */
void mg_dropout(float *y, const float *x, const uint64_t *keys, int64_t B, int64_t n, float p);
/* y = x + dropout(branch); a plain sum for p = 0.  y may be x. */
void mg_residual_forward(float *y, const float *x, const float *branch, const uint64_t *keys, int64_t B, int64_t n,
    float p);

/* loss[n] = lse[n] - logits[n,targets[n]] in nats; 0 where the target is -1.  logits (N,V)  loss, lse (N).
 * Returns -1, or the first position whose target is outside [-1,V). */
int64_t mg_cross_entropy_forward(float *loss, float *lse, const float *logits, const int32_t *targets,
    int64_t N, int64_t V);
/* dlogits = scale * (softmax(logits) - onehot(target)), a zero row where the target is -1.  dlogits may be logits. */
void mg_cross_entropy_backward(float *dlogits, const float *logits, const float *lse, const int32_t *targets,
    int64_t N, int64_t V, float scale);

/* ---- recurrent layers ---------------------------------------------------------------------------------------
 * Rows of B sequences of T positions that remember.  starts (B,T), or NULL: where the document of each row begins;
 * nothing is remembered across the begin of one at a position > 0.  What is remembered at position 0 comes in (NULL:
 * nothing), and its gradient is not asked for. */

/* y_j = x + (before - x) * (mix_j + more_j) for J mixes, `before` being the row before (Peng et al. 2023, arXiv
 * 2305.13048).   y, more (J,B,T,C)  x (B,T,C)  mix (J,C)  last (B,C), the row before position 0.  more may be NULL. */
void mg_shift_mix_forward(float *y, const float *x, const float *mix, const float *more, const int32_t *starts,
    const float *last, int64_t B, int64_t T, int64_t C, int64_t J);
/* dmix is added to.  scratch (MG_PARTIALS,J,C). */
void mg_shift_mix_backward(float *dx, float *dmix, float *dmore, float *scratch, const float *dy, const float *x,
    const float *mix, const float *more, const int32_t *starts, const float *last, int64_t B, int64_t T, int64_t C,
    int64_t J);

/* y = silu(bias + sum over k < K of weight_k * x of k positions before), each channel for itself.
 * y, x (B,T,C)  weight (K,C)  bias (C)  before (B,K-1,C), the rows before position 0. */
void mg_conv_silu_forward(float *y, const float *x, const float *weight, const float *bias, const int32_t *starts,
    const float *before, int64_t B, int64_t T, int64_t C, int64_t K);
/* dweight, dbias are added to.  scratch: (MG_PARTIALS (K+1) + B T) C floats. */
void mg_conv_silu_backward(float *dx, float *dweight, float *dbias, float *scratch, const float *dy, const float *x,
    const float *weight, const float *bias, const int32_t *starts, const float *before, int64_t B, int64_t T, int64_t C,
    int64_t K);

/* Of each of H heads (Dao & Gu 2024, arXiv 2405.21060), S (N,P), s = softplus(dt + dt_bias), A = -exp(A_log):
 *   S = exp(s A) S + B (s x)^T;   y = S^T C + D x
 * xbc (B,T,H P + 2 N): x of all heads, B, C.  dt (B,T,H)  dt_bias, A_log, D (H)  y (B,T,H P)  before, after (B,H,N,P).
 * scratch of both: mg_ssd_scratch floats, on so many threads as run now. */
void mg_ssd_forward(float *y, float *after, float *scratch, const float *xbc, const float *dt, const float *dt_bias,
    const float *A_log, const float *D, const int32_t *starts, const float *before, int64_t B, int64_t T, int64_t H,
    int64_t P, int64_t N);
/* ddt_bias, dA_log, dD are added to. */
void mg_ssd_backward(float *dxbc, float *ddt, float *ddt_bias, float *dA_log, float *dD, float *scratch,
    const float *dy, const float *xbc, const float *dt, const float *dt_bias, const float *A_log, const float *D,
    const int32_t *starts, const float *before, int64_t B, int64_t T, int64_t H, int64_t P, int64_t N);
int64_t mg_ssd_scratch(int64_t B, int64_t T, int64_t H, int64_t P, int64_t N);

/* y = u rstd weight with u = x silu(gate) and rstd = 1/sqrt(mean(u^2) + eps), per row.   All (N,C), weight (C). */
void mg_gated_rmsnorm_forward(float *y, const float *x, const float *gate, const float *weight, int64_t N, int64_t C,
    float eps);
/* dweight is added to.  scratch (MG_PARTIALS,C). */
void mg_gated_rmsnorm_backward(float *dx, float *dgate, float *dweight, float *scratch, const float *dy, const float *x,
    const float *gate, const float *weight, int64_t N, int64_t C, float eps);

/* Of each of H heads of N channels (Peng et al. 2025, arXiv 2503.14456), S (N,N) with a row for each channel of a key:
 *   S = diag(w) S - b (S^T kk)^T + k v^T;   y = S^T r
 * y, r, w, k, v, kk, b (B,T,H N)  before, after (B,H,N,N).  w above 1/2, all finite.  scratch of both: mg_wkv7_scratch floats, on so
 * many threads as run now. */
void mg_wkv7_forward(float *y, float *after, float *scratch, const float *r, const float *w, const float *k,
    const float *v, const float *kk, const float *b, const int32_t *starts, const float *before, int64_t B, int64_t T,
    int64_t H, int64_t N);
void mg_wkv7_backward(float *dr, float *dw, float *dk, float *dv, float *dkk, float *db, float *scratch, const float *dy,
    const float *r, const float *w, const float *k, const float *v, const float *kk, const float *b,
    const int32_t *starts, const float *before, int64_t B, int64_t T, int64_t H, int64_t N);
int64_t mg_wkv7_scratch(int64_t T, int64_t N);

/* Of each of H heads of N channels (Peng et al. 2024, arXiv 2404.05892), S (N,N) with a row for each channel of a key:
 *   y = S^T r + v sum(r u k);   S = diag(w) S + k v^T, w = exp(-exp(decay))
 * y, r, k, v, decay (B,T,H N)  u (H N)  before, after (B,H,N,N).  scratch of both: mg_wkv6_scratch floats. */
void mg_wkv6_forward(float *y, float *after, float *scratch, const float *r, const float *k, const float *v,
    const float *decay, const float *u, const int32_t *starts, const float *before, int64_t B, int64_t T, int64_t H,
    int64_t N);
/* du is added to. */
void mg_wkv6_backward(float *dr, float *dk, float *dv, float *d_decay, float *du, float *scratch, const float *dy,
    const float *r, const float *k, const float *v, const float *decay, const float *u, const int32_t *starts,
    const float *before, int64_t B, int64_t T, int64_t H, int64_t N);
int64_t mg_wkv6_scratch(int64_t B, int64_t T, int64_t H, int64_t N);

/* y = x sigmoid(z) of n elements; and both gradients. */
void mg_gate_forward(float *y, const float *x, const float *z, int64_t n);
void mg_gate_backward(float *dx, float *dz, const float *dy, const float *x, const float *z, int64_t n);

/* What RWKV-7's recurrence takes, with a = sigmoid(rate):  w = exp(-exp(-1/2) sigmoid(decay));  kk = k k_k of a head
 * divided by its length, of 1e-12 at least;  b = kk a;  k2 = k (1 + (a - 1) k_a).   All (N,H hs), k_k and k_a (H hs). */
void mg_rwkv7_inputs_forward(float *w, float *k2, float *kk, float *b, const float *k, const float *decay,
    const float *rate, const float *k_k, const float *k_a, int64_t N, int64_t H, int64_t hs);
/* dk_k, dk_a are added to.  scratch (MG_PARTIALS,2,H hs). */
void mg_rwkv7_inputs_backward(float *dk, float *d_decay, float *d_rate, float *dk_k, float *dk_a, float *scratch,
    const float *dw, const float *dk2, const float *dkk, const float *db, const float *k, const float *decay,
    const float *rate, const float *k_k, const float *k_a, int64_t N, int64_t H, int64_t hs);

/* y = gate * (xhat weight + bias + v * sum(r k r_k)), xhat being x of a head less its mean, divided by its deviation, and
 * the sum that of a head.   All (N,H hs), weight, bias, r_k (H hs); without r_k (NULL) nor is there a sum, nor r, k, v. */
void mg_rwkv_output_forward(float *y, const float *x, const float *gate, const float *weight, const float *bias,
    const float *r, const float *k, const float *v, const float *r_k, int64_t N, int64_t H, int64_t hs, float eps);
/* dweight, dbias, dr_k are added to.  scratch (MG_PARTIALS,3,H hs). */
void mg_rwkv_output_backward(float *dx, float *dgate, float *dr, float *dk, float *dv, float *dweight, float *dbias,
    float *dr_k, float *scratch, const float *dy, const float *x, const float *gate, const float *weight,
    const float *bias, const float *r, const float *k, const float *v, const float *r_k, int64_t N, int64_t H, int64_t hs,
    float eps);

/* Tokens to experts: rows[places[n,j]] = x[n].   x (N,C)  places (N,k), a permutation of 0 .. N k - 1  rows (N k,C). */
void mg_dispatch_forward(float *rows, const float *x, const int32_t *places, int64_t N, int64_t k, int64_t C);
/* dx[n] = sum_j drows[places[n,j]]. */
void mg_dispatch_backward(float *dx, const float *drows, const int32_t *places, int64_t N, int64_t k, int64_t C);

/* And back: y[n] = sum_j factors[n,j] rows[places[n,j]].   factors (N,k). */
void mg_combine_forward(float *y, const float *rows, const float *factors, const int32_t *places, int64_t N, int64_t k,
    int64_t C);
/* drows[places[n,j]] = factors[n,j] dy[n];  dfactors[n,j] = dy[n] . rows[places[n,j]].  drows may be rows. */
void mg_combine_backward(float *drows, float *dfactors, const float *dy, const float *rows, const float *factors,
    const int32_t *places, int64_t N, int64_t k, int64_t C);

/* ---- optimizer -------------------------------------------------------------------------------------------- */

/* The sum of squares of n floats in double; partial sums per block of 65,536, added in order.  scratch: one double
 * for each block.  Infinities and NaNs come through. */
double mg_sum_squares(const float *x, double *scratch, int64_t n);

/* One step of Adam (Kingma & Ba 2014, arXiv 1412.6980) with decoupled weight decay, in place:
 *   g = grad_scale * grad;  m1 = beta1 m1 + (1-beta1) g;  m2 = beta2 m2 + (1-beta2) g^2
 *   p -= lr * (m1/correction1 / (sqrt(m2/correction2) + eps) + weight_decay * p)
 * correction_i = 1 - beta_i^t, t = completed steps + 1.  grad is spent: it is left zero.
 * rest_i = 1 - beta_i comes from the caller, who has it in double: the float nearest to 0.99999999 is 1. */
void mg_adam_step(float *p, float *m1, float *m2, float *grad, int64_t n, float lr, float beta1, float beta2,
    float rest1, float rest2, float eps, float weight_decay, float correction1, float correction2, float grad_scale);

/* g = grad_scale * grad;  m = beta m + (1-beta) g;  grad = beta m + (1-beta) g, the momentum of Nesterov's method.
 * In place, over n floats; rest = 1 - beta. */
void mg_nesterov_momentum(float *grad, float *m, int64_t n, float beta, float rest, float grad_scale);

/* Each of n matrices x[i] (M,K), in place, nearer to the orthogonal one with the same singular vectors (Jordan et al.
 * 2024, https://kellerjordan.github.io/posts/muon/):  X = x / (margin |x| + 1e-7), |x| the root of its sum of squares;
 * then in each step  X = a X + (b A + c A^2) X,  A = X X^T,  with the next three of abc (steps,3).
 * Products are made as `how` says.  scratch: mg_newton_schulz_scratch floats, at an address that doubles may have. */
void mg_newton_schulz(float *const *x, float *scratch, const float *abc, int64_t n, int64_t M, int64_t K, int64_t steps,
    float margin, int how);
int64_t mg_newton_schulz_scratch(int64_t M, int64_t K, int how);

/* p = keep p - rate update, over n floats.  update is spent: it is left zero. */
void mg_descend(float *p, float *update, int64_t n, float rate, float keep);

/* cdef: end */

#endif
