"""Plan a run before it starts: parameters, memory, tokens, passes over the text, and the time it takes here.

  microgpt plan --preset 25m --data my.jsonl        all that microgpt train would take, with the same flags
  microgpt plan --compare 10m 25m 34m --epochs 2    sizes side by side
  microgpt plan --budget 12h                        which preset ends lowest in that time
  microgpt plan --memory 8GB --tokens 20M           and which in that memory
  microgpt plan --untimed                           count only; the text is prepared if it was not

Nothing is trained; the corpus is prepared if it was not, and a few steps are timed.  The exit code is 1 if
the run does not fit into the memory that is free.
"""

import argparse
from collections.abc import Sequence

from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser
from microgpt.common.output import json_line, show, tell
from microgpt.common.words import parse_bytes, parse_duration
from microgpt.corpus.prepared.corpus import SMALLTALK
from microgpt.model.presets import PRESETS
from microgpt.planning.choice import choose, kinds, measured, presets_of, told
from microgpt.planning.outline import by_priors, compared, outline
from microgpt.planning.rehearsal import Rehearsal, floors, of_presets, open_plan, rehearse
from microgpt.runs.priors import SETTINGS, Priors, deviations, distance
from microgpt.runs.spec import DEFAULT_PRESET, DEFAULT_RECIPE, Spec
from microgpt.training.horizon import run_s, step_s

from . import train


def parser(preset: str = DEFAULT_PRESET, recipe: str = DEFAULT_RECIPE) -> Parser:
    """All flags: those of `microgpt train`, and what is asked of the plan."""
    flags = train.parser(preset, recipe)
    flags.prog, flags.usage, flags.description = "microgpt plan", "microgpt plan [flags]", __doc__
    group = flags.add_argument_group("plan")
    group.add_argument(
        "--compare",
        nargs="+",
        choices=tuple(PRESETS),
        metavar="NAME",
        help="presets to show side by side, or to choose among",
    )
    group.add_argument(
        "--budget", metavar="TIME", help="tell which preset ends lowest in this time, such as 12h"
    )
    group.add_argument(
        "--memory", metavar="SIZE", help="tell which preset ends lowest in this memory, such as 8GB"
    )
    group.add_argument(
        "--like",
        choices=kinds(measured()),
        help="the kind of text that was measured and is most like this corpus "
        f"[default {SMALLTALK} for the embedded corpus, else none]",
    )
    group.add_argument(
        "--untimed",
        action="store_true",
        help="count only: no steps are timed, and nothing is told of speed and time",
    )
    group.add_argument("--json", action="store_true", help="print JSON instead")
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = parser(*train.named_in(argv)).parse_args(argv)
    if args.resume is not None:
        raise ConfigError("plan is for a new run; leave --resume out")
    if args.write_spec is not None:
        raise ConfigError("plan writes no file; give --write-spec to train")
    spec = train.spec_from(args)
    if args.budget is not None or args.memory is not None:
        return ranked(args, spec)
    plan, prepared = open_plan(spec, tell)
    priors = Priors.from_dict(spec.priors)
    if args.compare:
        found = of_presets(args.compare, spec, plan, prepared, tell, not args.untimed)
        lines = compared(found)
    else:
        found = [rehearse(plan, prepared, tell, not args.untimed)]
        lines = outline(found[0]) + by_priors(priors, plan.model, found[0].facts)
    if args.json:
        print(json_line([as_json(one, priors) for one in found]))
    else:
        show(*lines)
    return 0 if all(one.fits for one in found) else 1


def ranked(args: argparse.Namespace, spec: Spec) -> int:
    """Which preset ends lowest within time or memory."""
    budget_s = None if args.budget is None else parse_duration(args.budget, "--budget")
    memory = None if args.memory is None else parse_bytes(args.memory)
    if args.untimed:
        raise ConfigError("--untimed: which preset is best follows from what was timed; leave it out")
    if budget_s is None and not spec.lengths:
        raise ConfigError("--memory alone does not tell how long the run is; give --budget or --tokens, too")
    if budget_s is not None and (spec.lengths or spec.is_timed):
        raise ConfigError("--budget says how long the run is; leave other lengths out")
    rows = measured()
    plan, prepared = open_plan(spec, tell)
    kind = args.like or (SMALLTALK if plan.data.data == (SMALLTALK,) else None)
    names = args.compare or presets_of(kind, rows) or [plan.preset]
    choices = choose(of_presets(names, spec, plan, prepared, tell), kind, rows, budget_s, memory)
    by_counting = floors(plan, prepared)
    if args.json:
        print(json_line({"choices": [choice._asdict() for choice in choices], "floors_bpb": by_counting}))
    else:
        show(*told(choices, kind, by_counting))
    return 0


def as_json(one: Rehearsal, priors: Priors) -> dict[str, object]:
    """A rehearsal as plain values."""
    facts: dict[str, object] = one.facts.to_dict()
    if found := deviations(priors, one.plan.model):
        shape = {SETTINGS[name]: getattr(one.plan.model, SETTINGS[name]) for name in found}
        away = {"distance": distance(priors, one.plan.model), "deviations": found, "settings": shape}
        facts |= {"priors": away}
    if one.timing is None:
        return facts
    return facts | {
        "step_s": step_s(one.timing, one.plan.train),
        "run_s": run_s(one.facts.steps, one.timing, one.plan.train),
    }
