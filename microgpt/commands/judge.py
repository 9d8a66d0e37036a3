"""Have people judge two models blindly: which of two answers is better, and how good each is.

  microgpt judge x y                      in the terminal, on our own prompts: 240 in 12 categories
  microgpt judge x y --html judge.html    a page for any browser, which saves its judgements as CSV
  microgpt judge x y --prompts my.txt     on prompts of a file, one a line
  microgpt judge --results a.csv b.csv    count what raters said: preference, marks, agreement

Nobody is told whose answer is whose; the order of pairs and of the two answers is drawn for each rater.  A
file of judgements holds prompts, answers and choices, so it can also be trained on.  The same seed gives the
same answers, so a rater may go on another day with the same file.
"""

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from microgpt.common.bars import progress_bar
from microgpt.common.errors import ConfigError, DataError
from microgpt.common.flags import Parser, add_settings, whole
from microgpt.common.output import escaped, json_line, tell
from microgpt.common.words import command_line, counted
from microgpt.decoding.sampler import SamplerConfig
from microgpt.evaluation.agreement import Kappa
from microgpt.evaluation.judgements import header, read_judgements, row
from microgpt.evaluation.preference import (
    ENOUGH_ITEMS,
    ENOUGH_PAIRS,
    ENOUGH_RATERS,
    Preference,
    Verdict,
    verdict,
)
from microgpt.files.durable import write_file
from microgpt.research.asking import ask
from microgpt.research.blind import BUILTIN, Pair, Prompt, answers_of, left_over, pairs_of, prompts_of, shown
from microgpt.research.page import page

from ._model_flags import Loaded, add_model_flags, named, open_checkpoint, sampler_from


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt judge", description=__doc__)
    add_model_flags(flags, several=True)
    flags.add_argument(
        "--prompts",
        default=BUILTIN,
        metavar="FILE",
        help="what both are asked: text with a prompt a line, a line `# NAME` for the category of those "
        "below, or JSON objects with `prompt` and `category`; builtin: our own [default builtin]",
    )
    flags.add_argument(
        "--count", type=whole(1), metavar="PROMPTS", help="so many of them, evenly spread [default all]"
    )
    flags.add_argument(
        "--plain", action="store_true", help="prompts are texts to go on with, and no messages to answer"
    )
    flags.add_argument("--html", metavar="FILE", help="write a page to judge in a browser, and end")
    flags.add_argument(
        "--rater", default="me", metavar="NAME", help="who judges in the terminal [default me]"
    )
    flags.add_argument(
        "--out",
        metavar="FILE",
        help="where judgements of the terminal are kept; what is in it is not asked again "
        "[default judged-by-RATER.csv]",
    )
    flags.add_argument(
        "--results", nargs="+", metavar="FILE", help="count these files of judgements, and end"
    )
    flags.add_argument("--json", action="store_true", help="with --results: print one JSON object")
    add_settings(flags, SamplerConfig)
    flags.add_argument(
        "--seed", type=whole(0), default=0, metavar="NUMBER", help="of the answers [default 0]"
    )
    flags.add_argument(
        "--max-tokens",
        type=whole(1),
        default=200,
        metavar="TOKENS",
        help="end an answer after this many [default 200]",
    )
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = parser().parse_args(argv)
    if args.results is not None:
        return counted_up(args)
    if len(args.checkpoints) != 2:
        raise ConfigError(
            f"{counted(len(args.checkpoints), 'checkpoint')}; judge takes two, such as x y, or --results FILE"
        )
    if args.html and Path(args.html).exists():
        raise ConfigError(f"--html {args.html}: is there already; name a new file")
    models, pairs = answered(args)
    if args.html:
        write(Path(args.html), page(pairs, models, args.seed))
        tell(f"{counted(len(pairs), 'pair')} in {args.html}; open it in a browser, then save the CSV")
        return 0
    return asked(args, models, pairs)


def answered(args: argparse.Namespace) -> tuple[tuple[str, str], list[Pair]]:
    """What both models are called, and the pairs to judge."""
    prompts = prompts_of(args.prompts)
    if args.count and args.count < len(prompts):
        prompts = [prompts[number * len(prompts) // args.count] for number in range(args.count)]
    names, found = [], []
    for name in named(args):
        loaded = open_checkpoint(args, name)
        names.append(str(loaded.path))
        found.append(texts_of(args, loaded, prompts))
    pairs = pairs_of(prompts, found[0], found[1])
    if same := len(prompts) - len(pairs):
        tell(f"{counted(same, 'prompt')} left out: both models answer the same")
    if not pairs:
        raise DataError("both models answer the same to every prompt; there is nothing to judge")
    return (names[0], names[1]), pairs


def texts_of(args: argparse.Namespace, loaded: Loaded, prompts: Sequence[Prompt]) -> list[str]:
    """The answers of one model."""
    with progress_bar("answering", len(prompts), "prompt") as progress:
        how = sampler_from(args), args.seed, args.max_tokens, args.plain, progress.update
        return answers_of(loaded.model, loaded.tokenizer, prompts, *how)


def asked(args: argparse.Namespace, models: tuple[str, str], pairs: Sequence[Pair]) -> int:
    """Judge in the terminal; each judgement is in the file at once."""
    path = Path(args.out or f"judged-by-{args.rater}.csv")
    done = read_judgements([path]) if path.exists() else []
    if done and done[0].models != models:
        raise ConfigError(f"{path}: judges {' and '.join(done[0].models)}; name a new file with --out")
    if not done and not path.exists():
        write(path, header())
    rest = left_over(shown(pairs, args.rater, args.seed), done, args.rater)
    n = 0
    for judgement in ask(rest, models, args.rater, input, sys.stdout):
        add(path, row(judgement))
        n += 1
    print()
    again = command_line("judge", "--results", path)
    tell(f"{counted(n, 'judgement')} added to {path}, {len(rest) - n} left; {again} counts them")
    return 0


def write(path: Path, text: str) -> None:
    """A new file."""
    try:
        write_file(path, [text.encode()])
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None


def add(path: Path, line: str) -> None:
    """A line behind those of a file, of which an editor may have left the last without its end."""
    try:
        with path.open("a+b") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                line = line if file.read() == b"\n" else f"\n{line}"
            file.write(line.encode())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None


def counted_up(args: argparse.Namespace) -> int:
    """What files of judgements say."""
    judgements = read_judgements(args.results)
    if not judgements:
        raise DataError(f"{', '.join(args.results)}: no judgement in it")
    found = verdict(judgements)
    if args.json:
        print(json_line(found.to_dict()))
    else:
        print(*map(escaped, lines_of(found)), sep="\n")
    return 0


def lines_of(found: Verdict) -> list[str]:
    """For people."""
    of = found.preference
    raters = ", ".join(f"{name} {n}" for name, n in found.raters.items())
    lines = [f"A  {found.models[0]}", f"B  {found.models[1]}", f"raters and their judgements: {raters}", ""]
    width = max(map(len, ["all pairs", *found.categories]))
    lines.append(f"{'pairs better':{width}}  {'A':>5}  {'B':>5}  {'ties':>5}")
    if len(found.categories) > 1:
        lines += [table_row(name or "-", one, width) for name, one in found.categories.items()]
    lines += [
        table_row("all pairs", of, width),
        *preferred(of),
        first_of(found),
        "",
        *marked(found),
        *agreed(found),
    ]
    return lines


def table_row(name: str, of: Preference, width: int) -> str:
    """Pairs of a category."""
    return f"{name:{width}}  {of.wins_a:5d}  {of.wins_b:5d}  {of.ties:5d}"


def preferred(of: Preference) -> list[str]:
    """Which model people prefer."""
    share = of.share_b
    lines = [
        f"B is better in {share.value:.1%} of the {share.of} pairs that are no ties, 95 % interval "
        f"{share.low:.1%} to {share.high:.1%}",
        f"  exact sign test without the {counted(of.ties, 'tie')}: p = {of.p:.4f}",
    ]
    if not of.is_enough:
        return [*lines, f"  too few: {counted(of.n, 'pair')}; a preference takes {ENOUGH_PAIRS}"]
    better = f"{of.better.upper()} is preferred" if of.better else "no preference that chance would not make"
    return [*lines, f"  {better}"]


def first_of(found: Verdict) -> str:
    """Whether the place of an answer sways raters."""
    one = found.first
    return f"the answer that stood first was preferred in {one.value:.1%} ({one.low:.1%} to {one.high:.1%})"


def marked(found: Verdict) -> list[str]:
    """The rubric."""
    if not found.marks:
        return []
    lines = [f"{'mean marks':12}  {'A':>5}  {'B':>5}  {'B less A, 95 % interval':26}  weighted kappa"]
    for name, one in found.marks.items():
        interval = "" if math.isnan(one.low) else f" ({one.low:+.2f} to {one.high:+.2f})"
        agreement = told(one.agreement) if one.agreement else "one rater"
        lines.append(
            f"{name:12}  {one.a:5.2f}  {one.b:5.2f}  {f'{one.difference:+.2f}{interval}':26}  {agreement}"
        )
    return [*lines, ""]


def agreed(found: Verdict) -> list[str]:
    """How far raters agree on which answer is better."""
    if not found.kappas:
        return ["agreement: no pair was judged by two raters"]
    lines = [f"Cohen's kappa of {' and '.join(names)}: {told(one)}" for names, one in found.kappas.items()]
    if found.fleiss is None:
        return [*lines, "Fleiss' kappa: no pair was judged by all"]
    lines.append(f"Fleiss' kappa of all: {told(found.fleiss)}")
    if not found.is_agreement_enough:
        n, m = found.fleiss.n_items, found.fleiss.n_raters
        lines.append(
            f"  too few: {counted(n, 'pair')} of {counted(m, 'rater')}; agreement takes {ENOUGH_ITEMS} and "
            f"{ENOUGH_RATERS}"
        )
    return lines


def told(kappa: Kappa) -> str:
    """A kappa with its interval."""
    if math.isnan(kappa.value):
        return f"none, all said the same ({kappa.n_items})"
    return f"{kappa.value:.2f} ({kappa.low:.2f} to {kappa.high:.2f}), n {kappa.n_items}"
