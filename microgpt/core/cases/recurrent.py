"""Cases of `recurrent.py`."""

from collections.abc import Callable
from typing import Any

import numpy as np

from microgpt.core import random, recurrent

from .case import ROWS, Case, Inputs, Zeros, normal, starts_of


def _fade(name: str, *shape: int) -> np.ndarray:
    """Factors between 0.5 and 1."""
    return 1 - random.uniform(random.key(0, name, *shape), int(np.prod(shape))).reshape(shape) / 2


def _shift_mix(x: Inputs) -> tuple[tuple[np.ndarray, ...], tuple[Any, ...]]:
    return (x["x"], x["mix"]), (x.get("more"), *_given(x))


def _shift_mix_forward(i: Inputs) -> tuple[np.ndarray, None]:
    arrays, memory = _shift_mix(i)
    return recurrent.shift_mix_forward(*arrays, *memory), None


def _shift_mix_backward(dy: np.ndarray, i: Inputs, saved: Any, zeros: Zeros) -> dict[str, np.ndarray]:
    arrays, memory = _shift_mix(i)
    dmix = zeros("mix")
    dx = recurrent.shift_mix_backward(dy, *arrays, dmix, *memory)
    dx, more = dx if "more" in i else (dx, None)
    return {"x": dx, "mix": dmix} | ({} if more is None else {"more": more})


def _conv_silu_backward(dy: np.ndarray, i: Inputs, saved: Any, zeros: Zeros) -> dict[str, np.ndarray]:
    dweight, dbias = zeros("weight"), zeros("bias")
    memory = _given(i)
    dx = recurrent.conv_silu_backward(dy, i["x"], i["weight"], i["bias"], dweight, dbias, *memory)
    return {"x": dx, "weight": dweight, "bias": dbias}


def _whole(x: np.ndarray) -> np.ndarray:
    """What an operation remembers at position 0 is no variable: it hides in integers, in steps of 1/64."""
    return np.round(64 * x).astype(np.int32)


def _given(i: Inputs) -> tuple[np.ndarray, np.ndarray]:
    """Where documents begin, and what comes in at position 0."""
    first = next(iter(i.values()))
    return i["starts"], (i["before"] / 64).astype(first.dtype)


_SSD = ("xbc", "dt", "dt_bias", "A_log", "D")


def _ssd_make(B: int, T: int, H: int, P: int, N: int) -> Inputs:
    return {
        "xbc": normal("xbc", B, T, H * P + 2 * N),
        "dt": normal("dt", B, T, H) - 2,
        "dt_bias": normal("dt_bias", H) / 2,
        "A_log": normal("A_log", H),
        "D": normal("D", H),
        "starts": starts_of(B, T, 3),
        "before": _whole(normal("before", B, H, N, P)),
    }


def _ssd_forward(i: Inputs) -> tuple[np.ndarray, None]:
    return recurrent.ssd_forward(*(i[name] for name in _SSD), i["before"].shape[2], *_given(i))[0], None


def _ssd_backward(dy: np.ndarray, i: Inputs, saved: Any, zeros: Zeros) -> dict[str, np.ndarray]:
    sums = {name: zeros(name) for name in ("dt_bias", "A_log", "D")}
    N = i["before"].shape[2]
    dxbc, ddt = recurrent.ssd_backward(dy, *(i[name] for name in _SSD), N, *sums.values(), *_given(i))
    return {"xbc": dxbc, "dt": ddt, **sums}


def _gated_rmsnorm_backward(dy: np.ndarray, i: Inputs, saved: Any, zeros: Zeros) -> dict[str, np.ndarray]:
    dweight = zeros("weight")
    dx, dgate = recurrent.gated_rmsnorm_backward(dy, i["x"], i["gate"], i["weight"], dweight)
    return {"x": dx, "gate": dgate, "weight": dweight}


_WKV7 = ("r", "w", "k", "v", "kk", "b")


def _wkv7_make(B: int, T: int, H: int, N: int) -> Inputs:
    rows = {name: normal(name, B, T, H * N) for name in _WKV7}
    unit = rows["kk"].reshape(B, T, H, N)
    unit /= np.sqrt((unit**2).sum(-1, keepdims=True))
    rows["w"] = _fade("w", B, T, H * N)
    rows["b"] = rows["kk"] * _fade("a", B, T, H * N)
    memory = {"starts": starts_of(B, T, 3), "before": _whole(normal("before", B, H, N, N))}
    return rows | memory


def _wkv7_forward(i: Inputs) -> tuple[np.ndarray, None]:
    H = i["before"].shape[1]
    return recurrent.wkv7_forward(*(i[name] for name in _WKV7), H, *_given(i))[0], None


def _wkv7_backward(dy: np.ndarray, i: Inputs, saved: Any, zeros: Zeros) -> dict[str, np.ndarray]:
    H = i["before"].shape[1]
    grads = recurrent.wkv7_backward(dy, *(i[name] for name in _WKV7), H, *_given(i))
    return dict(zip(_WKV7, grads, strict=True))


_WKV6 = ("r", "k", "v", "decay", "u")


def _wkv6_make(B: int, T: int, H: int, N: int) -> Inputs:
    rows = {name: normal(name, B, T, H * N) for name in _WKV6[:4]}
    memory = {"starts": starts_of(B, T, 3), "before": _whole(normal("before", B, H, N, N))}
    return rows | {"decay": rows["decay"] - 1, "u": normal("u", H * N)} | memory


def _wkv6_forward(i: Inputs) -> tuple[np.ndarray, None]:
    return recurrent.wkv6_forward(*(i[name] for name in _WKV6), i["before"].shape[1], *_given(i))[0], None


def _wkv6_backward(dy: np.ndarray, i: Inputs, saved: Any, zeros: Zeros) -> dict[str, np.ndarray]:
    du, inputs = zeros("u"), [i[name] for name in _WKV6]
    grads = recurrent.wkv6_backward(dy, *inputs, i["before"].shape[1], du, *_given(i))
    return dict(zip(_WKV6, (*grads, du), strict=True))


def _heads_of(C: int) -> int:
    """How many heads rows of C channels have here."""
    return 3 if C % 3 == 0 else 1


_RWKV7_INPUTS = ("k", "decay", "rate", "k_k", "k_a")


def _rwkv7_inputs_forward(i: Inputs) -> tuple[np.ndarray, None]:
    H = _heads_of(i["k"].shape[1])
    return np.stack(recurrent.rwkv7_inputs_forward(*(i[name] for name in _RWKV7_INPUTS), H)), None


def _rwkv7_inputs_backward(dy: np.ndarray, i: Inputs, saved: Any, zeros: Zeros) -> dict[str, np.ndarray]:
    H, sums = _heads_of(i["k"].shape[1]), {name: zeros(name) for name in ("k_k", "k_a")}
    inputs = [i[name] for name in _RWKV7_INPUTS]
    dk, d_decay, d_rate = recurrent.rwkv7_inputs_backward(*dy, *inputs, H, *sums.values())
    return {"k": dk, "decay": d_decay, "rate": d_rate, **sums}


def _rwkv_output(i: Inputs) -> tuple[list[np.ndarray], Any]:
    bonus = tuple(i[name] for name in ("r", "k", "v", "r_k")) if "r" in i else None
    return [i[name] for name in ("x", "gate", "weight", "bias")], bonus


def _rwkv_output_forward(i: Inputs) -> tuple[np.ndarray, None]:
    inputs, bonus = _rwkv_output(i)
    return recurrent.rwkv_output_forward(*inputs, _heads_of(len(i["bias"])), 1e-3, bonus), None


def _rwkv_output_backward(dy: np.ndarray, i: Inputs, saved: Any, zeros: Zeros) -> dict[str, np.ndarray]:
    (inputs, bonus), H = _rwkv_output(i), _heads_of(len(i["bias"]))
    sums = {name: zeros(name) for name in ("weight", "bias")}
    dr_k = zeros("r_k") if bonus else None
    grads = recurrent.rwkv_output_backward(dy, *inputs, H, 1e-3, *sums.values(), bonus, dr_k)
    names = ("x", "gate", "r", "k", "v")[: len(grads)]
    return dict(zip(names, grads, strict=True)) | sums | ({} if dr_k is None else {"r_k": dr_k})


def _rwkv_output_make(names: str) -> Callable[[int, int], Inputs]:
    def make(N: int, C: int) -> Inputs:
        rows = {name: normal(name, N, C) for name in names.split()}
        vectors = {name: normal(name, C) for name in ("weight", "bias", *(["r_k"] if "r" in rows else []))}
        return rows | vectors

    return make


CASES: dict[str, Case] = {
    "shift_mix": Case(
        make=lambda B, T, C: {
            "x": normal("x", B, T, C),
            "mix": normal("mix", 6, C),
            "starts": starts_of(B, T, 3),
            "before": _whole(normal("before", B, C)),
        },
        forward=_shift_mix_forward,
        backward=_shift_mix_backward,
        shapes=[(1, 1, 1), (2, 3, 7), (3, 5, 33), (2, 40, 19)],
        bench=(4, 512, 384),
        flop=lambda B, T, C: 6 * 10 * B * T * C,
        bytes=lambda B, T, C: 4 * 26 * B * T * C,
    ),
    "shift_mix_of_each_position": Case(
        make=lambda B, T, C: {
            "x": normal("x", B, T, C),
            "mix": normal("mix", 5, C),
            "more": normal("more", 5, B, T, C),
            "starts": starts_of(B, T, 3),
            "before": _whole(normal("before", B, C)),
        },
        forward=_shift_mix_forward,
        backward=_shift_mix_backward,
        shapes=[(1, 1, 1), (2, 3, 7), (2, 40, 19)],
        bench=(4, 512, 384),
        flop=lambda B, T, C: 5 * 12 * B * T * C,
        bytes=lambda B, T, C: 4 * 32 * B * T * C,
    ),
    "conv_silu": Case(
        make=lambda B, T, C: {
            "x": normal("x", B, T, C),
            "weight": normal("weight", 4, C),
            "bias": normal("bias", C),
            "starts": starts_of(B, T, 3),
            "before": _whole(normal("before", B, 3, C)),
        },
        forward=lambda i: (
            recurrent.conv_silu_forward(i["x"], i["weight"], i["bias"], *_given(i)),
            None,
        ),
        backward=_conv_silu_backward,
        shapes=[(1, 1, 1), (2, 2, 7), (3, 5, 33), (2, 40, 19)],
        bench=(4, 512, 896),
        flop=lambda B, T, C: 60 * B * T * C,
        bytes=lambda B, T, C: 4 * 8 * B * T * C,
    ),
    "ssd": Case(
        make=_ssd_make,
        forward=_ssd_forward,
        backward=_ssd_backward,
        shapes=[(1, 1, 1, 1, 1), (2, 3, 3, 5, 7), (2, 40, 2, 16, 9), (1, 70, 5, 33, 20)],
        bench=(4, 512, 12, 64, 64),
        flop=lambda B, T, H, P, N: 20 * B * T * H * P * N,
        bytes=lambda B, T, H, P, N: 4 * 5 * B * T * (H * P + 2 * N),
        grad_error=3e-5,
    ),
    "gated_rmsnorm": Case(
        make=lambda N, C: {
            "x": normal("x", N, C),
            "gate": normal("gate", N, C),
            "weight": normal("weight", C),
        },
        forward=lambda i: (recurrent.gated_rmsnorm_forward(i["x"], i["gate"], i["weight"]), None),
        backward=_gated_rmsnorm_backward,
        shapes=[(1, 5), *ROWS[1:]],
        bench=(2048, 768),
        flop=lambda N, C: 90 * N * C,
        bytes=lambda N, C: 4 * 8 * N * C,
    ),
    "wkv7": Case(
        make=_wkv7_make,
        forward=_wkv7_forward,
        backward=_wkv7_backward,
        shapes=[(1, 1, 1, 1), (2, 3, 3, 5), (1, 37, 2, 8), (2, 33, 2, 19), (1, 70, 1, 40), (2, 48, 1, 64)],
        bench=(4, 512, 6, 64),
        flop=lambda B, T, H, N: 44 * B * T * H * N * N,
        bytes=lambda B, T, H, N: 4 * 21 * B * T * H * N,
        grad_error=2e-5,
    ),
    "wkv6": Case(
        make=_wkv6_make,
        forward=_wkv6_forward,
        backward=_wkv6_backward,
        shapes=[(1, 1, 1, 1), (2, 3, 3, 5), (1, 37, 2, 8), (2, 33, 2, 19), (1, 70, 1, 40)],
        bench=(4, 512, 6, 64),
        flop=lambda B, T, H, N: 20 * B * T * H * N * N,
        bytes=lambda B, T, H, N: 4 * 14 * B * T * H * N,
        grad_error=3e-5,
    ),
    "gate": Case(
        make=lambda N, C: {"x": normal("x", N, C), "z": 3 * normal("z", N, C)},
        forward=lambda i: (recurrent.gate_forward(i["x"], i["z"]), None),
        backward=lambda dy, i, saved, zeros: dict(
            zip(("x", "z"), recurrent.gate_backward(dy, i["x"], i["z"]), strict=True)
        ),
        shapes=ROWS,
        bench=(2048, 384),
        flop=lambda N, C: 50 * N * C,
        bytes=lambda N, C: 4 * 8 * N * C,
    ),
    "rwkv7_inputs": Case(
        make=lambda N, C: {
            **{name: normal(name, N, C) for name in ("k", "decay", "rate")},
            **{name: normal(name, C) for name in ("k_k", "k_a")},
        },
        forward=_rwkv7_inputs_forward,
        backward=_rwkv7_inputs_backward,
        shapes=[(1, 2), *ROWS[1:], (9, 57)],
        bench=(2048, 384),
        flop=lambda N, C: 100 * N * C,
        bytes=lambda N, C: 4 * 17 * N * C,
    ),
    "rwkv_output": Case(
        make=_rwkv_output_make("x gate r k v"),
        forward=_rwkv_output_forward,
        backward=_rwkv_output_backward,
        shapes=[(1, 5), *ROWS[1:], (9, 57)],
        bench=(2048, 384),
        flop=lambda N, C: 70 * N * C,
        bytes=lambda N, C: 4 * 17 * N * C,
    ),
    "rwkv_output_without_bonus": Case(
        make=_rwkv_output_make("x gate"),
        forward=_rwkv_output_forward,
        backward=_rwkv_output_backward,
        shapes=[(1, 5), (5, 769), (67, 33)],
        bench=(2048, 384),
        flop=lambda N, C: 40 * N * C,
        bytes=lambda N, C: 4 * 8 * N * C,
    ),
}
