"""Probe a model and its data: is what is measured what it is said to be, does the gradient reach every part?

  microgpt probe runs/x                  the newest checkpoint of a run
  microgpt probe x@1000                  another one
  microgpt probe x --check overfit       train such a model anew on a few windows until it knows them by heart

Each probe is a short experiment: changing a token must change no logit before it, the loss must follow the
gradient of every layer, targets must be the tokens that follow, held-out documents must not be trained on.
The exit code is 1 if one of them is bad.
"""

import argparse
import dataclasses
from collections.abc import Sequence

from microgpt.batches.batches import Batches
from microgpt.common.flags import Parser, whole
from microgpt.common.output import escaped, json_line, tell
from microgpt.common.words import format_duration
from microgpt.core import native
from microgpt.corpus.prepared.config import prepared_again, source_place
from microgpt.corpus.prepared.corpus import source_names
from microgpt.evaluation.finding import Finding
from microgpt.evaluation.probes import probe_all
from microgpt.model import GPT
from microgpt.runs.checkpoint import known_corpus, read_config
from microgpt.runs.spec import Plan
from microgpt.training.clock import Clock
from microgpt.training.overfit import MOST_STEPS, overfit

from ._model_flags import Loaded, add_model_flags, open_checkpoint

OVERFIT = "overfit"


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt probe", description=__doc__)
    add_model_flags(flags)
    flags.add_argument(
        "--data",
        nargs="+",
        metavar="FILE",
        dest="files",
        help="where the text of the run is now [default where it was]",
    )
    flags.add_argument(
        "--check", choices=(OVERFIT,), help="the longer experiment of this name instead; it takes minutes"
    )
    flags.add_argument(
        "--samples",
        type=whole(1, 100),
        default=16,
        metavar="WINDOWS",
        help="so many windows are learned by heart, 1 to 100 [default 16]",
    )
    flags.add_argument("--json", action="store_true", help="print one JSON object a line")
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = parser().parse_args(argv)
    loaded = open_checkpoint(args, args.checkpoint)
    plan = Plan.from_dict(read_config(loaded.path))
    known = known_corpus(loaded.path)
    wanted = plan.data
    if args.files is not None:
        places = tuple(map(source_place, source_names(args.files)))
        wanted = dataclasses.replace(wanted, data=places)
    data = prepared_again(wanted.located(known), known, native.threads())
    config = plan.train
    batches = Batches(data.train, plan.model.seq_len, config.batch_size, config.seed, packing=config.packing)
    if args.check == OVERFIT:
        return overfitted(args, loaded, plan, batches)
    is_random = not loaded.state.get("step")
    folder = loaded.path.parent
    is_good = True
    for found in probe_all(loaded.model, loaded.tokenizer, data.train, data.val, batches, folder, is_random):
        is_good &= found.is_good is not False
        show(args, found)
    return 0 if is_good else 1


def overfitted(args: argparse.Namespace, loaded: Loaded, plan: Plan, batches: Batches) -> int:
    """The check of that name."""
    model = GPT(dataclasses.replace(plan.model, dropout=0.0), precision=loaded.model.precision)
    tell(f"learning {args.samples} windows by heart, {MOST_STEPS:,} steps at most ...")
    result = overfit(model, batches, plan.train, Clock(), args.samples)
    text = (
        f"{result.accuracy:.2%} of the tokens of {result.n_windows} windows after {result.steps:,} steps, "
        f"{format_duration(result.seconds)}"
    )
    look = "loss, gradient and optimizer: `microgpt probe` without --check"
    show(args, Finding(OVERFIT, result.is_whole, text, look))
    return 0 if result.is_whole else 1


def show(args: argparse.Namespace, found: Finding) -> None:
    """One finding."""
    print(json_line(found._asdict()) if args.json else escaped(found.told()), flush=True)
