"""Adapters whose information is held at a share of all: a penalty with a gradient, under control.

ParamBPT = sum(w^2) / (2 sigma^2 N ln 2), DataBPT = loss / ln 2, S = ParamBPT / (DataBPT + ParamBPT), in bits
a token; w are the changes s B A that adapters make to matrices, N the tokens that one pass over the data
scores.  lambda sum(w^2) / (2 sigma^2 N) nats a token are added to the loss.

The changes count, not the adapters' own numbers: A begins at random and says nothing until B does, and B A is
the same whatever B and A share between them.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from microgpt.batches.batches import Batches
from microgpt.common.errors import CheckpointError, ConfigError
from microgpt.common.output import tell
from microgpt.common.plain import record_from
from microgpt.core import arrays, ops
from microgpt.files import durable
from microgpt.files.records import json_bytes, read_json
from microgpt.model import GPT, IGNORED
from microgpt.runs.checkpoint import STATE, read_config
from microgpt.runs.events import Alarmed, Evaluated, Event, EventListener, Resumed, Trained
from microgpt.runs.kinds import PENALTIES
from microgpt.runs.layout import METRICS, checkpoints
from microgpt.runs.metrics import read_metrics
from microgpt.runs.spec import Plan
from microgpt.training.parts import Parts
from microgpt.training.stop import StopFlag

from .control import FIXED, Control, Law, law_of

NAME, METADATA = "scu", "metadata.json"
FLAT = 0.005  # held-out loss that gains a smaller share from one evaluation to the next is flat
PATIENCE, BOTH_WAYS = 100, 0.5  # steps at a bound; change of ln lambda up and down again


# -------------------------------------------------------------------------------- the penalty


class Pair(NamedTuple):
    """An adapter s B A by the names of its halves."""

    a: str
    b: str


class Information:
    """lambda sum(w^2) / (2 sigma^2 N), with its gradient, lambda set once a step by a law that sees S.

    With c = lambda s^2 / (sigma^2 N):  dB = c B A A^T,  dA = c B^T B A.
    """

    _facts: dict[str, Any]

    def __init__(self, parts: Parts) -> None:
        told = parts.plan.train.penalty_settings
        self.control = record_from(Control, dict(told), "settings of the controller")
        self._model, self._batches = parts.model, parts.batches
        if not parts.plan.model.lora_rank:
            raise ConfigError("--scu counts what adapters hold; give --lora or --lora-rank, too")
        if parts.plan.train.weight_decay:
            raise ConfigError(
                f"--weight-decay {parts.plan.train.weight_decay:g} pulls adapters to zero beside the "
                "controller, which then controls nothing; give 0"
            )
        config = parts.plan.model
        self._scale = (config.lora_alpha or 2 * config.lora_rank) / config.lora_rank
        self._pairs = pairs_of(self._model)
        self.restore({})

    def add(self, loss: float, n: int) -> float:
        """See S, set lambda, and add n times the gradient."""
        if not math.isfinite(loss):
            return 0.0  # the step will be left out
        products = [_products(self._model, pair) for pair in self._pairs]
        squares = self._scale**2 * math.fsum(product.squares for product in products)
        per_lambda = squares / (2 * self.control.prior_sigma**2 * self._n_tokens())
        s = share(loss, per_lambda)
        strength = self.law.step(s)
        factor = n * strength * self._scale**2 / (self.control.prior_sigma**2 * self._n_tokens())
        for pair, product in zip(self._pairs, products, strict=True):
            self._model.grads[pair.b][:] += factor * product.d_b
            self._model.grads[pair.a][:] += factor * product.d_a
        self._facts = facts_of(self.law, loss, per_lambda, s)
        return strength * per_lambda

    def facts(self) -> Mapping[str, Any]:
        """Bits, S, lambda and how the law stands."""
        return self._facts

    def state(self) -> Mapping[str, Any]:
        """Of the law, and N."""
        return {"n_tokens": self._n_tokens(), "law": self.law.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self._n = int(state.get("n_tokens", self.control.scored_tokens))
        self.law = law_of(self.control)
        self.law.restore(state.get("law", {}))
        self._facts = {}

    def _n_tokens(self) -> int:
        """N; counted when it is first asked for."""
        if not self._n:
            self._n = scored_tokens(self._batches)
        return self._n


class _Products(NamedTuple):
    """Of one adapter: sum((B A)^2), and half its gradients, B A A^T and B^T B A."""

    squares: float
    d_b: np.ndarray
    d_a: np.ndarray


def _products(model: GPT, pair: Pair) -> _Products:
    """Without ever making B A: what is made has as many numbers as A and B."""
    a, b = model.params[pair.a], model.params[pair.b]
    aat = ops.linear_forward(a, a)
    btb = arrays.zeros_like(aat)
    ops.linear_backward_weight(b, b, btb)
    d_b = ops.linear_forward(b, aat)  # A A^T is symmetric
    d_a = ops.linear_backward_input(btb, a)
    return _Products(float(np.sum(btb * aat, dtype=np.float64)), d_b, d_a)


def pairs_of(model: GPT) -> list[Pair]:
    """The adapters of a model."""
    names = [name for name in model.params if name.endswith(".lora_a")]
    return [Pair(name, name.removesuffix("a") + "b") for name in names]


def scored_tokens(batches: Batches) -> int:
    """Targets that one pass over the data scores."""
    n, size = batches.n_windows, batches.batch_size
    counts = (
        int((batches.rows(first, min(size, n - first)).targets != IGNORED).sum())
        for first in range(0, n, size)
    )
    return max(1, sum(counts))


def share(loss: float, nats: float) -> float:
    """S of a loss and a parameter information, both in nats a token."""
    return nats / (loss + nats) if loss + nats > 0 else 0.0


def facts_of(law: Law, loss: float, nats: float, s: float) -> dict[str, Any]:
    """What is logged of every step."""
    return {
        "data_bpt": loss / math.log(2),
        "param_bpt": nats / math.log(2),
        "S": s,
        "S_hat": law.smoothed,
        "e": law.error,
        "I": law.integral,
        "lambda": law.strength,
        "saturated": law.saturated,
        "in_deadband": law.in_deadband,
        "is_near": law.is_near,
        "is_steady": law.is_steady,
    }


PENALTIES[NAME] = Information


# -------------------------------------------------------------------------------- when to stop, what is wrong


class Settling:
    """A listener that asks a run to end once three things hold: S is within 5 % of its target, the law
    without its deadband would have left lambda where it is for 100 steps, and held-out loss is flat.

    It also says what is wrong and which flag to change.  Of a run that goes on it takes up what its log has.
    """

    def __init__(self, stop: StopFlag, say: EventListener) -> None:
        self._stop, self._say = stop, say
        self._losses: list[float] = []
        self._at_bound = self._n_zero = 0
        self._told: set[str] = set()
        self._path: list[float] = []  # ln lambda where it turned
        self.is_settled = False

    def __call__(self, event: Event) -> None:
        """See one event."""
        if isinstance(event, Resumed) and event.run is not None:
            self._take_up(Path(event.run) / METRICS)
        if isinstance(event, Evaluated):
            self._losses.append(event.loss_nats)
        if isinstance(event, Trained) and event.facts and "S_hat" in event.facts:
            for name, why, look in self._new_troubles(event.facts):
                self._say(Alarmed(event.step, name, why, look))
            near, steady, flat = event.facts["is_near"], event.facts["is_steady"], is_flat(self._losses)
            if near and steady and flat and not self.is_settled:
                self.is_settled = True
                tell(f"settled at step {event.step}: {evidence(near, steady, flat)}")
                self._stop.request()

    def _take_up(self, log: Path) -> None:
        """See again what a run told before it went on."""
        for line in read_metrics(log):
            if line["event"] == Evaluated.name:
                self._losses.append(float(line["loss_nats"]))
            elif line["event"] == Trained.name and "S_hat" in (line.get("facts") or {}):
                self._new_troubles(line["facts"])

    def _new_troubles(self, facts: Mapping[str, Any]) -> list[tuple[str, str, str]]:
        """Those that were not told yet."""
        found = [trouble for trouble in self._troubles(facts) if trouble[0] not in self._told]
        self._told.update(name for name, *_ in found)
        return found

    def _troubles(self, facts: Mapping[str, Any]) -> list[tuple[str, str, str]]:
        side, found = facts["saturated"], []
        self._at_bound = self._at_bound + side if side * self._at_bound >= 0 and side else side
        at, s = f"lambda {facts['lambda']:g} for {PATIENCE} steps", f"S {facts['S_hat']:.3%}"
        if self._at_bound >= PATIENCE:
            found.append(("lambda at its upper bound", f"{at}, {s} above target", "a higher --target-s"))
        if self._at_bound <= -PATIENCE:
            why = f"{at}, {s}: the target is above what S comes to without a penalty, and cannot be held"
            found.append(("lambda at its lower bound", why, "a lower --target-s"))
        self._n_zero = self._n_zero + 1 if facts["S"] == 0 else 0
        if self._n_zero >= PATIENCE:
            found.append(("S is 0", f"for {PATIENCE} steps: adapters do not move", "--lr, --lora-targets"))
        if self._swings(math.log(facts["lambda"]) if facts["lambda"] else 0.0):
            found.append(("lambda swings", "up and down again, twice by more than half", "a lower --ki"))
        return found

    def _swings(self, now: float) -> bool:
        """Whether lambda went up and down by BOTH_WAYS four times in a row."""
        turns = self._path
        if len(turns) < 2:
            if not turns or abs(now - turns[-1]) >= BOTH_WAYS:
                turns.append(now)
        elif (now - turns[-1]) * (turns[-1] - turns[-2]) > 0:
            turns[-1] = now
        elif abs(now - turns[-1]) >= BOTH_WAYS:
            turns.append(now)
        return len(turns) > 5


def is_flat(losses: list[float]) -> bool:
    """Whether the last evaluation gained next to nothing over the one before."""
    return len(losses) > 1 and losses[-1] > losses[-2] * (1 - FLAT)


def evidence(near: bool, steady: bool, flat: bool) -> str:
    """The three, for a person."""
    words = (
        f"S is {'' if near else 'not '}within 5 % of its target",
        f"lambda {'stands' if steady else 'does not stand'} still by itself",
        f"held-out loss is {'' if flat else 'not '}flat",
    )
    return ", ".join(words)


# -------------------------------------------------------------------------------- metadata.json


def metadata(run: Path) -> dict[str, Any] | None:
    """What the newest checkpoint of a run under control says of it; None: it is under none."""
    found = checkpoints(run)
    if not found:
        return None
    plan = Plan.from_dict(read_config(found[0][1]))
    if plan.train.penalty != NAME:
        return None
    control = record_from(Control, dict(plan.train.penalty_settings), "config.json")
    state = read_json(found[0][1] / STATE)["penalty"]
    law = law_of(control)
    law.restore(state["law"])
    losses = [line["loss_nats"] for line in read_metrics(run / METRICS) if line["event"] == "eval"]
    near, steady, flat = law.is_near, law.is_steady, is_flat(losses)
    return {
        "step": found[0][0],
        "law": control.scu_law,
        "target_s": control.target_s,
        "prior_sigma": control.prior_sigma,
        "n_tokens": state["n_tokens"],
        "final_s": law.smoothed,
        "final_s_ratio": None if law.smoothed is None else law.smoothed / control.target_s,
        "final_lambda": law.strength,
        "lambda_range": list(law.range),
        "saturated": law.saturated,
        "settled": near and steady and flat,
        "evidence": evidence(near, steady, flat),
    }


def write_metadata(run: Path) -> None:
    """Write metadata.json beside the checkpoints of a run under control; of others nothing."""
    if (found := metadata(run)) is not None:
        durable.replace_file(run / METADATA, [json_bytes(found)])


def check_metadata(path: Path) -> str:
    """Look whether a controller controlled.  Returns a note.

    Raises: CheckpointError: lambda is 0 or never moved, or S is far from its target.
    """
    found = read_json(path)
    try:
        strength, (low, high), ratio = (
            float(found["final_lambda"]),
            map(float, found["lambda_range"]),
            float(found["final_s_ratio"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: expected final_lambda, lambda_range and final_s_ratio of a run with --scu"
        ) from error
    note = f"lambda {strength:.4g}, from {low:.4g} to {high:.4g}; S at {ratio:.0%} of its target"
    if found.get("law") == FIXED:
        return f"{note}; lambda was fixed"
    if strength <= 0 or low == high:
        raise CheckpointError(f"{path}: {note}; nothing was controlled")
    if not 0.9 <= ratio <= 1.1:
        raise CheckpointError(f"{path}: {note}; expected 90% to 110%: train longer or change --target-s")
    return f"{note}; {'settled' if found.get('settled') else 'not settled'}"
