"""One row per operation: inputs, shapes and how to differentiate it.  Tests and benchmarks walk this table
and name no operation themselves; a test fails if no row runs an operation of `ops`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import ops, random, recurrent
from .heads import Heads

Inputs = dict[str, Any]
Zeros = Callable[[str], np.ndarray]


def normal(name: str, *shape: int) -> np.ndarray:
    """Standard normal numbers, the same for the same name and shape."""
    return random.normal(random.key(0, name, *shape), int(np.prod(shape))).reshape(shape)


def below(name: str, n: int, *shape: int) -> np.ndarray:
    """Integers in [0, n), int32."""
    draws = random.uniform(random.key(0, name, *shape), int(np.prod(shape)))
    return (draws * n).astype(np.int32).reshape(shape)


@dataclass(frozen=True, kw_only=True)
class Case:
    """How to run one operation, and how near it comes to the truth.

    make:     shape -> inputs, float64 and int32; `inputs` casts them.
    forward:  inputs -> (y, whatever backward needs).  Inputs stay as they are.
    backward: (dy, inputs, saved, zeros) -> gradient of every differentiable input; zeros(name) is a fresh
              accumulator for a parameter gradient.  None: there is no gradient.
    shapes:   odd sizes, tails, one row.   bench: a shape of real size.
    flop, bytes: work and memory traffic of forward and backward together at a shape.
    y_error, grad_error: how far float32 may be from the truth, as shares of the largest entry: small sums
              carry the error of their large terms.
    """

    make: Callable[..., Inputs]
    forward: Callable[[Inputs], tuple[np.ndarray, Any]]
    backward: Callable[[np.ndarray, Inputs, Any, Zeros], dict[str, np.ndarray]] | None = None
    shapes: Sequence[tuple[int, ...]]
    bench: tuple[int, ...]
    flop: Callable[..., float]
    bytes: Callable[..., float]
    y_error: float = 2e-6
    grad_error: float = 8e-6

    def inputs(self, shape: tuple[int, ...], dtype: type) -> Inputs:
        """Inputs of a shape with their floats in one type, as float32 has them: the same numbers in both."""
        made = self.make(*shape)
        return {
            name: x.astype(np.float32).astype(dtype) if x.dtype.kind == "f" else x for name, x in made.items()
        }

    def run(self, inputs: Inputs, dy: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """The output as y; gradients of differentiable inputs as dNAME.  dy: `cotangent`, if not another."""
        y, saved = self.forward(inputs)
        found = {"y": y.copy()}
        if self.backward is not None:
            dy = cotangent(y) if dy is None else dy
            grads = self.backward(dy, inputs, saved, lambda name: np.zeros_like(inputs[name]))
            found |= {f"d{name}": grad for name, grad in grads.items()}
        return found

    def mistakes(self, found: dict[str, np.ndarray], truth: dict[str, np.ndarray]) -> list[str]:
        """What is farther from the truth than it may be, as "y is wrong by 1.2e-03 of its largest entry"."""
        wrong = []
        for name, true in truth.items():
            limit = self.y_error if name == "y" else self.grad_error
            error = np.abs(found[name].astype(np.float64) - true).max() / max(np.abs(true).max(), 1e-30)
            if not error <= limit:  # NaN is none
                wrong.append(f"{name} is wrong by {error:.1e} of its largest entry; expected {limit:.0e}")
        return wrong


def cotangent(y: np.ndarray) -> np.ndarray:
    """A gradient of y to start a backward from: the same numbers for the same shape, in its type."""
    return normal("dy", *y.shape).astype(np.float32).astype(y.dtype)


def _embedding_backward(dy: np.ndarray, i: Inputs, saved: Any, zeros: Zeros) -> dict[str, np.ndarray]:
    dweight = zeros("weight")
    ops.embedding_backward(dy, i["ids"], dweight)
    return {"weight": dweight}


def _rmsnorm_backward(dy: np.ndarray, i: Inputs, rstd: Any, zeros: Zeros) -> dict[str, np.ndarray]:
    dweight, by_pass = zeros("weight"), zeros("x")
    return {"x": ops.rmsnorm_backward(dy, i["x"], i["weight"], rstd, dweight, by_pass), "weight": dweight}


def _layernorm_backward(dy: np.ndarray, i: Inputs, stats: Any, zeros: Zeros) -> dict[str, np.ndarray]:
    dweight, dbias, by_pass = zeros("weight"), zeros("bias"), zeros("x")
    dx = ops.layernorm_backward(dy, i["x"], i["weight"], stats, dweight, dbias, by_pass)
    return {"x": dx, "weight": dweight, "bias": dbias}


def _bias_backward(dy: np.ndarray, i: Inputs, saved: Any, zeros: Zeros) -> dict[str, np.ndarray]:
    dbias = zeros("bias")
    ops.bias_backward(dy, dbias)
    return {"x": dy, "bias": dbias}


def _keys(x: np.ndarray) -> np.ndarray:
    """Keys of the windows that rows of x make up: three where that is possible."""
    n = 3 if len(x) % 3 == 0 else 1
    return random.keys(0, "cases", range(n))


def _linear(precision: str = "fp32", is_stored: bool = False) -> dict[str, Any]:
    """Of a case at (N, M, K); is_stored: the weight is bfloat16, and not trained."""

    def make(N: int, M: int, K: int) -> Inputs:
        weight = normal("weight", M, K)
        return {"x": normal("x", N, K), "weight": ops.bf16_bits(weight) if is_stored else weight}

    def backward(dy: np.ndarray, i: Inputs, saved: Any, zeros: Zeros) -> dict[str, np.ndarray]:
        if is_stored:
            return {"x": ops.linear_backward_input(dy, i["weight"], precision)}
        dweight = zeros("weight")
        return {"x": ops.linear_backward(dy, i["x"], i["weight"], dweight, precision), "weight": dweight}

    return {
        "make": make,
        "forward": lambda i: (ops.linear_forward(i["x"], i["weight"], precision), None),
        "backward": backward,
        "flop": lambda N, M, K: (4 if is_stored else 6) * N * M * K,
        "bytes": lambda N, M, K: (
            2 * (4 * N * M + 4 * N * K + 2 * M * K) if is_stored else 4 * (3 * N * M + 3 * N * K + 4 * M * K)
        ),
        **_errors(precision),
    }


def _errors(precision: str) -> dict[str, float]:
    """How far from the truth a product may be whose operands have 8 bits."""
    return {"y_error": 1e-2, "grad_error": 1e-2} if precision == "bf16" else {}


def _attention(
    H: int, H_kv: int, documents: int = 1, window: int = 0, stride: int = 0, precision: str = "fp32"
) -> dict[str, Any]:
    """Of a case at (B, T, hs): inputs and both directions, on rows that hold several documents."""

    def call(i: Inputs) -> tuple[list[np.ndarray], list[Any]]:
        qkv, starts = i["qkv"], i.get("starts")
        heads = Heads(H, H_kv, qkv.shape[-1] // (H + 2 * H_kv), window, stride)
        tables = ops.rope_tables(qkv.shape[1] + 1, heads.hs, dtype=qkv.dtype)
        return [qkv, *tables], [heads, starts, precision]

    def make(B: int, T: int, hs: int) -> Inputs:
        inputs = {"qkv": normal("qkv", B, T, (H + 2 * H_kv) * hs)}
        return inputs if documents == 1 else inputs | {"starts": _starts(B, T, documents)}

    def forward(i: Inputs) -> tuple[np.ndarray, Any]:
        arrays, how = call(i)
        y, lse = ops.attention_forward(*arrays, *how)
        return y, (y, lse)

    def backward(dy: np.ndarray, i: Inputs, saved: Any, zeros: Zeros) -> dict[str, np.ndarray]:
        arrays, how = call(i)
        return {"qkv": ops.attention_backward(dy, *arrays, *saved, *how)}

    return {"make": make, "forward": forward, "backward": backward, **_errors(precision)}


def _starts(B: int, T: int, documents: int) -> np.ndarray:
    """Where the document of each position begins, (B, T): about so many in a row, at places of chance."""
    begins = np.where(below("starts", T, B, T) < documents, np.arange(T), 0)
    return np.maximum.accumulate(begins, axis=1).astype(np.int32)


def _turned(qkv: np.ndarray, start: int, back: bool = False) -> np.ndarray:
    """qkv (T, W) of four query and two key heads, turned as from position `start` on, or back."""
    heads = Heads(4, 2, qkv.shape[-1] // 8)
    cos, sin = ops.rope_tables(start + len(qkv), heads.hs, dtype=qkv.dtype)
    turned = qkv.copy()
    ops.rope(turned, cos, -sin if back else sin, heads, start)
    return turned


def _attention_cached(window: int = 0, stride: int = 0) -> dict[str, Any]:
    """Of a case at (T, S, hs)."""

    def make(T: int, S: int, hs: int) -> Inputs:
        cached = {name: normal(name, S, 2 * hs) for name in ("keys", "values")}
        return {"qkv": normal("qkv", T, 8 * hs), **cached}

    def forward(i: Inputs) -> tuple[np.ndarray, None]:
        heads = Heads(4, 2, i["keys"].shape[-1] // 2, window, stride)
        return ops.attention_cached(i["qkv"], i["keys"], i["values"], heads), None

    return {"make": make, "forward": forward}


def _adam_step(i: Inputs) -> tuple[np.ndarray, None]:
    """Weights, gradient and moments after a step, (4, n)."""
    after = np.stack([i["p"], i["grad"], i["m1"], i["m2"]])
    rates = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.1}
    ops.adam_step(*after, **rates, step=3, grad_scale=0.5)
    return after, None


def _nesterov_momentum(i: Inputs) -> tuple[np.ndarray, None]:
    """Gradient and momentum after a step, (2, n)."""
    after = np.stack([i["grad"], i["m"]])
    ops.nesterov_momentum(*after, beta=0.95, grad_scale=0.5)
    return after, None


def _descend(i: Inputs) -> tuple[np.ndarray, None]:
    """Weights and update after a step, (2, n)."""
    after = np.stack([i["p"], i["update"]])
    ops.descend(*after, rate=0.1, keep=0.9)
    return after, None


def _newton_schulz(precision: str = "fp32") -> dict[str, Any]:
    """Of a case at (n, M, K): three steps, and a norm with room."""

    def forward(i: Inputs) -> tuple[np.ndarray, None]:
        x = i["x"].copy()
        ops.newton_schulz(x, np.array([[3.4445, -4.775, 2.0315]] * 3), 1.01, precision)
        return x, None

    def flop(n: int, M: int, K: int) -> float:
        short = min(M, K)  # of a long matrix, in rounds of two steps and one, symmetric products by half
        return 6 * n * (short * M * K + short**3)

    return {
        "make": lambda n, M, K: {"x": normal("x", n, M, K)},
        "forward": forward,
        "bench": (1, 384, 1536),
        "flop": flop,
        "bytes": lambda n, M, K: 4 * 3 * n * (5 * M * K + 5 * min(M, K) ** 2),
    }


def _activation(name: str, flop: int, inputs: int = 1) -> Case:
    """The case of an activation to (N, F), of so many inputs an element; backward overwrites what it gets."""

    def backward(dy: np.ndarray, i: Inputs, saved: Any, zeros: Zeros) -> dict[str, np.ndarray]:
        return {"x": getattr(ops, f"{name}_backward")(dy.copy(), i["x"].copy())[0]}

    return Case(
        make=lambda N, F: {"x": 3 * normal("x", N, inputs * F)},
        forward=lambda i: (getattr(ops, f"{name}_forward")(i["x"]), None),
        backward=backward,
        shapes=ROWS,
        bench=(2048, 1536),
        flop=lambda N, F: flop * N * F,
        bytes=lambda N, F: 4 * (3 * inputs + 3) * N * F,
    )


def _cross_entropy_backward(dy: np.ndarray, i: Inputs, lse: Any, zeros: Zeros) -> dict[str, np.ndarray]:
    # The kernel scales all rows alike; a cotangent with a row of its own is applied outside.
    dlogits = ops.cross_entropy_backward(i["logits"].copy(), lse, i["targets"], 0.5)
    return {"logits": dlogits * (dy / 0.5)[:, None]}


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
        "starts": _starts(B, T, 3),
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
    memory = {"starts": _starts(B, T, 3), "before": _whole(normal("before", B, H, N, N))}
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
    memory = {"starts": _starts(B, T, 3), "before": _whole(normal("before", B, H, N, N))}
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


def _places(N: int, k: int) -> np.ndarray:
    """Some permutation of the places of k choices of N tokens, (N, k)."""
    return np.argsort(below("places", 1 << 30, N * k), kind="stable").astype(np.int32).reshape(N, k)


def _combine_backward(dy: np.ndarray, i: Inputs, saved: Any, zeros: Zeros) -> dict[str, np.ndarray]:
    drows, dfactors = ops.combine_backward(dy, i["rows"].copy(), i["factors"], i["places"])
    return {"rows": drows, "factors": dfactors}


ROWS = [(1, 1), (3, 7), (8, 64), (5, 769), (67, 33)]
FEW_ROWS = [(1, 1, 1), (3, 5, 7), (1, 769, 33), (2, 300, 800), (47, 65, 130)]
MANY_ROWS = [  # edges on all sides of a block, several rounds of terms
    *((48, 1, 1), (61, 67, 5), (121, 131, 33), (53, 3300, 49), (3203, 51, 50)),
    *((257, 31, 65), (300, 800, 17)),
]
MATRICES = [  # few rows, edges of blocks, more terms than a round has, wide and tall
    *((1, 1, 1), (2, 1, 7), (3, 5, 2), (2, 47, 47), (1, 48, 61), (2, 67, 50), (1, 131, 49), (1, 250, 257)),
    *((1, 50, 1601), (1, 801, 50)),
]
HEADS = [
    *((1, 1, 2), (2, 3, 6), (1, 67, 16), (2, 130, 10), (1, 33, 40), (3, 16, 34), (1, 401, 10), (1, 257, 32)),
    *((2, 47, 66), (1, 511, 24)),
]
CASES: dict[str, Case] = {
    "embedding": Case(
        make=lambda N, C: {"weight": normal("weight", 5, C), "ids": below("ids", 5, N)},
        forward=lambda i: (ops.embedding_forward(i["weight"], i["ids"]), None),
        backward=_embedding_backward,
        shapes=ROWS,
        bench=(2048, 384),
        flop=lambda N, C: N * C,
        bytes=lambda N, C: 4 * 5 * N * C,
    ),
    "embedding_of_stored_bf16": Case(
        make=lambda N, C: {"weight": ops.bf16_bits(normal("weight", 5, C)), "ids": below("ids", 5, N)},
        forward=lambda i: (ops.embedding_forward(i["weight"], i["ids"]), None),
        shapes=ROWS,
        bench=(2048, 384),
        flop=lambda N, C: N * C,
        bytes=lambda N, C: 6 * N * C,
    ),
    "rmsnorm": Case(
        make=lambda N, C: {"x": 3 * normal("x", N, C) + 1, "weight": normal("weight", C)},
        forward=lambda i: ops.rmsnorm_forward(i["x"], i["weight"]),
        backward=_rmsnorm_backward,
        shapes=[(1, 5), *ROWS[1:]],  # in a row of one, dx is a difference of equal numbers
        bench=(2048, 384),
        flop=lambda N, C: 14 * N * C,
        bytes=lambda N, C: 4 * 6 * N * C,
    ),
    "rmsnorm_again": Case(
        make=lambda N, C: {
            "x": normal("x", N, C),
            "weight": normal("weight", C),
            "rstd": np.abs(normal("rstd", N)),
        },
        forward=lambda i: (ops.rmsnorm_again(i["x"], i["weight"], i["rstd"]), None),
        shapes=ROWS,
        bench=(2048, 384),
        flop=lambda N, C: 2 * N * C,
        bytes=lambda N, C: 4 * 2 * N * C,
    ),
    "layernorm": Case(
        make=lambda N, C: {
            "x": 3 * normal("x", N, C) + 1,
            "weight": normal("weight", C),
            "bias": normal("bias", C),
        },
        forward=lambda i: ops.layernorm_forward(i["x"], i["weight"], i["bias"]),
        backward=_layernorm_backward,
        shapes=[(1, 5), *ROWS[1:]],  # in a row of one, y does not depend on x
        bench=(2048, 384),
        flop=lambda N, C: 25 * N * C,
        bytes=lambda N, C: 4 * 6 * N * C,
    ),
    "layernorm_again": Case(
        make=lambda N, C: {
            "x": normal("x", N, C),
            "weight": normal("weight", C),
            "bias": normal("bias", C),
            "stats": np.abs(normal("stats", N, 2)),
        },
        forward=lambda i: (ops.layernorm_again(i["x"], i["weight"], i["bias"], i["stats"]), None),
        shapes=ROWS,
        bench=(2048, 384),
        flop=lambda N, C: 4 * N * C,
        bytes=lambda N, C: 4 * 2 * N * C,
    ),
    "bias": Case(
        make=lambda N, M: {"x": normal("x", N, M), "bias": normal("bias", M)},
        forward=lambda i: (ops.bias_forward(i["x"].copy(), i["bias"]), None),
        backward=_bias_backward,
        shapes=ROWS,
        bench=(2048, 1536),
        flop=lambda N, M: 2 * N * M,
        bytes=lambda N, M: 4 * 3 * N * M,
    ),
    "linear": Case(
        shapes=MANY_ROWS,
        **_linear(),
        bench=(2048, 1536, 384),
    ),
    "linear_in_bf16": Case(shapes=MANY_ROWS, **_linear("bf16"), bench=(2048, 1536, 384)),
    "linear_of_stored_bf16": Case(
        shapes=[*FEW_ROWS, *MANY_ROWS], **_linear(is_stored=True), bench=(2048, 1536, 384)
    ),
    "linear_of_few_rows": Case(  # as in chat, through BLAS
        shapes=FEW_ROWS,
        **_linear(),
        bench=(1, 1536, 384),
    ),
    "rope": Case(
        make=lambda T, hs, start: {"qkv": normal("qkv", T, 8 * hs), "start": np.array(start, np.int32)},
        forward=lambda i: (_turned(i["qkv"], int(i["start"])), None),
        backward=lambda dy, i, saved, zeros: {"qkv": _turned(dy, int(i["start"]), back=True)},
        shapes=[(1, 2, 0), (3, 6, 1), (5, 64, 7), (9, 34, 0), (130, 10, 3)],
        bench=(512, 64, 0),
        flop=lambda T, hs, start: 36 * T * hs,
        bytes=lambda T, hs, start: 4 * 24 * T * hs,
    ),
    "attention": Case(
        **_attention(2, 2),
        shapes=HEADS,
        bench=(8, 512, 32),
        flop=lambda B, T, hs: 14 * B * T * T * hs,
        bytes=lambda B, T, hs: 4 * 28 * B * T * hs,
    ),
    "attention_in_bf16": Case(
        **_attention(2, 2, precision="bf16"),
        shapes=HEADS,
        bench=(8, 512, 32),
        flop=lambda B, T, hs: 14 * B * T * T * hs,
        bytes=lambda B, T, hs: 4 * 28 * B * T * hs,
    ),
    "attention_of_documents": Case(
        **_attention(4, 2, documents=3),
        shapes=[(1, 1, 2), (2, 3, 6), (1, 67, 16), (2, 130, 10), (3, 33, 40), (1, 401, 10), (1, 257, 32)],
        bench=(8, 512, 32),
        flop=lambda B, T, hs: 28 * B * T * T * hs / 3,
        bytes=lambda B, T, hs: 4 * 46 * B * T * hs,
    ),
    "attention_of_documents_in_bf16": Case(
        **_attention(4, 2, documents=3, precision="bf16"),
        shapes=HEADS,
        bench=(8, 512, 32),
        flop=lambda B, T, hs: 28 * B * T * T * hs / 3,
        bytes=lambda B, T, hs: 4 * 46 * B * T * hs,
    ),
    "attention_cached": Case(
        **_attention_cached(),
        shapes=[(1, 1, 2), (1, 67, 16), (3, 3, 6), (5, 130, 10), (2, 401, 64), (17, 33, 34)],
        bench=(1, 2048, 64),
        flop=lambda T, S, hs: 16 * T * S * hs,
        bytes=lambda T, S, hs: 4 * 4 * S * hs,
    ),
    "attention_of_windows": Case(
        **_attention(4, 2, window=5),
        shapes=[(1, 1, 2), (2, 3, 6), (2, 67, 16), (1, 401, 10), (1, 257, 32)],
        bench=(1, 4096, 32),
        flop=lambda B, T, hs: 56 * B * Heads(4, 2, hs, 5).pairs(T) * hs,
        bytes=lambda B, T, hs: 4 * 46 * B * T * hs,
    ),
    "attention_of_windows_and_strides": Case(
        **_attention(2, 1, documents=3, window=37, stride=5),
        shapes=[(1, 1, 2), (2, 3, 6), (3, 67, 16), (2, 130, 10), (1, 401, 10), (2, 257, 32)],
        bench=(1, 4096, 32),
        flop=lambda B, T, hs: 28 * B * Heads(2, 1, hs, 37, 5).pairs(T) * hs / 3,
        bytes=lambda B, T, hs: 4 * 26 * B * T * hs,
    ),
    "attention_of_windows_and_strides_in_bf16": Case(
        **_attention(2, 1, documents=3, window=37, stride=5, precision="bf16"),
        shapes=[(2, 67, 16), (1, 401, 10), (1, 257, 32)],
        bench=(1, 4096, 32),
        flop=lambda B, T, hs: 28 * B * Heads(2, 1, hs, 37, 5).pairs(T) * hs / 3,
        bytes=lambda B, T, hs: 4 * 26 * B * T * hs,
    ),
    "attention_cached_of_windows_and_strides": Case(
        **_attention_cached(window=13, stride=5),
        shapes=[(1, 1, 2), (1, 67, 16), (5, 130, 10), (2, 401, 64), (17, 33, 34)],
        bench=(1, 2048, 64),
        flop=lambda T, S, hs: 16 * T * (13 + (S - 13) / 5) * hs,
        bytes=lambda T, S, hs: 4 * 4 * (13 + (S - 13) / 5) * hs,
    ),
    "gelu": _activation("gelu", 61),
    "gelu_exact": _activation("gelu_exact", 98),
    "relu2": _activation("relu2", 6),
    "swiglu": _activation("swiglu", 55, inputs=2),
    "geglu": _activation("geglu", 65, inputs=2),
    "soft_cap": Case(
        make=lambda N, V: {"x": 9 * normal("x", N, V)},
        forward=lambda i: (ops.soft_cap_forward(i["x"], 5.0), None),
        backward=lambda dy, i, saved, zeros: {"x": ops.soft_cap_backward(dy.copy(), i["x"], 5.0)},
        shapes=ROWS,
        bench=(512, 4261),
        flop=lambda N, V: 84 * N * V,
        bytes=lambda N, V: 4 * 5 * N * V,
    ),
    "dropout": Case(
        make=lambda N, C: {"x": normal("x", N, C)},
        forward=lambda i: (ops.dropout_forward(i["x"], 0.3, _keys(i["x"])), None),
        backward=lambda dy, i, saved, zeros: {"x": ops.dropout_backward(dy, 0.3, _keys(i["x"]))},
        shapes=ROWS,
        bench=(2048, 384),
        flop=lambda N, C: 2 * N * C,
        bytes=lambda N, C: 4 * 4 * N * C,
    ),
    "residual": Case(
        make=lambda N, C: {"x": normal("x", N, C), "branch": normal("branch", N, C)},
        forward=lambda i: (ops.residual_forward(i["x"], i["branch"], 0.3, _keys(i["x"])), None),
        backward=lambda dy, i, saved, zeros: {
            "x": dy,
            "branch": ops.residual_backward(dy, 0.3, _keys(i["x"])),
        },
        shapes=ROWS,
        bench=(2048, 384),
        flop=lambda N, C: 3 * N * C,
        bytes=lambda N, C: 4 * 5 * N * C,
    ),
    "residual_without_dropout": Case(
        make=lambda N, C: {"x": normal("x", N, C), "branch": normal("branch", N, C)},
        forward=lambda i: (ops.residual_forward(i["x"], i["branch"], 0.0, _keys(i["x"])), None),
        backward=lambda dy, i, saved, zeros: {
            "x": dy,
            "branch": ops.residual_backward(dy, 0.0, _keys(i["x"])),
        },
        shapes=ROWS,
        bench=(2048, 384),
        flop=lambda N, C: N * C,
        bytes=lambda N, C: 4 * 3 * N * C,
    ),
    "dispatch": Case(
        make=lambda N, k, C: {"x": normal("x", N, C), "places": _places(N, k)},
        forward=lambda i: (ops.dispatch_forward(i["x"], i["places"]), None),
        backward=lambda dy, i, saved, zeros: {"x": ops.dispatch_backward(dy, i["places"])},
        shapes=[(1, 1, 1), (3, 2, 7), (8, 1, 64), (67, 3, 33), (300, 2, 130)],
        bench=(4096, 2, 384),
        flop=lambda N, k, C: N * k * C,
        bytes=lambda N, k, C: 4 * 2 * (k + 1) * N * C,
    ),
    "combine": Case(
        make=lambda N, k, C: {
            "rows": normal("rows", N * k, C),
            "factors": normal("factors", N, k),
            "places": _places(N, k),
        },
        forward=lambda i: (ops.combine_forward(i["rows"], i["factors"], i["places"]), None),
        backward=_combine_backward,
        shapes=[(1, 1, 1), (3, 2, 7), (8, 1, 64), (67, 3, 33), (300, 2, 130)],
        bench=(4096, 2, 384),
        flop=lambda N, k, C: 5 * N * k * C,
        bytes=lambda N, k, C: 4 * (3 * k + 2) * N * C,
    ),
    "cross_entropy": Case(
        make=lambda N, V: {"logits": 4 * normal("logits", N, V), "targets": below("targets", V + 1, N) - 1},
        forward=lambda i: ops.cross_entropy_forward(i["logits"], i["targets"]),
        backward=_cross_entropy_backward,
        shapes=ROWS,
        bench=(512, 4261),
        flop=lambda N, V: 40 * N * V,
        bytes=lambda N, V: 4 * 3 * N * V,
    ),
    "sum_squares": Case(
        make=lambda n: {"x": normal("x", n)},
        forward=lambda i: (np.array([ops.sum_squares(i["x"])]), None),
        shapes=[(0,), (1,), (7,), (65_536,), (200_003,)],
        bench=(10_000_000,),
        flop=lambda n: 2 * n,
        bytes=lambda n: 4 * n,
        y_error=1e-12,  # of sums in double
    ),
    "adam_step": Case(
        make=lambda n: {
            "p": normal("p", n),
            "grad": normal("grad", n),
            "m1": normal("m1", n),
            "m2": np.abs(normal("m2", n)),
        },
        forward=_adam_step,
        shapes=[(1,), (7,), (64,), (70_001,)],
        bench=(10_000_000,),
        flop=lambda n: 16 * n,
        bytes=lambda n: 4 * 8 * n,
        y_error=5e-7,
    ),
    "nesterov_momentum": Case(
        make=lambda n: {"grad": normal("grad", n), "m": normal("m", n)},
        forward=_nesterov_momentum,
        shapes=[(1,), (7,), (64,), (70_001,)],
        bench=(10_000_000,),
        flop=lambda n: 6 * n,
        bytes=lambda n: 4 * 4 * n,
        y_error=5e-7,
    ),
    "newton_schulz": Case(**_newton_schulz(), shapes=MATRICES, y_error=1e-4),
    "newton_schulz_in_bf16": Case(
        **_newton_schulz("bf16"), shapes=[(1, 130, 49), (2, 64, 300)], y_error=5e-2
    ),
    "descend": Case(
        make=lambda n: {"p": normal("p", n), "update": normal("update", n)},
        forward=_descend,
        shapes=[(1,), (7,), (64,), (70_001,)],
        bench=(10_000_000,),
        flop=lambda n: 3 * n,
        bytes=lambda n: 4 * 4 * n,
        y_error=5e-7,
    ),
    "shift_mix": Case(
        make=lambda B, T, C: {
            "x": normal("x", B, T, C),
            "mix": normal("mix", 6, C),
            "starts": _starts(B, T, 3),
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
            "starts": _starts(B, T, 3),
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
            "starts": _starts(B, T, 3),
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
        shapes=[(1, 1, 1, 1), (2, 3, 3, 5), (1, 37, 2, 8), (2, 33, 2, 19), (1, 70, 1, 40)],
        bench=(4, 512, 6, 64),
        flop=lambda B, T, H, N: 46 * B * T * H * N * N,
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
