"""NumPy truth of every operation, in any float type: same names, arguments and results as `ops`.

Written to be read and to be differentiated numerically, not to be fast.  Whatever precision a call asks for,
all is computed in the type of the arrays.
"""

import math

import numpy as np

from . import random

NORM_EPS = 1e-5


def embedding_forward(weight, ids):
    return _numbers(weight[ids], np.float32)


def embedding_backward(dy, ids, dweight):
    np.add.at(dweight, ids, dy)


def rmsnorm_forward(x, weight, eps=NORM_EPS, y=None):
    rstd = 1 / np.sqrt((x * x).mean(-1) + eps)  # (N,)
    return rmsnorm_again(x, weight, rstd, y), rstd


def rmsnorm_again(x, weight, rstd, y=None):
    return _into(y, x * rstd[..., None] * weight)


def rmsnorm_backward(dy, x, weight, rstd, dweight, dresidual=None, dx=None):
    rstd = rstd[..., None]
    xhat = x * rstd  # (N, C)
    dweight += _over_rows(dy * xhat)
    dxhat = dy * weight
    along = (dxhat * xhat).mean(-1, keepdims=True)
    through = rstd * (dxhat - xhat * along)
    return _into(dx, through if dresidual is None else dresidual + through)


def layernorm_forward(x, weight, bias, eps=NORM_EPS, y=None):
    mean, rstd = x.mean(-1), 1 / np.sqrt(x.var(-1) + eps)
    stats = np.stack([mean, rstd], -1)  # (N, 2)
    return layernorm_again(x, weight, bias, stats, y), stats


def layernorm_again(x, weight, bias, stats, y=None):
    return _into(y, (x - stats[..., :1]) * stats[..., 1:] * weight + bias)


def layernorm_backward(dy, x, weight, stats, dweight, dbias, dresidual=None, dx=None):
    rstd = stats[..., 1:]
    xhat = (x - stats[..., :1]) * rstd  # (N, C)
    dweight += _over_rows(dy * xhat)
    dbias += _over_rows(dy)
    dxhat = dy * weight
    along = (dxhat * xhat).mean(-1, keepdims=True)
    through = rstd * (dxhat - dxhat.mean(-1, keepdims=True) - xhat * along)
    return _into(dx, through if dresidual is None else dresidual + through)


def _over_rows(x):
    return x.reshape(-1, x.shape[-1]).sum(0)


def _into(place, x):
    if place is None:
        return x
    place[...] = x
    return place


def to_bf16(x: np.ndarray) -> np.ndarray:
    """x rounded to the 8 significant bits of bfloat16, to nearest even; in x's own type, and its range.

    With it `linear_*(to_bf16(x), ...)` is the truth of a bf16 product, whose sums are in float.
    """
    mantissa, exponent = np.frexp(x)
    return np.ldexp(np.rint(np.ldexp(mantissa, 8)), exponent - 8)


def bf16_bits(x: np.ndarray) -> np.ndarray:
    """float32 -> bfloat16 as it is stored: the upper half of the bits, rounded to nearest even, in uint16."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    upper = bits >> 16
    rounded = ((bits & 0x7FFFFFFF) + (0x7FFF + (upper & 1)) >> 16) | (upper & 0x8000)
    return np.where(np.isnan(x), upper | 0x40, rounded).astype(np.uint16)


def bf16_floats(bits: np.ndarray) -> np.ndarray:
    """The float32 of stored bfloat16."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _numbers(weight, dtype):
    """A weight in the type of what it is multiplied with."""
    return bf16_floats(weight).astype(dtype) if weight.dtype == np.uint16 else weight


def linear_forward(x, weight, precision="fp32"):
    return x @ _numbers(weight, x.dtype).T


def linear_backward_input(dy, weight, precision="fp32"):
    return dy @ _numbers(weight, dy.dtype)


def linear_backward_weight(dy, x, dweight, precision="fp32"):
    dweight += dy.T @ x


def bias_forward(y, bias):
    y += bias
    return y


def bias_backward(dy, dbias):
    dbias += dy.sum(0)


def rope_tables(T, hs, theta=10000.0, dtype=np.float64, n_pairs=None, stretch=1.0):
    """cos and sin (T, hs/2) of the angle t / stretch * theta^(-i/n_pairs), 0 from pair n_pairs on; None: all
    pairs turn."""
    n_pairs = hs // 2 if n_pairs is None else n_pairs
    angle = np.zeros((T, hs // 2))
    if n_pairs:
        speeds = theta ** (-2 * np.arange(n_pairs) / (2 * n_pairs))
        angle[:, :n_pairs] = np.outer(np.arange(T) / stretch, speeds)
    return np.cos(angle).astype(dtype), np.sin(angle).astype(dtype)


def rope(qkv, cos, sin, heads, start=0):
    qkv[:] = _rotated(qkv[None], cos[start:], sin[start:], heads)[0]


def _rotated(qkv, cos, sin, heads):
    """qkv with its query and key heads turned; with -sin, turned back."""
    B, T, _ = qkv.shape
    half, turned = heads.hs // 2, heads.C + heads.C_kv
    c, s = (table[:T, None, :] for table in (cos, sin))  # (T, 1, hs/2)
    x = qkv[:, :, :turned].reshape(B, T, -1, heads.hs)
    a, b = x[..., :half], x[..., half:]
    x = np.concatenate([a * c - b * s, b * c + a * s], -1)
    return np.concatenate([x.reshape(B, T, -1), qkv[:, :, turned:]], -1)


def _parts(qkv, heads):
    """q (B, H, T, hs) and k, v (B, H, T, hs), those that several query heads share repeated."""
    q, k, v = np.split(qkv, [heads.C, heads.C + heads.C_kv], -1)
    return _heads(q, heads), _shared(k, heads), _shared(v, heads)


def _heads(x, heads):
    """(B, T, n hs) -> (B, n, T, hs)."""
    B, T, C = x.shape
    return x.reshape(B, T, C // heads.hs, heads.hs).transpose(0, 2, 1, 3)


def _shared(x, heads):
    """Keys or values (B, T, C_kv) -> (B, H, T, hs): each head as often as query heads go with it."""
    return np.repeat(_heads(x, heads), heads.H // heads.H_kv, axis=1)


def _rows(x):
    """(B, H, T, hs) -> (B, T, C)."""
    B, H, T, hs = x.shape
    return x.transpose(0, 2, 1, 3).reshape(B, T, H * hs)


def _summed_rows(x, heads):
    """Gradients (B, H, T, hs) of repeated keys or values -> (B, T, C_kv)."""
    B, _, T, hs = x.shape
    return _rows(x.reshape(B, heads.H_kv, -1, T, hs).sum(2))


def _is_seen(T, S, heads, starts):
    """Which of S keys each of the last T positions sees: (B, 1, T, S), or with 1 for B where all rows are one
    document."""
    key, query = np.arange(S), np.arange(S - T, S)[:, None]
    begin = np.zeros((1, 1, 1, 1), int) if starts is None else starts[:, None, :, None]
    is_near = key > query - (heads.window or S)
    is_far = (key - begin) % heads.stride == 0 if heads.stride else False
    return (begin <= key) & (key <= query) & (is_near | is_far)


def _probs(q, k, heads, starts=None):
    """Softmax over the keys that each query sees, and its log-sum-exp; the last rows of k are those of q."""
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    scores = np.where(_is_seen(q.shape[2], k.shape[2], heads, starts), scores, -np.inf)
    most = scores.max(-1, keepdims=True)
    lse = most + np.log(np.exp(scores - most).sum(-1, keepdims=True))
    return np.exp(scores - lse), lse[..., 0]


def attention_forward(qkv, cos, sin, heads, starts=None, precision="fp32"):
    q, k, v = _parts(_rotated(qkv, cos, sin, heads), heads)
    probs, lse = _probs(q, k, heads, starts)
    return _rows(probs @ v), lse


def attention_backward(dy, qkv, cos, sin, y, lse, heads, starts=None, precision="fp32"):
    q, k, v = _parts(_rotated(qkv, cos, sin, heads), heads)
    probs, _ = _probs(q, k, heads, starts)
    dy, scale = _heads(dy, heads), 1 / np.sqrt(heads.hs)
    dv = probs.swapaxes(-1, -2) @ dy
    dprobs = dy @ v.swapaxes(-1, -2)
    dscores = probs * (dprobs - (dprobs * probs).sum(-1, keepdims=True)) * scale
    dk = dscores.swapaxes(-1, -2) @ q
    dturned = np.concatenate([_rows(dscores @ k), *(_summed_rows(x, heads) for x in (dk, dv))], -1)
    return _rotated(dturned, cos, -sin, heads)


def attention_cached(qkv, keys, values, heads):
    q, _, _ = _parts(qkv[None], heads)
    probs, _ = _probs(q, _shared(keys[None], heads), heads)
    return _rows(probs @ _shared(values[None], heads))[0]


GELU_SLOPE = np.sqrt(2 / np.pi)
GELU_CUBIC = 0.044715


def gelu_forward(x):
    return 0.5 * x * (1 + np.tanh(GELU_SLOPE * (x + GELU_CUBIC * x**3)))


def gelu_backward(dy, x):
    tanh = np.tanh(GELU_SLOPE * (x + GELU_CUBIC * x**3))
    slope = GELU_SLOPE * (1 + 3 * GELU_CUBIC * x**2)
    return dy * (0.5 * (1 + tanh) + 0.5 * x * (1 - tanh**2) * slope), gelu_forward(x)


def gelu_exact_forward(x):
    return x * _share(x)


def gelu_exact_backward(dy, x):
    density = np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)
    return dy * (_share(x) + x * density), gelu_exact_forward(x)


def _share(x):
    """The part of the standard normal distribution below x."""
    return np.vectorize(lambda a: 0.5 * math.erfc(-a / math.sqrt(2)), otypes=[x.dtype])(x)


def relu2_forward(x):
    return np.maximum(x, 0) ** 2


def relu2_backward(dy, x):
    return 2 * dy * np.maximum(x, 0), relu2_forward(x)


def _silu_gate(x):
    """sigmoid(x), and its derivative."""
    s = 1 / (1 + np.exp(-x))
    return s, s * (1 - s)


def swiglu_forward(x):
    gate, value = np.split(x, 2, -1)
    return gate * _silu_gate(gate)[0] * value


def swiglu_backward(dy, x):
    gate, value = np.split(x, 2, -1)
    s, slope = _silu_gate(gate)
    return np.concatenate([dy * value * (s + gate * slope), dy * gate * s], -1), swiglu_forward(x)


def geglu_forward(x):
    gate, value = np.split(x, 2, -1)
    return gelu_forward(gate) * value


def geglu_backward(dy, x):
    gate, value = np.split(x, 2, -1)
    dgate, active = gelu_backward(dy * value, gate)
    return np.concatenate([dgate, dy * active], -1), active * value


def soft_cap_forward(x, cap):
    return cap * np.tanh(x / cap)


def soft_cap_backward(dy, x, cap):
    return dy * (1 - np.tanh(x / cap) ** 2)


def dropout_forward(x, p, keys):
    n = x.size // len(keys)
    factors = [random.keep_factors(int(key), n, p) for key in keys]
    return x * np.concatenate(factors).reshape(x.shape).astype(x.dtype)


def dropout_backward(dy, p, keys):
    return dropout_forward(dy, p, keys)


def residual_forward(x, branch, p, keys):
    return x + (dropout_forward(branch, p, keys) if p else branch)


def residual_backward(dy, p, keys):
    return dropout_backward(dy, p, keys) if p else dy


def cross_entropy_forward(logits, targets):
    most = logits.max(-1, keepdims=True)
    lse = (most + np.log(np.exp(logits - most).sum(-1, keepdims=True)))[:, 0]
    loss = lse - logits[np.arange(len(targets)), np.maximum(targets, 0)]
    return np.where(targets < 0, 0, loss), lse


def cross_entropy_backward(logits, lse, targets, scale):
    dlogits = np.exp(logits - lse[:, None])
    dlogits[np.arange(len(targets)), np.maximum(targets, 0)] -= 1
    return dlogits * (scale * (targets >= 0))[:, None]


def dispatch_forward(x, places):
    rows = np.empty((places.size, x.shape[1]), x.dtype)
    rows[places] = x[:, None]
    return rows


def dispatch_backward(drows, places):
    return drows[places].sum(1)


def combine_forward(rows, factors, places):
    return (rows[places] * factors[:, :, None]).sum(1)


def combine_backward(dy, rows, factors, places):
    drows = np.empty_like(rows)
    drows[places] = dy[:, None] * factors[:, :, None]
    return drows, (dy[:, None] * rows[places]).sum(-1)


def sum_squares(x):
    return float((x.astype(np.float64) ** 2).sum())


def adam_step(p, grad, m1, m2, *, lr, beta1, beta2, eps, weight_decay, step, grad_scale):
    scaled = grad * grad_scale
    grad[:] = 0
    m1[:] = beta1 * m1 + (1 - beta1) * scaled
    m2[:] = beta2 * m2 + (1 - beta2) * scaled * scaled
    m1hat, m2hat = m1 / (1 - beta1 ** (step + 1)), m2 / (1 - beta2 ** (step + 1))
    p -= lr * (m1hat / (np.sqrt(m2hat) + eps) + weight_decay * p)


def nesterov_momentum(grad, m, *, beta, grad_scale):
    g = (1 - beta) * grad_scale * grad
    m[:] = beta * m + g
    grad[:] = beta * m + g


def newton_schulz(x, polynomials, margin=1.0, precision="fp32"):
    for matrix in x:
        X = matrix / (margin * np.sqrt((matrix**2).sum()) + 1e-7)
        for a, b, c in polynomials:
            A = X @ X.T
            X = a * X + (b * A + c * A @ A) @ X
        matrix[:] = X


def descend(p, update, *, rate, keep=1.0):
    p[:] = keep * p - rate * update
    update[:] = 0
