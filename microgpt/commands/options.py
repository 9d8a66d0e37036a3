"""Tell what could be trained in a memory and a time: as it is, wide, deep, of experts, recomputed, shorter.

  microgpt options --preset 10m --memory 8GB --time 12h --tok-per-s 4000
  microgpt options --spec run.toml --memory 24GB --time 7d --tok-per-s 27000
  microgpt options --spec run.toml --memory 8GB --time 12h --runs s1 s2 m1 m2 l1 l2

Parameters and memory are counted, time follows from the speed of the plan as it stands: --tok-per-s, or that
of finished runs on this machine, or else a guess from one matrix product.  Loss is foretold by the law that
--runs show, or by published fits where they apply; where neither does, it is not known.
"""

import math
from collections.abc import Sequence
from pathlib import Path

from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser, flag_name, shown_value, whole
from microgpt.common.output import escaped, json_line, show
from microgpt.common.words import format_amount, parse_bytes, parse_duration
from microgpt.core import native
from microgpt.evaluation.forecast import Forecaster, Speed, speed_of_sizes
from microgpt.evaluation.law_runs import Showed, points_of, refusals
from microgpt.evaluation.laws import N_DRAWS, fit
from microgpt.machine.cpus import available_cpus
from microgpt.machine.memory import available_memory
from microgpt.machine.rates import product_flop_per_s
from microgpt.model import count_parameters, flop_per_token
from microgpt.model.presets import COUNTED_WITH, COUNTED_WITH_OTHERS, PRESETS
from microgpt.research.options import Option, options
from microgpt.research.showed import all_showed
from microgpt.runs.spec import DEFAULT_PRESET, Plan, Spec
from microgpt.runs.spec_file import read_spec

USED = 0.5  # of the speed of one product alone, by a whole step


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt options", description=__doc__)
    flags.add_argument("--spec", type=Path, metavar="FILE", help="the plan, as train --write-spec makes one")
    flags.add_argument("--preset", choices=tuple(PRESETS), metavar="NAME", help="or that of a preset")
    flags.add_argument(
        "--vocab-size",
        type=whole(1, (1 << 31) - 1),
        metavar="TOKENS",
        help="[default as the preset is counted]",
    )
    flags.add_argument("--memory", metavar="BYTES", help="as in 24GB [default what is free]")
    flags.add_argument("--time", required=True, metavar="TIME", help="as in 12h or 7d")
    flags.add_argument(
        "--tok-per-s", type=float, metavar="SPEED", help="tokens a second of the plan as it is"
    )
    flags.add_argument(
        "--runs", nargs="+", default=[], metavar="RUN", help="finished runs: a law, and a speed"
    )
    flags.add_argument("--json", action="store_true", help="print a JSON list instead of lines")
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = parser().parse_args(argv)
    if args.spec and args.preset:
        raise ConfigError("--spec and --preset each name a plan; give one of the two")
    spec = read_spec(args.spec) if args.spec else Spec(args.preset or DEFAULT_PRESET)
    plan = plan_of(spec, args.vocab_size)
    memory = parse_bytes(args.memory) if args.memory else available_memory()
    runs = all_showed(args.runs)
    speed, source = speed_for(plan, args.tok_per_s, speed_of_sizes(runs))
    found = options(plan, memory, parse_duration(args.time), speed, forecaster_of(runs))
    if args.json:
        print(json_line([one._asdict() for one in found]))
    else:
        show(*map(escaped, [*lines_of(found, memory, args.time), f"  speed: {source}", *NOTES]))


def plan_of(spec: Spec, vocab_size: int | None) -> Plan:
    """All settings; the vocabulary that is named, or of the spec, or that the preset is counted with."""
    if vocab_size is None and not {"vocab_size", "merges"} & {*spec.model, *spec.data}:
        vocab_size = COUNTED_WITH_OTHERS.get(spec.preset or DEFAULT_PRESET, COUNTED_WITH)
    return spec.plan(vocab_size)


def speed_for(plan: Plan, named: float | None, by_runs: Speed | None) -> tuple[float, str]:
    """Tokens a second of a plan, and where that is from."""
    if named is not None:
        if not 0 < named < math.inf:
            raise ConfigError(f"--tok-per-s {named:g}: expected a number above 0")
        return named, "as it was given for the plan as it is"
    if by_runs is not None:
        return by_runs.tok_per_s(count_parameters(plan.model)), f"of the runs ({by_runs.machine})"
    rate = USED * available_cpus() * product_flop_per_s(native.choose_precision(plan.train.precision))
    return rate / flop_per_token(plan.model), (
        f"a guess, {USED:.0%} of what one product takes here; a log of a run, or --tok-per-s, tells it better"
    )


def forecaster_of(runs: list[Showed]) -> Forecaster | None:
    """The law that runs show.  Raises: ConfigError: they cannot show one."""
    if not runs:
        return None
    if lines := refusals(runs):
        raise ConfigError(f"--runs: {lines[0]}")
    return Forecaster(fit(points_of(runs)), runs, N_DRAWS, 0)


# ------------------------------------------------------------------------------------------ for people

TITLES = ("", "params", "active", "memory", "batch", "tok/step", "tok/s", "tokens", "best", "in")
NOTES = (
    "  tokens: that the time has room for; best: for the size; in: the time that those take",
    "  a loss in nats a token is of one tokenizer and one text: no value of it is where sense begins",
)


def lines_of(found: list[Option], memory: float, time: str) -> list[str]:
    """A table, and of each what becomes of weights, what loss, which phases."""
    rows = [TITLES, *map(_row, found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"in {memory / 1e9:.3g} GB and {time}:"]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]
        lines.append("  ".join(cells).rstrip())
    for one in found:
        settings = " ".join(
            flag_name(k) + ("" if v is True else f" {shown_value(v)}") for k, v in one.settings.items()
        )
        lines += [
            f"{one.name}: {settings or 'no change'}",
            f"  from the present weights: {one.weights}",
            f"  loss   {_loss(one)}",
            *(f"  {'phases' if not i else '      '} {i + 1}. {phase}" for i, phase in enumerate(one.phases)),
        ]
    return lines


def _row(one: Option) -> tuple[str, ...]:
    batch = f"{one.batch}x{one.seq_len}" + (f" x{one.accum}" if one.accum > 1 else "")
    return (
        one.name,
        format_amount(one.n_params),
        format_amount(one.n_active),
        f"{one.memory / 1e9:.1f} GB" if one.batch else "too much",
        batch if one.batch else "none",
        f"{one.tokens_per_step:,}",
        f"{one.tok_per_s:,.0f}",
        format_amount(one.tokens),
        format_amount(one.best_tokens),
        long_time(one.best_s),
    )


def _loss(one: Option) -> str:
    if one.loss is None:
        return one.loss_note
    loss, low, high = one.loss
    interval = "no interval" if math.isnan(low) else f"{low:.3f} to {high:.3f}"
    return f"{loss:.3f} ({interval}), {one.loss_note}"


def long_time(seconds: float) -> str:
    """`3.2 h`, `6.1 d`, `2.4 years`."""
    for unit, size in (("years", 365.25 * 86_400), ("d", 86_400.0), ("h", 3600.0)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 60:.2g} min"
