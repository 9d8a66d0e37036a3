"""Tell what holds a run back: more data, a larger model, another schedule, or a bug; or nothing.

  microgpt capacity runs/x                      while it trains or afterwards
  microgpt capacity x --runs s1 s2 m1 m2 l1 l2  beside the law that these finished runs show
  microgpt capacity x --coherent 1.1              whether it will come to that many bits per byte

The probes come first, for a broken model looks as one that is too small.  Then comes the course of held-out
loss with the fall of the learning rate taken out: where it will end, and what as much training again would
gain.  Exit code 1 stands for a bug.
"""

from collections.abc import Sequence
from typing import Any

from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser
from microgpt.common.output import escaped, json_line, show
from microgpt.common.words import format_amount
from microgpt.core import native
from microgpt.corpus.prepared.config import prepared_again
from microgpt.evaluation.law_runs import points_of, refusals
from microgpt.evaluation.laws import COVERED, Fit, fit
from microgpt.evaluation.verdict import BUG, Facts, Verdict, judge
from microgpt.research.capacity import facts_of
from microgpt.research.showed import all_showed
from microgpt.runs.checkpoint import known_corpus, read_config
from microgpt.runs.spec import Plan

from ._model_flags import add_model_flags, open_checkpoint


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt capacity", description=__doc__)
    add_model_flags(flags)
    flags.add_argument("--runs", nargs="+", default=[], metavar="RUN", help="finished runs on the same text")
    flags.add_argument("--coherent", type=float, metavar="BPB", help="held-out bits per byte that make sense")
    flags.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = parser().parse_args(argv)
    own = law_of(args.runs) if args.runs else None
    loaded = open_checkpoint(args, args.checkpoint)
    plan = Plan.from_dict(read_config(loaded.path))
    known = known_corpus(loaded.path)
    data = prepared_again(plan.data.located(known), known, native.threads())
    facts = facts_of(loaded.path, loaded.model, loaded.tokenizer, loaded.state, plan, data, own)
    verdict = judge(facts)
    if args.json:
        print(json_line(report(facts, verdict)))
    else:
        show(*map(escaped, [f"run      {loaded.path}", *lines_of(facts, args.coherent), *told(verdict)]))
    return 1 if verdict.word == BUG else 0


def law_of(names: list[str]) -> Fit:
    """The law of other runs.  Raises: ConfigError: they cannot show one."""
    runs = all_showed(names)
    if lines := refusals(runs):
        raise ConfigError(f"--runs: {lines[0]}")
    return fit(points_of(runs))


def lines_of(facts: Facts, reach: float | None) -> list[str]:
    """What is known."""
    bad = [one for one in facts.findings if one.is_good is False]
    lines = [
        f"probes   {len(facts.findings)} made, {len(bad) or 'none'} bad",
        *(f"  {one.told()}" for one in bad),
    ]
    if facts.alarms:
        lines.append(f"alarms   {', '.join(facts.alarms)}")
    lines.append(
        f"size     {format_amount(facts.n_params)} parameters, {format_amount(facts.tokens)} tokens so far "
        f"({facts.ratio:,.1f} for each, {facts.passes:.2g} passes), {format_amount(facts.end_tokens)} by the "
        f"end; best are about {facts.optimum:.3g} for each"
    )
    lines.append(
        f"rate     at most {facts.rate:.3g} times the recipe's; the weights are {facts.moved:.2f} of their "
        "size from where they began"
    )
    return [*lines, *of_course(facts, reach), *of_others(facts)]


def of_course(facts: Facts, reach: float | None) -> list[str]:
    """Where the loss goes."""
    course = facts.course
    if course is None:
        return ["course   too little was measured"]
    lines = [
        f"course   {course.now:.4f} bits per byte now, {course.end:.4f} at the end of the schedule "
        f"({COVERED:.0%} interval {course.end_low:.4f} to {course.end_high:.4f}), of {course.n} measurements",
        f"  slope  {course.slope:+.4f} for each e-fold of training, with the fall of the rate taken out; as "
        f"much again would gain {max(0.0, course.doubling_low):.1%} to {course.doubling_high:.1%}",
    ]
    if reach is not None:
        is_out, is_sure = course.end_low > reach, course.end_high <= reach
        how = "will not be reached" if is_out else "will be reached" if is_sure else "may be reached"
        lines.append(f"  {reach:g} bits per byte {how} by the end of this schedule")
    return lines


def of_others(facts: Facts) -> list[str]:
    """Beside training text, published fits and other runs."""
    side = "worse" if facts.gap >= 0 else "better"
    lines = [f"gap      held-out text is foretold {abs(facts.gap):.1%} {side} than training text"]
    if facts.above_fit is None:
        lines.append("fits     published ones do not apply to so small a model or so few tokens")
    else:
        lines.append(f"fits     {facts.above_fit:+.2f} nats from published ones")
    if facts.above_own is not None:
        lines.append(f"law      ends {facts.above_own:+.1%} from the law of the other runs")
    return lines


def told(verdict: Verdict) -> list[str]:
    """The verdict."""
    return [f"verdict  {verdict.word}: {verdict.why}", f"  next   {verdict.advice}"]


def report(facts: Facts, verdict: Verdict) -> dict[str, Any]:
    """All of it for JSON."""
    course = facts.course and facts.course._asdict()
    findings = [one._asdict() for one in facts.findings]
    return {**facts._asdict(), "findings": findings, "course": course, "verdict": verdict._asdict()}
