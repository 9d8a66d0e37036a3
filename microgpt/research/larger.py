"""The checklist of a hop: a larger model of the same family, on more tokens.

Wider with heads of 64 channels, hidden width by its rule, two query heads to a key and value head, local
attention by the root of its window; more tokens, by more steps and larger ones.
"""

import dataclasses
import math
from typing import Any

from microgpt.common.errors import ConfigError
from microgpt.common.words import format_amount
from microgpt.machine.memory import available_memory
from microgpt.model import count_parameters
from microgpt.runs.spec import Plan, Spec
from microgpt.runs.spec_file import spec_of
from microgpt.training.needs import largest_batch, smaller, what_fits

HEAD = 64  # channels of a head
PRIORS = {
    "head_dim": HEAD,
    "ffn": "4x",
    "kv_groups": 2,
    "window": "sqrt(T) * window_scale",
    "global_stride": "sqrt(T)",
}
BY_PRIORS = ("n_head", "n_inner", "n_kv_head", "window", "global_stride")  # settings that follow those
BATCH_POWER = math.log10(10 / 3.5)  # of tokens: ten times of them, 3.5 times the steps, 2.86 times as large
CLOSE = 0.05  # to the parameters that are wanted, in log: as good as equal
FEWEST_STEPS = 2  # one to the rung


def scaled(seed: Plan, n_params: float) -> Plan:
    """The model of a seed at about as many parameters: wider, and as deep as comes near that number.

    Of widths with one head, or an even number, each as deep as fits, that whose depth is nearest the seed's.
    Raises: ConfigError: there is none so small.
    """
    fitting = []
    for width in (HEAD, *range(2 * HEAD, 128 * HEAD + 1, 2 * HEAD)):
        layers = _layers(seed, width, n_params)
        if layers is None:
            break
        plan = shaped(seed, width, layers)
        off = abs(math.log(count_parameters(plan.model) / n_params))
        fitting.append((max(0.0, off - CLOSE), abs(math.log(layers / seed.model.n_layer)), plan))
    if not fitting:
        raise ConfigError(f"{format_amount(n_params)} parameters: not even one layer of {HEAD} channels fits")
    return min(fitting, key=lambda one: one[:2])[2]


def _layers(seed: Plan, width: int, n_params: float) -> int | None:
    """How many layers of a width come nearest to as many parameters; None: one is far too many."""
    one, two = (count_parameters(shaped(seed, width, n).model) for n in (1, 2))
    layers = 1 + round((n_params - one) / (two - one))
    return layers if layers >= 1 else None if one > 1.2 * n_params else 1


def shaped(seed: Plan, width: int, layers: int) -> Plan:
    """The model of a seed of another width and depth; heads and all else by the rules of the checklist."""
    spec = spec_of(seed)
    model = {name: value for name, value in spec.model.items() if name not in BY_PRIORS}
    train = {**spec.train, **_rates(seed)}
    larger = Spec(
        spec.preset, {**model, "n_embd": width, "n_layer": layers}, train, spec.data, priors=dict(PRIORS)
    )
    return larger.plan(seed.model.vocab_size)


def _rates(seed: Plan) -> dict[str, Any]:
    """Adam's rate falls with the width; that of Muon is the same at any."""
    if seed.train.optimizer != "adam" or seed.train.width_scaling:
        return {}
    return {"width_scaling": seed.model.n_embd}


def lengthened(plan: Plan, seed: Plan, tokens: float, rung: float) -> Plan:
    """The plan on about as many tokens: steps and their size both grow, as the checklist has it.

    Raises: ConfigError: it takes more memory than there is.
    """
    times = tokens / seed.planned_tokens
    windows = max(1, round(seed.train.windows_per_step * times**BATCH_POWER))
    steps = max(FEWEST_STEPS, round(tokens / (windows * plan.model.seq_len)))
    windows = max(1, round(tokens / (steps * plan.model.seq_len)))
    train = dataclasses.replace(plan.train, batch_size=windows, grad_accum=1)
    available = available_memory()
    size = largest_batch(plan.model, train, available)
    if not size:
        raise ConfigError(
            f"not even one window fits into the memory; {what_fits(plan.model, train, available)}"
        )
    train = smaller(train, size)
    every = max(1, round(rung * steps))
    train = dataclasses.replace(
        train, max_steps=steps, eval_every=every, sample_every=0, save_every=every, keep=1
    )
    return dataclasses.replace(plan, train=train)


def checklist(seed: Plan, hop: Plan) -> list[tuple[str, str, str]]:
    """What the seed has and what the hop has, by item."""
    one, other = seed.model, hop.model
    step, larger = seed.tokens_per_step, hop.tokens_per_step
    tokens, more = seed.planned_tokens, hop.planned_tokens

    def shape(model: Any) -> str:
        return f"{model.n_embd} channels, {model.n_layer} layers"

    def reach(model: Any) -> str:
        windows = {model.heads_of(layer).window for layer in range(model.n_layer)}
        return " and ".join("all" if not w else f"{w}" for w in sorted(windows)) + f" of {model.seq_len}"

    return [
        ("parameters", f"{count_parameters(one):,}", f"{count_parameters(other):,}"),
        ("shape", shape(one), shape(other)),
        ("heads", f"{one.n_head} of {one.head_size}", f"{other.n_head} of {other.head_size}"),
        (
            "query heads to one of keys",
            str(one.heads.H // one.heads.H_kv),
            str(other.heads.H // other.heads.H_kv),
        ),
        ("positions that attention sees", reach(one), reach(other)),
        ("tokens", f"{tokens:,}", f"{more:,} ({more / tokens:.3g} times)"),
        (
            "steps",
            f"{seed.train.max_steps:,}",
            f"{hop.train.max_steps:,} ({hop.train.max_steps / seed.train.max_steps:.3g} times)",
        ),
        ("tokens of a step", f"{step:,}", f"{larger:,} ({larger / step:.3g} times)"),
        (
            "learning rate",
            f"{seed.train.lr:g}",
            f"{hop.train.lr:g}" + (", less by width" if hop.train.width_scaling else ""),
        ),
    ]
