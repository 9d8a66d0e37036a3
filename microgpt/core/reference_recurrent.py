"""NumPy truth of the recurrent operations: same names, arguments and results as `recurrent`.

States are kept of every token, and gradients go back through them one by one; see `reference`.
"""

import numpy as np

NORM_EPS = 1e-5
DECAY_RATE = np.exp(-0.5)  # the fastest decay of a channel of RWKV-7 is exp(-DECAY_RATE)
LEAST_NORM = 1e-12


def _sigmoid(x):
    return np.exp(-np.logaddexp(0, -x))


def _silu_slope(x):
    s = _sigmoid(x)
    return s + x * s * (1 - s)


def _is_cut(starts, B, T):
    """Whether a document begins at a position behind the first, (B, T)."""
    if starts is None:
        return np.zeros((B, T), bool)
    return (starts == np.arange(T)) & (np.arange(T) > 0)


def _rows_before(x, k, starts, before):
    """x (B, T, C) of k positions before, and which of those there are; `before` (B, n, C) lie before x."""
    B, T, C = x.shape
    if k == 0:
        return x, np.ones((B, T, 1), bool)
    ahead = np.zeros((B, k, C), x.dtype) if before is None else before[:, before.shape[1] - k :]
    rows = np.concatenate([ahead, x], 1)[:, :T]
    at = np.arange(T) - k
    first = np.zeros((B, T)) if starts is None else starts
    is_there = (at >= first) | ((at < 0) & (first == 0))
    return rows * is_there[:, :, None], is_there[:, :, None]


def shift_mix_forward(x, mix, more=None, starts=None, last=None):
    before, _ = _rows_before(x, 1, starts, None if last is None else last[:, None])
    return x + (before - x) * _shares(mix, more)


def _shares(mix, more):
    """Of the row before, (J, B, T, C) or (J, 1, 1, C)."""
    shares = mix[:, None, None]
    return shares if more is None else shares + more


def shift_mix_backward(dy, x, mix, dmix, more=None, starts=None, last=None):
    before, is_there = _rows_before(x, 1, starts, None if last is None else last[:, None])
    shares, dmore = _shares(mix, more), dy * (before - x)
    dmix += dmore.sum((1, 2))
    dx = (dy * (1 - shares)).sum(0)
    dx[:, :-1] += ((dy * shares).sum(0) * is_there)[:, 1:]
    return dx if more is None else (dx, dmore)


def conv_silu_forward(x, weight, bias, starts=None, before=None):
    total = _conv(x, weight, bias, starts, before)
    return total * _sigmoid(total)


def _conv(x, weight, bias, starts, before):
    return bias + sum(weight[k] * _rows_before(x, k, starts, before)[0] for k in range(len(weight)))


def conv_silu_backward(dy, x, weight, bias, dweight, dbias, starts=None, before=None):
    d_total = dy * _silu_slope(_conv(x, weight, bias, starts, before))
    dx, T = np.zeros_like(x), x.shape[1]
    for k in range(len(weight)):
        rows, is_there = _rows_before(x, k, starts, before)
        dweight[k] += (d_total * rows).sum((0, 1))
        dx[:, : max(0, T - k)] += (d_total * is_there)[:, k:] * weight[k]
    dbias += d_total.sum((0, 1))
    return dx


def _per_head(x, H):
    """(B, T, H n) -> (T, B, H, n)."""
    B, T, C = x.shape
    return x.reshape(B, T, H, C // H).transpose(1, 0, 2, 3)


def _side_by_side(x):
    """(T, B, H, n) -> (B, T, H n)."""
    T, B, H, n = x.shape
    return x.transpose(1, 0, 2, 3).reshape(B, T, H * n)


def _outer(a, b):
    return a[..., :, None] * b[..., None, :]


def _first_state(before, shape, dtype):
    return np.zeros(shape, dtype) if before is None else before.copy()


def _ssd_parts(xbc, dt, dt_bias, A_log, N):
    """x (T, B, H, P); keys and queries (T, B, N); steps and decays (T, B, H)."""
    x, key, query = np.split(xbc, [xbc.shape[-1] - 2 * N, xbc.shape[-1] - N], -1)
    steps = np.logaddexp(0, dt + dt_bias).swapaxes(0, 1)
    parts = _per_head(x, dt.shape[-1]), key.swapaxes(0, 1), query.swapaxes(0, 1)
    return *parts, steps, np.exp(steps * -np.exp(A_log))


def ssd_forward(xbc, dt, dt_bias, A_log, D, N, starts=None, before=None):
    y, states = _ssd_states(xbc, dt, dt_bias, A_log, D, N, starts, before)
    return y, states[-1]


def _ssd_states(xbc, dt, dt_bias, A_log, D, N, starts, before):
    """y, and the state (B, H, N, P) before each token, and behind the last."""
    x, key, query, steps, decays = _ssd_parts(xbc, dt, dt_bias, A_log, N)
    T, B, H, P = x.shape
    is_cut, S, states, y = (
        _is_cut(starts, B, T),
        _first_state(before, (B, H, N, P), xbc.dtype),
        [],
        np.empty_like(x),
    )
    for t in range(T):
        S = np.where(is_cut[:, t, None, None, None], 0, S)
        states.append(S)
        S = decays[t][..., None, None] * S + _outer(key[t][:, None], steps[t][..., None] * x[t])
        y[t] = np.einsum("bhnp,bn->bhp", S, query[t]) + D[:, None] * x[t]
    return _side_by_side(y), [*states, S]


def ssd_backward(dy, xbc, dt, dt_bias, A_log, D, N, ddt_bias, dA_log, dD, starts=None, before=None):
    x, key, query, steps, decays = _ssd_parts(xbc, dt, dt_bias, A_log, N)
    T, B, H, P = x.shape
    _, states = _ssd_states(xbc, dt, dt_bias, A_log, D, N, starts, before)
    is_cut, dy, A = _is_cut(starts, B, T), _per_head(dy, H), -np.exp(A_log)
    dx, dkey, dquery = dy * D[:, None], np.empty_like(key), np.empty_like(query)
    dsteps, dS = np.empty_like(steps), np.zeros((B, H, N, P), dy.dtype)
    for t in reversed(range(T)):
        u, decay = steps[t][..., None] * x[t], decays[t]
        S = decay[..., None, None] * states[t] + _outer(key[t][:, None], u)  # behind the token
        dquery[t] = np.einsum("bhnp,bhp->bn", S, dy[t])
        dS = dS + _outer(query[t][:, None], dy[t])
        du = np.einsum("bhnp,bn->bhp", dS, key[t])
        dkey[t] = np.einsum("bhnp,bhp->bn", dS, u)
        d_log = (dS * states[t]).sum((-1, -2)) * decay
        dx[t] += steps[t][..., None] * du
        dsteps[t] = (x[t] * du).sum(-1) + A * d_log
        dA_log += (steps[t] * d_log).sum(0) * A
        dS = np.where(is_cut[:, t, None, None, None], 0, decay[..., None, None] * dS)
    dD += (dy * x).sum((0, 1, 3))
    ddt = dsteps.swapaxes(0, 1) * _sigmoid(dt + dt_bias)
    ddt_bias += ddt.sum((0, 1))
    return np.concatenate([_side_by_side(dx), dkey.swapaxes(0, 1), dquery.swapaxes(0, 1)], -1), ddt


def gated_rmsnorm_forward(x, gate, weight, eps=NORM_EPS):
    u = x * gate * _sigmoid(gate)
    return u / np.sqrt((u * u).mean(-1, keepdims=True) + eps) * weight


def gated_rmsnorm_backward(dy, x, gate, weight, dweight, eps=NORM_EPS):
    silu = gate * _sigmoid(gate)
    u = x * silu
    rstd = 1 / np.sqrt((u * u).mean(-1, keepdims=True) + eps)
    dweight += (dy * u * rstd).sum(0)
    dxhat = dy * weight
    du = rstd * (dxhat - u * rstd * (dxhat * u * rstd).mean(-1, keepdims=True))
    return du * silu, du * x * _silu_slope(gate)


def wkv7_forward(r, w, k, v, kk, b, H, starts=None, before=None):
    y, states = _wkv7_states(r, w, k, v, kk, b, H, starts, before)
    return y, states[-1]


def _wkv7_states(r, w, k, v, kk, b, H, starts, before):
    """y, and the state (B, H, N, N) before each token, and behind the last."""
    r, w, k, v, kk, b = (_per_head(x, H) for x in (r, w, k, v, kk, b))
    T, B, _, N = r.shape
    is_cut, S, states, y = _is_cut(starts, B, T), _first_state(before, (B, H, N, N), r.dtype), [], r.copy()
    for t in range(T):
        S = np.where(is_cut[:, t, None, None, None], 0, S)
        states.append(S)
        S = _wkv7_next(S, w[t], k[t], v[t], kk[t], b[t])
        y[t] = np.einsum("bhij,bhi->bhj", S, r[t])
    return _side_by_side(y), [*states, S]


def _wkv7_next(S, w, k, v, kk, b):
    return w[..., None] * S - _outer(b, np.einsum("bhij,bhi->bhj", S, kk)) + _outer(k, v)


def wkv7_backward(dy, r, w, k, v, kk, b, H, starts=None, before=None):
    _, states = _wkv7_states(r, w, k, v, kk, b, H, starts, before)
    r, w, k, v, kk, b, dy = (_per_head(x, H) for x in (r, w, k, v, kk, b, dy))
    grads = dr, dw, dk, dv, dkk, db = [np.empty_like(r) for _ in range(6)]
    dS, is_cut = np.zeros_like(states[0]), _is_cut(starts, *r.shape[1::-1])
    for t in reversed(range(len(r))):
        S = states[t]
        removed = np.einsum("bhij,bhi->bhj", S, kk[t])
        dr[t] = np.einsum("bhij,bhj->bhi", _wkv7_next(S, w[t], k[t], v[t], kk[t], b[t]), dy[t])
        dS = dS + _outer(r[t], dy[t])
        dw[t] = (dS * S).sum(-1)
        dk[t], dv[t] = np.einsum("bhij,bhj->bhi", dS, v[t]), np.einsum("bhij,bhi->bhj", dS, k[t])
        db[t], d_removed = -np.einsum("bhij,bhj->bhi", dS, removed), -np.einsum("bhij,bhi->bhj", dS, b[t])
        dkk[t] = np.einsum("bhij,bhj->bhi", S, d_removed)
        dS = np.where(is_cut[:, t, None, None, None], 0, w[t][..., None] * dS + _outer(kk[t], d_removed))
    return tuple(_side_by_side(grad) for grad in grads)


def wkv6_forward(r, k, v, decay, u, H, starts=None, before=None):
    y, states = _wkv6_states(r, k, v, decay, u, H, starts, before)
    return y, states[-1]


def _wkv6_states(r, k, v, decay, u, H, starts, before):
    """y, and the state (B, H, N, N) before each token, and behind the last."""
    r, k, v, decay = (_per_head(x, H) for x in (r, k, v, decay))
    T, B, _, N = r.shape
    is_cut, S, states, y = _is_cut(starts, B, T), _first_state(before, (B, H, N, N), r.dtype), [], r.copy()
    w, u = np.exp(-np.exp(decay)), u.reshape(H, N)
    for t in range(T):
        S = np.where(is_cut[:, t, None, None, None], 0, S)
        states.append(S)
        y[t] = np.einsum("bhij,bhi->bhj", S, r[t]) + (r[t] * u * k[t]).sum(-1, keepdims=True) * v[t]
        S = w[t][..., None] * S + _outer(k[t], v[t])
    return _side_by_side(y), [*states, S]


def wkv6_backward(dy, r, k, v, decay, u, H, du, starts=None, before=None):
    _, states = _wkv6_states(r, k, v, decay, u, H, starts, before)
    r, k, v, decay, dy = (_per_head(x, H) for x in (r, k, v, decay, dy))
    grads = dr, dk, dv, d_decay = [np.empty_like(r) for _ in range(4)]
    dS, is_cut, u_h = np.zeros_like(states[0]), _is_cut(starts, *r.shape[1::-1]), u.reshape(H, -1)
    w = np.exp(-np.exp(decay))
    for t in reversed(range(len(r))):
        d_more = (v[t] * dy[t]).sum(-1, keepdims=True)
        dr[t] = np.einsum("bhij,bhj->bhi", states[t], dy[t]) + u_h * k[t] * d_more
        dk[t] = np.einsum("bhij,bhj->bhi", dS, v[t]) + u_h * r[t] * d_more
        dv[t] = np.einsum("bhij,bhi->bhj", dS, k[t]) + (r[t] * u_h * k[t]).sum(-1, keepdims=True) * dy[t]
        d_decay[t] = (dS * states[t]).sum(-1) * w[t] * -np.exp(decay[t])
        du += (r[t] * k[t] * d_more).sum(0).reshape(du.shape)
        dS = w[t][..., None] * dS + _outer(r[t], dy[t])
        dS = np.where(is_cut[:, t, None, None, None], 0, dS)
    return tuple(_side_by_side(grad) for grad in grads)


def gate_forward(x, z):
    return x * _sigmoid(z)


def gate_backward(dy, x, z):
    s = _sigmoid(z)
    return dy * s, dy * x * s * (1 - s)


def _normalised(k, k_k, H):
    """k * k_k of each head divided by its length; and that length, which is LEAST_NORM at least."""
    u = (k * k_k).reshape(len(k), H, -1)
    norm = np.maximum(np.sqrt((u * u).sum(-1, keepdims=True)), LEAST_NORM)
    return (u / norm).reshape(k.shape), norm


def rwkv7_inputs_forward(k, decay, rate, k_k, k_a, H):
    a, (kk, _) = _sigmoid(rate), _normalised(k, k_k, H)
    return np.exp(-DECAY_RATE * _sigmoid(decay)), k * (1 + (a - 1) * k_a), kk, kk * a


def rwkv7_inputs_backward(dw, dk2, dkk, db, k, decay, rate, k_k, k_a, H, dk_k, dk_a):
    a, s, (kk, norm) = _sigmoid(rate), _sigmoid(decay), _normalised(k, k_k, H)
    dkk = (dkk + db * a).reshape(len(k), H, -1)
    unit = kk.reshape(dkk.shape)
    along = np.where(norm > LEAST_NORM, (dkk * unit).sum(-1, keepdims=True), 0)
    du = ((dkk - unit * along) / norm).reshape(k.shape)
    dk_k += (du * k).sum(0)
    dk_a += (dk2 * k * (a - 1)).sum(0)
    d_decay = dw * np.exp(-DECAY_RATE * s) * -DECAY_RATE * s * (1 - s)
    return du * k_k + dk2 * (1 + (a - 1) * k_a), d_decay, (db * kk + dk2 * k * k_a) * a * (1 - a)


def _head_norm(x, H, eps):
    """Each head of x (N, C) less its mean, divided by its deviation, (N, H, hs); and that deviation."""
    x = x.reshape(len(x), H, -1)
    std = np.sqrt(x.var(-1, keepdims=True) + eps)
    return (x - x.mean(-1, keepdims=True)) / std, std


def _bonus(r, k, r_k, H):
    """(N, H, 1)."""
    return (r * k * r_k).reshape(len(r), H, -1).sum(-1, keepdims=True)


def rwkv_output_forward(x, gate, weight, bias, H, eps, bonus=None):
    total = _head_norm(x, H, eps)[0].reshape(x.shape) * weight + bias
    if bonus is not None:
        r, k, v, r_k = bonus
        total = total + (_bonus(r, k, r_k, H) * v.reshape(len(v), H, -1)).reshape(x.shape)
    return total * gate


def rwkv_output_backward(dy, x, gate, weight, bias, H, eps, dweight, dbias, bonus=None, dr_k=None):
    xhat, std = _head_norm(x, H, eps)
    d_total, flat = dy * gate, xhat.reshape(x.shape)
    dgate = dy * rwkv_output_forward(x, np.ones_like(gate), weight, bias, H, eps, bonus)
    dweight += (d_total * flat).sum(0)
    dbias += d_total.sum(0)
    dxhat = (d_total * weight).reshape(xhat.shape)
    along = (dxhat * xhat).mean(-1, keepdims=True)
    dx = ((dxhat - dxhat.mean(-1, keepdims=True) - xhat * along) / std).reshape(x.shape)
    if bonus is None:
        return dx, dgate
    r, k, v, r_k = bonus
    shape = xhat.shape
    d_sum = (d_total.reshape(shape) * v.reshape(shape)).sum(-1, keepdims=True)
    d_sum = np.broadcast_to(d_sum, shape).reshape(x.shape)
    dr_k += (r * k * d_sum).sum(0)
    dv = (d_total.reshape(shape) * _bonus(r, k, r_k, H)).reshape(x.shape)
    return dx, dgate, k * r_k * d_sum, r * r_k * d_sum, dv
