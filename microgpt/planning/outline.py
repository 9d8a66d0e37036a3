"""A plan in words: what `microgpt plan` prints."""

from collections.abc import Sequence

from microgpt.common.words import aligned, counted, format_amount, format_duration
from microgpt.core import native
from microgpt.evaluation.alarms import FEWEST_PARAMETERS
from microgpt.machine.memory import available_memory
from microgpt.machine.rates import product_flop_per_s
from microgpt.model import ModelConfig
from microgpt.runs.priors import SETTINGS, Priors, deviations, distance
from microgpt.runs.spec import Plan
from microgpt.training.horizon import Timing, run_s, step_s
from microgpt.training.needs import what_fits
from microgpt.training.report import of_depth, too_many_passes

from .facts import Facts
from .rehearsal import Rehearsal

# Tokens for each parameter at which a given amount of computing gives the least loss, in two ways to count
# parameters: all of them (Hoffmann et al. 2022, arXiv 2203.15556), and those of matrices and head without
# the embedding (Karpathy 2025, github.com/karpathy/nanochat, dev/LOG.md).
OPTIMUM, OPTIMUM_OF_PRODUCTS = 20.0, 10.5


def outline(one: Rehearsal) -> list[str]:
    """Lines that say what a plan amounts to, and what it takes here where a step was timed."""
    return [
        *sizes(one.plan, one.facts),
        *length(one.plan, one.facts),
        *memory(one.plan, one.facts),
        *(time_taken(one.plan, one.facts, one.timing) if one.timing else []),
    ]


def sizes(plan: Plan, facts: Facts) -> list[str]:
    """The model and its parameters."""
    model = plan.model
    parts = ", ".join(f"{name} {format_amount(n)}" for name, n in facts.parts.items())
    active = f", {facts.active:,} of them for a token" if facts.active < facts.params else ""
    return [
        f"model    {plan.preset}: {counted(model.n_layer, 'layer')}, {model.n_embd} channels, "
        f"window {model.seq_len}, vocabulary {model.vocab_size:,}",
        f"params   {facts.params:,}{active}; {facts.in_layers:,} without embedding and head",
        f"         {parts}" + ("; the embedding is the head, too" if model.tied else ""),
        f"flop     {format_amount(facts.flop)} a token, forward and backward",
    ]


def length(plan: Plan, facts: Facts) -> list[str]:
    """Steps, tokens, passes, and how many tokens that is for each parameter."""
    if not facts.steps:
        return [f"length   what fits into --max-time {plan.train.max_time}"]
    passes = "" if facts.epochs is None else f", {facts.epochs:,.2f} passes over the corpus"
    lines = [
        f"length   {counted(facts.steps, 'step')} of {facts.tokens_per_step:,} tokens, "
        f"{format_amount(facts.tokens)} in all{passes}",
        *of_depth(plan.train, plan.model.n_layer),
        f"ratio    {facts.tokens / facts.params:.2g} tokens a parameter, all counted; published optimum "
        f"{OPTIMUM:g} (Hoffmann 2022)",
        f"         {facts.tokens / facts.in_products:.2g} for those of matrices and head; published optimum "
        f"{OPTIMUM_OF_PRODUCTS:g} (nanochat 2025)",
    ]
    if facts.params < FEWEST_PARAMETERS:
        lines.append(
            f"         neither was found with models of fewer than {format_amount(FEWEST_PARAMETERS)}"
        )
    return lines + (too_many_passes(facts.epochs) if facts.epochs is not None else [])


def by_priors(priors: Priors, model: ModelConfig, facts: Facts) -> list[str]:
    """What priors became, how far the model is from them, and whether it sees more tokens than they allow."""
    lines, found = [], deviations(priors, model)
    if found:
        has = model.to_dict()
        rows = [["prior", "", "setting", "", "deviation"]]
        for name, part in found.items():
            setting = SETTINGS[name]
            value = has[setting] or "by rule"
            rows.append([name, str(getattr(priors, name)), setting, str(value), f"{part:.3g}"])
        lines = [
            f"priors   {distance(priors, model):.3g} from them, the mean of the deviations",
            *(f"         {line}" for line in aligned(rows)),
        ]
    cap, ratio = priors.tokens_per_param, facts.tokens / facts.params
    if cap is not None and ratio > cap:
        lines.append(
            f"warning  {ratio:.3g} tokens a parameter are more than the prior tokens_per_param {cap:g}; a "
            f"shorter run (--tokens-per-param {cap:g}) or a larger model keeps to it"
        )
    return lines


def memory(plan: Plan, facts: Facts) -> list[str]:
    """Memory by part, and what makes it fit if it does not; and what the checkpoints take."""
    parts = ", ".join(f"{name} {_size(n)}" for name, n in facts.needs._asdict().items() if n)
    available = available_memory()
    lines = [
        f"memory   {_size(facts.needs.total)} at most, of {_size(available)} that are free:",
        f"         {parts}",
    ]
    if facts.needs.total > available:
        lines.append(f"warning  it does not fit; {what_fits(plan.model, plan.train, available)}")
    n = facts.disk // facts.checkpoint
    return [*lines, f"disk     {_size(facts.checkpoint)} a checkpoint, {n} at once at most"]


def time_taken(plan: Plan, facts: Facts, timing: Timing) -> list[str]:
    """What it takes here, and how near that is to what the machine can do."""
    seconds = step_s(timing, plan.train)
    speed = facts.tokens_per_step / seconds
    flop_per_s = speed * facts.flop
    machine = native.info(plan.train.precision)
    peak = max(product_flop_per_s(plan.train.precision, machine["threads"]), flop_per_s)
    return [
        f"time     {format_duration(run_s(facts.steps, timing, plan.train))} here, evaluations, samples and "
        "saves included",
        *before_steps(timing),
        f"         {format_duration(seconds)} a step, {speed:,.0f} tokens a second, "
        f"{flop_per_s / 1e9:,.0f} GFLOP/s, {flop_per_s / peak:.0%} of what products reach",
        f"machine  {counted(machine['threads'], 'thread')}, {machine['isa']}, "
        f"BLAS core {machine['blas_core']}, {machine['precision']}",
    ]


def before_steps(timing: Timing) -> list[str]:
    """The part of the time that passes before the first step, if any does."""
    if not timing.start_s:
        return []
    return [
        f"         {format_duration(timing.start_s)} of it to learn from pairs of tokens, before the steps"
    ]


def compared(plans: Sequence[Rehearsal]) -> list[str]:
    """Several plans side by side, a column each."""
    rows: list[list[str]] = [["", *(one.facts.preset for one in plans)]]
    counts = {
        "parameters": lambda f: f"{f.params:,}",
        "without embedding and head": lambda f: f"{f.in_layers:,}",
        "active": lambda f: f"{f.active:,}",
        "FLOP a token": lambda f: format_amount(f.flop),
        "tokens a step": lambda f: f"{f.tokens_per_step:,}",
        "steps": lambda f: f"{f.steps:,}" if f.steps else "as fit",
        "tokens": lambda f: format_amount(f.tokens) if f.steps else "-",
        "tokens a parameter": lambda f: f"{f.tokens / f.params:.2g}" if f.steps else "-",
        "memory": lambda f: _size(f.needs.total),
        "a checkpoint": lambda f: _size(f.checkpoint),
    }
    rows += [[name, *(told(one.facts) for one in plans)] for name, told in counts.items()]
    times = {
        "a step": lambda f, t, train: format_duration(step_s(t, train)),
        "tokens a second": lambda f, t, train: f"{f.tokens_per_step / step_s(t, train):,.0f}",
        "the run": lambda f, t, train: format_duration(run_s(f.steps, t, train)) if f.steps else "-",
    }
    for name, tells in times.items():
        rows.append([name, *(tells(f, t, plan.train) if t else _why(fits) for plan, f, t, fits in plans)])
    return aligned(rows)


def _why(fits: bool) -> str:
    """Why a plan was not timed."""
    return "not timed" if fits else "too large"


def _size(n_bytes: float) -> str:
    """Bytes for people: `1.86 GB`, `26 MB`."""
    if n_bytes >= 1e9:
        return f"{n_bytes / 1e9:,.{2 if n_bytes < 1e10 else 0}f} GB"
    return f"{n_bytes / 1e6:,.{0 if n_bytes >= 1e7 else 1}f} MB"
