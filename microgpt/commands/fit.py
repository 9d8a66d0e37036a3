"""Fit a law of loss to finished runs: how it falls with parameters and tokens, and what larger ones reach.

  microgpt fit s1 s2 m1 m2 l1 l2                     held-out bits per byte of these runs
  microgpt fit s* m* l* --predict 10M --predict 10M:80M
  microgpt fit s* m* l* --target-bpb 1.2             which size, on how many tokens, in which time
  microgpt fit --table runs.csv                      columns N,D,loss or params,tokens,loss
  microgpt fit --table runs.csv --columns "Model Size,tokens,val loss"
  microgpt fit --priors runs/search-x                which priors of a search were right to have

L(N, D) = E + A N^-alpha + B D^-beta, or E + A N^-alpha where tokens are in proportion to parameters.  N
counts all parameters, D the tokens that were trained on, one that came twice as two; C is 6 N D FLOP.  Runs
that cannot show a law are refused, with what would cure it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser, flag_name, whole
from microgpt.common.output import escaped, json_line, show, tell
from microgpt.common.words import counted, format_amount, parse_amount
from microgpt.evaluation.forecast import FAR, Forecast, Forecaster
from microgpt.evaluation.isoflop import Frontier, frontier
from microgpt.evaluation.law_runs import Showed, points_of, refusals
from microgpt.evaluation.laws import COVERED, DELTA, N_DRAWS, Fit, fit, left_out
from microgpt.research.law_picture import draw
from microgpt.research.prior_evidence import as_dict, evidence, read_rows, told
from microgpt.research.showed import all_showed
from microgpt.research.table_file import read_table

# Flags that --priors has no use for.
OF_LAW = ("columns", "law", "delta", "predict", "target_bpb", "draws", "plot")
LAWS = {"auto": None, "ray": True, "two-term": False}
NUMBERS = ("E", "A", "alpha", "B", "beta")


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt fit", description=__doc__)
    flags.add_argument("runs", nargs="*", metavar="RUN", help="finished runs, as runs/NAME or NAME")
    flags.add_argument("--table", type=Path, metavar="FILE", help="a .csv file instead of runs")
    flags.add_argument(
        "--columns", metavar="NAMES", help="of the table: parameters, tokens, loss, with commas between"
    )
    flags.add_argument(
        "--priors",
        type=Path,
        metavar="SEARCH",
        help="the folder of a microgpt search: tell of each prior whether its candidates speak for it",
    )
    flags.add_argument("--law", choices=LAWS, default="auto", help="[default what the runs can show]")
    flags.add_argument(
        "--delta",
        type=float,
        default=DELTA,
        metavar="NUMBER",
        help=f"residuals of log loss count squared up to here [default {DELTA:g}]",
    )
    flags.add_argument(
        "--predict", action="append", default=[], metavar="SIZE[:TOKENS]", help="foretell such a model"
    )
    flags.add_argument("--target-bpb", type=float, metavar="LOSS", help="what it takes to reach that loss")
    flags.add_argument(
        "--draws",
        type=whole(100),
        default=N_DRAWS,
        metavar="NUMBER",
        help=f"for intervals [default {N_DRAWS}]",
    )
    flags.add_argument("--seed", type=whole(0), default=0, metavar="NUMBER", help="of the draws [default 0]")
    flags.add_argument("--plot", type=Path, metavar="FILE", help="draw it, if matplotlib is installed")
    flags.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    flags = parser()
    args = flags.parse_args(argv)
    if bool(args.runs) + bool(args.table) + bool(args.priors) != 1:
        raise ConfigError("fit takes runs, or a --table of them, or a search by --priors; give one of them")
    if args.priors:
        if given := [name for name in OF_LAW if getattr(args, name) != flags.get_default(name)]:
            raise ConfigError(
                f"{' '.join(map(flag_name, given))} with --priors: it fits no law, so that these have no "
                "effect; leave out the one or the other"
            )
        return of_priors(args)
    if not 0 < args.delta < 1:
        raise ConfigError(f"--delta {args.delta:g}: expected a number above 0, below 1, such as {DELTA:g}")
    wanted = [_model_of(text) for text in args.predict]
    runs = all_showed(args.runs) if args.runs else read_table(args.table, _columns(args.columns))
    is_ray = LAWS[args.law]
    if lines := refusals(runs, is_ray):
        tell(*lines)
        return 2
    found = fit(points_of(runs), args.delta, is_ray)
    forecaster = Forecaster(found, runs, args.draws, args.seed)
    models = [forecaster.of(*model) for model in wanted]
    target = forecaster.reaching(args.target_bpb) if args.target_bpb else None
    best, errors = frontier(found.points), left_out(found)
    if args.json:
        print(json_line(report(forecaster, errors, best, models, target)))
    else:
        lines = [*of_law(forecaster, errors), *of_frontier(best), *of_models(forecaster, models)]
        lines += of_target(args.target_bpb, target) + of_doublings(forecaster) + conventions(args, runs)
        show(*map(escaped, lines))
    if args.plot:
        draw(forecaster, models, args.plot)
    return 0


def of_priors(args: argparse.Namespace) -> int:
    """What a search says about priors."""
    found = read_rows(args.priors)
    priors = evidence(found, args.seed)
    if args.json:
        print(json_line(as_dict(found, priors)))
    else:
        show(*map(escaped, told(found, priors)))
    return 0


def _columns(text: str | None) -> list[str] | None:
    names = [name.strip() for name in text.split(",")] if text else None
    if names is not None and len(names) != 3:
        raise ConfigError(f"--columns {text}: expected three names with commas between")
    return names


def _model_of(text: str) -> tuple[float, float | None]:
    """`10M` or `10M:80M`."""
    size, colon, tokens = text.partition(":")
    return parse_amount(size), parse_amount(tokens) if colon else None


# ------------------------------------------------------------------------------------------ for people


def of_law(forecaster: Forecaster, errors: dict[int, float]) -> list[str]:
    """The law and how well it holds."""
    found, law = forecaster.found, forecaster.law
    points, n = found.points, len(found.points.loss)
    lines = [
        f"{counted(n, 'run')} of {counted(int(points.sizes.max()) + 1, 'size')}: {_span(points.n_params)} "
        f"parameters, {_span(points.tokens)} tokens",
        f"law      L = E + A N^-alpha along a ray of {law.ratio:.3g} tokens for each parameter, where A and "
        "B cannot be told apart"
        if law.ratio
        else "law      L = E + A N^-alpha + B D^-beta",
    ]
    for name in NUMBERS[: law.n_numbers]:
        low, high = forecaster.interval(getattr(forecaster.drawn, name))
        lines.append(f"  {name:6} {getattr(law, name):<10.5g} {COVERED:.0%} interval {low:.4g} to {high:.4g}")
    lines.append(
        f"holds    R^2 {found.r_squared:.4f} of log loss; a run lies {found.spread:.2%} of its loss about "
        f"the law; sum of Huber losses {found.objective:.10g}"
    )
    for number, error in errors.items():
        size_of = format_amount(float(points.n_params[points.sizes == number].mean()))
        lines.append(f"  {size_of:>6} left out: the others foretell it to {error:+.2%}")
    return lines if len(errors) <= 8 else [*lines[: -len(errors)], _worst(errors)]


def _worst(errors: dict[int, float]) -> str:
    sizes = np.abs(list(errors.values()))
    return (
        f"  each size left out: the others foretell it to {np.median(sizes):.2%}, {sizes.max():.2%} at worst"
    )


def _span(values: np.ndarray) -> str:
    return f"{format_amount(float(values.min()))} to {format_amount(float(values.max()))}"


def of_frontier(best: Frontier | None) -> list[str]:
    """What runs of equal budgets say."""
    if best is None:
        return []
    law = best.law
    return [
        f"budgets  {len(best.budgets)} of equal work have their lowest point among the sizes: best N = "
        f"{best.coefficient:.3g} C^{best.exponent:.3f}, "
        f"least L = {law.E:.4g} + {law.A:.4g} C^-{law.alpha:.4g}"
    ]


def of_models(forecaster: Forecaster, models: list[Forecast]) -> list[str]:
    """What was asked for."""
    return [f"foretold {_told(model)}" for model in models] + (
        ["         no time: that takes logs of two sizes or more on one machine"]
        if models and forecaster.speed is None
        else []
    )


def _told(model: Forecast) -> str:
    hours = "" if model.hours is None else f", {model.hours:.3g} h"
    far = f"; more than {FAR} times the work of any run: far" if model.is_far else ""
    return (
        f"{format_amount(model.n_params)} parameters on {format_amount(model.tokens)} tokens: "
        f"{model.loss:.4f} ({model.low:.4f} to {model.high:.4f}, one run {model.run_low:.4f} to "
        f"{model.run_high:.4f}){hours}{far}"
    )


def of_target(loss: float | None, target: Forecast | None) -> list[str]:
    """What it takes to reach a loss."""
    if loss is None:
        return []
    if target is None:
        return [f"target   {loss:g}: no size reaches it, by this law"]
    return [f"target   {loss:g} takes {_told(target)}"]


def of_doublings(forecaster: Forecaster) -> list[str]:
    """What more work brings."""
    lines = [
        f"work     {'x':>4} {'size':>7} {'tokens':>7} {'loss':>8} {'saved':>8}  gain for each PFLOP more"
    ]
    for one in forecaster.doublings():
        size, tokens = format_amount(one.n_params), format_amount(one.tokens)
        lines.append(
            f"         {one.times:>4} {size:>7} {tokens:>7} {one.loss:8.4f} {one.saved:8.4f}  "
            f"{one.gain_per_pflop:.3g}"
        )
    return lines


def conventions(args: argparse.Namespace, runs: Sequence[Showed]) -> list[str]:
    """What the numbers mean."""
    lines = ["  N: all parameters, embeddings too; D: tokens trained on, repeats counted; C = 6 N D FLOP"]
    if not args.runs:
        return [
            *lines,
            "  loss, and what N and D count, are the table's; whether its schedules ended is not told",
        ]
    lines.append("  loss: bits per byte of held-out text, at the end of each schedule")
    if any(run.passes is None for run in runs):
        lines.append("  how often the text came is not known of all: what was prepared of it is gone")
    return lines


# ------------------------------------------------------------------------------------------ for programs


def report(
    forecaster: Forecaster,
    errors: dict[int, float],
    best: Frontier | None,
    models: list[Forecast],
    target: Forecast | None,
) -> dict[str, Any]:
    """All of it for JSON."""
    found: Fit = forecaster.found
    numbers = NUMBERS[: found.law.n_numbers]
    return {
        "law": {name: getattr(found.law, name) for name in numbers} | {"ratio": found.law.ratio},
        "intervals": {name: forecaster.interval(getattr(forecaster.drawn, name)) for name in numbers},
        "objective": found.objective,
        "delta": found.delta,
        "r_squared": found.r_squared,
        "n_runs": len(found.points.loss),
        "left_out": {str(number): error for number, error in errors.items()},
        "frontier": best and {"coefficient": best.coefficient, "exponent": best.exponent},
        "models": [model._asdict() for model in models],
        "target": target and target._asdict(),
        "doublings": [one._asdict() for one in forecaster.doublings()],
    }
