"""What could be trained instead of a plan in the same memory and time: wider, deeper, of experts, with layers
computed again, of shorter windows, or short windows first; each by its numbers.

Sizes and memory are counted as training counts them, time follows from a speed of the plan as it stands, by
the FLOP of a token.  Loss is foretold by a law of one's own, or by published fits where those apply, and
not at all otherwise: no law of dense models holds for experts, and none knows what a shorter window costs.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from microgpt.common.words import format_amount
from microgpt.evaluation.alarms import published_fit
from microgpt.evaluation.forecast import Forecaster
from microgpt.evaluation.verdict import OPTIMUM
from microgpt.model import ModelConfig, count_parameters, flop_per_token
from microgpt.model.architecture import count_active_parameters
from microgpt.model.mlp import inner_width
from microgpt.runs.settings import TrainConfig
from microgpt.runs.spec import Plan
from microgpt.training.needs import largest_batch, memory_estimate

WIDER, MORE_LAYERS = 4 / 3, 6 / 5  # of the wide one
DEEPER = 9 / 5
EXPERTS, EXPERTS_OF_TOKEN, EXPERT_SHARE = 4, 2, 3 / 4  # of the hidden width, each
SHORT = 2  # times fewer tokens in a window
AT_FULL_LENGTH = 0.1  # of the tokens, after short windows
COMPUTED_AGAIN = 4 / 3  # times the FLOP, where the forward of each layer is made twice


class Resources(NamedTuple):
    """Bytes, seconds, and tokens a second."""

    memory: float
    seconds: float
    tok_per_s: float


class Option(NamedTuple):
    """A plan by its numbers.

    settings: in which it differs from the plan that was given.  weights: whether it can begin with that one's
    weights, and how, or why not.  seq_len: of its (first) windows.  batch: windows that fit into the memory
    at once, 0: none.  accum: micro-batches of a step.  tokens: that the time has room for.  best_s: seconds
    for the tokens that are best for its size.  loss: foretold, and its interval; None: not known.
    """

    name: str
    settings: dict[str, Any]
    weights: str
    n_params: int
    n_active: int
    memory: float
    seq_len: int
    batch: int
    accum: int
    tok_per_s: float
    tokens: float
    best_tokens: float
    best_s: float
    loss: tuple[float, float, float] | None
    loss_note: str
    phases: list[str]

    @property
    def tokens_per_step(self) -> int:
        """Of a step of the optimizer."""
        return self.batch * self.accum * self.seq_len


def options(
    plan: Plan, memory: float, seconds: float, tok_per_s: float, forecaster: Forecaster | None = None
) -> list[Option]:
    """The plan itself, then what could be instead.

    Args: memory: bytes.  tok_per_s: of the plan as it stands.  forecaster: by a law of one's own.
    """
    found = []
    for name, settings, weights in alternatives(plan):
        train = plan.train
        model = dataclasses.replace(plan.model, **{k: v for k, v in settings.items() if k != "recompute"})
        if "recompute" in settings:
            train = dataclasses.replace(train, recompute=True)
        has = Resources(memory, seconds, tok_per_s * _work(plan.model, plan.train) / _work(model, train))
        found.append(_counted(name, settings, weights, model, train, plan, has, forecaster))
    return found


def alternatives(plan: Plan) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Name, settings and what becomes of the present weights."""
    model = plan.model
    yield "as it is", {}, "yes, --resume"
    width = _rounded(model.n_embd * WIDER, model.head_size * (model.n_kv_head or 1))
    inner = _inner(model, width / model.n_embd)
    layers = round(model.n_layer * MORE_LAYERS)
    wide = {"n_embd": width, "n_head": width // model.head_size, "n_layer": layers, "n_inner": inner}
    yield "wide", wide, "no, its matrices have other shapes"
    yield "deep", {"n_layer": round(model.n_layer * DEEPER)}, "no, new layers begin at random"
    if model.mlp != "moe" and model.mlp in ("gelu", "swiglu"):
        experts = {
            "mlp": "moe",
            "expert": model.mlp,
            "n_expert": EXPERTS,
            "top_k": EXPERTS_OF_TOKEN,
            "expert_inner": round(EXPERT_SHARE * inner_width(model, model.mlp == "swiglu")),
        }
        yield "experts", experts, "no, experts and routers begin at random"
    if not plan.train.recompute:
        yield "recompute", {"recompute": True}, "yes, --resume --recompute: the same to the bit"
    is_bound = "learned" in model.positions.split()
    short = {"seq_len": model.seq_len // SHORT}
    if is_bound:
        yield "short window", short, "no, its table of positions is longer"
    else:
        yield "short window", short, "yes, --from it; what it knows of places farther off is lost"
        yield "short, then long", short, "yes, --from it; its second phase is the plan as it is"


def _rounded(width: float, step: int) -> int:
    return max(step, round(width / step) * step)


def _inner(model: ModelConfig, times: float) -> int:
    """The hidden width of an MLP at a width so many times as large; 0 stays the rule of the width."""
    if not model.n_inner:
        return 0
    step = 256 if model.n_inner >= 1024 else 64
    return math.ceil(model.n_inner * times / step) * step


def _counted(
    name: str,
    settings: dict[str, Any],
    weights: str,
    model: ModelConfig,
    train: TrainConfig,
    plan: Plan,
    has: Resources,
    forecaster: Forecaster | None,
) -> Option:
    """One of them by its numbers."""
    wanted = plan.tokens_per_step
    rows = max(1, wanted // model.seq_len)
    batch = largest_batch(model, dataclasses.replace(train, batch_size=rows), has.memory)
    accum = math.ceil(rows / batch) if batch else 0
    batch = math.ceil(rows / accum) if batch else 0
    needed = memory_estimate(model, dataclasses.replace(train, batch_size=max(1, batch)))
    n_params, n_active = count_parameters(model), count_active_parameters(model)
    tokens = has.seconds * has.tok_per_s
    best = OPTIMUM * n_active
    if forecaster is not None and not forecaster.law.ratio:
        best = forecaster.tokens_for(n_active)
    loss, note = _foretold(name, model, n_params, tokens, forecaster)
    return Option(
        name,
        settings,
        weights,
        n_params,
        n_active,
        needed,
        model.seq_len,
        batch,
        accum,
        has.tok_per_s,
        tokens,
        best,
        best / has.tok_per_s,
        loss,
        note,
        _phases(name, plan.model, tokens),
    )


def _work(model: ModelConfig, train: TrainConfig) -> float:
    """FLOP of a token."""
    return flop_per_token(model) * (COMPUTED_AGAIN if train.recompute else 1.0)


def _foretold(
    name: str, model: ModelConfig, n_params: int, tokens: float, forecaster: Forecaster | None
) -> tuple[tuple[float, float, float] | None, str]:
    """Loss with its interval, and where it is from or why there is none."""
    if model.mlp == "moe":
        return None, "not known: laws of dense models do not hold for experts"
    if "short" in name:
        return None, "not known: laws are of one length of windows"
    if forecaster is not None and forecaster.law.ratio:
        ratio = forecaster.law.ratio
        if abs(math.log(tokens / n_params / ratio)) > 0.1:
            return None, f"not known: the law is along {ratio:.3g} tokens for each parameter"
    if forecaster is not None:
        model_of = forecaster.of(n_params, tokens)
        if model_of.is_far:
            return None, "not known: too far beyond the runs of the law"
        return (model_of.loss, model_of.run_low, model_of.run_high), "by the law of your runs"
    fits = published_fit(n_params, tokens)
    if fits is None:
        return None, "not known: too small for published fits; fit a law (microgpt fit)"
    return (fits, math.nan, math.nan), "nats a token by published fits, of other text and another tokenizer"


def _phases(name: str, model: ModelConfig, tokens: float) -> list[str]:
    """What is trained after what, and on how many tokens."""
    if name == "short, then long":
        long = AT_FULL_LENGTH * tokens
        return [
            f"windows of {model.seq_len // SHORT} on {format_amount(tokens - long)} tokens",
            f"windows of {model.seq_len} on {format_amount(long)} tokens, from those weights (--from)",
            "chats, from those weights (--from), at a lower rate",
        ]
    return [f"text, {format_amount(tokens)} tokens", "chats, from those weights (--from), at a lower rate"]
