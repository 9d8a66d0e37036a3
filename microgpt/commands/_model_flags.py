"""What the commands that use a model share: their flags, and opening a checkpoint."""

import argparse
import os
from pathlib import Path
from typing import Any, NamedTuple

from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser, add_settings, settings_from, whole
from microgpt.common.output import tell
from microgpt.core import native
from microgpt.corpus.reading.options import ReadOptions
from microgpt.decoding.sampler import SamplerConfig
from microgpt.evaluation.chat_probe import knows_chats
from microgpt.evaluation.held_out import carries_state, refuse_long_stride
from microgpt.machine.cpus import add_threads_flag, wanted_threads
from microgpt.model import GPT, count_parameters
from microgpt.model.architecture import is_recurrent
from microgpt.runs.checkpoint import load_verified, read_config
from microgpt.runs.kept import (
    CLEARLY_WORSE,
    CONFIG,
    MODEL_FILES,
    choice_notes,
    find_checkpoint,
    is_checkpoint,
    place_of,
)
from microgpt.runs.lineage import adapter_file, load_adapted
from microgpt.runs.spec import Plan
from microgpt.tokenizer import Tokenizer


class Loaded(NamedTuple):
    """A model ready for use.  state: what its checkpoint recorded, such as the step."""

    model: GPT
    tokenizer: Tokenizer
    state: dict[str, Any]
    path: Path
    adapter: Path | None = None  # the file of what was put beside it

    def knows_chats(self) -> bool:
        """Whether it has learned to hold a conversation."""
        places = [self.path]
        if self.adapter and is_checkpoint(self.adapter.parent):
            places.append(self.adapter.parent)
        plans = [Plan.from_dict(read_config(place)) for place in places]
        return knows_chats(self.model, self.tokenizer, *plans)

    def describe(self) -> list[str]:
        """Lines for people: what it is, where it comes from, which other checkpoint one might want."""
        config = self.model.config
        metrics = self.state.get("metrics")
        bpb = metrics.get("val_bpb") if isinstance(metrics, dict) else None
        quality = f", held-out {bpb:.3f} bits per byte" if isinstance(bpb, float) else ""
        return [
            f"{count_parameters(config):,} parameters: {config.n_layer} layers of width {config.n_embd}, "
            f"window {config.seq_len}, vocabulary {config.vocab_size:,}",
            f"from {self.path}{quality}",
            *choice_notes(self.path),
        ]


def add_model_flags(flags: Parser, several: bool = False) -> None:
    """The checkpoint, or several to be measured, and the machine."""
    of_a_run = (
        "its newest one is taken"
        if several
        else f"its newest one is taken, or the best on held-out text where it is more than "
        f"{100 * (CLEARLY_WORSE - 1):.0f} percent worse"
    )
    flags.add_argument(
        "checkpoints" if several else "checkpoint",
        nargs="*" if several else "?",
        metavar="CHECKPOINT",
        help=f"a run, by its path or as in runs/NAME: {of_a_run}; RUN@best, RUN@newest, RUN@STEP or a path "
        "name one checkpoint of it [default the newest run]",
    )
    if not several:
        flags.add_argument(
            "--adapter",
            metavar="RUN",
            help="adapters that were trained beside this very checkpoint: their run, or a file of them",
        )
    add_threads_flag(flags)
    flags.add_argument(
        "--precision",
        choices=native.PRECISIONS,
        default="fp32",
        help="of large matrix products, which read prompts and held-out text; auto: bf16 where the CPU has "
        "it [default fp32]",
    )


def named(args: argparse.Namespace) -> list[str | None]:
    """The checkpoints that were named, or the newest run.

    Raises: ConfigError: one of them is not there; told before the first is measured.
    """
    for name in args.checkpoints:
        place_of(name)
    return args.checkpoints or [None]


def named_to_slide(args: argparse.Namespace) -> list[str | None]:
    """The same where windows may slide by --stride.

    Raises: ConfigError: by more than the window of one of the models; told before any text is read.
    """
    names = named(args)
    for name in names if args.stride is not None else ():
        config = read_config(find_checkpoint(name, (CONFIG,), say=lambda text: None))
        refuse_long_stride(args.stride, config["model"]["seq_len"])
    return names


def add_carry_flag(flags: Parser) -> None:
    """What is remembered from window to window of a text that is measured."""
    flags.add_argument(
        "--carry-state",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="windows follow on each other, and recurrent layers carry on what they remember [default as the "
        "run was trained]",
    )


def is_carried(loaded: Loaded, args: argparse.Namespace) -> bool:
    """Whether it is, of a model that is to be measured.  Raises ConfigError: it has nothing to carry."""
    if args.carry_state and not is_recurrent(loaded.model.config):
        raise ConfigError(f"--carry-state: {loaded.path} has no recurrent layer; leave it out")
    return carries_state(loaded.path) if args.carry_state is None else bool(args.carry_state)


def add_text_flags(flags: Parser, default: str, how_much: str = "all") -> None:
    """The text to be measured on, how it is read, and how much of it.

    Args: default, how_much: what it is otherwise, for people.
    """
    flags.add_argument_group("data").add_argument(
        "--data",
        nargs="+",
        action="extend",
        metavar="FILE",
        dest="files",
        help=f"text or chats, files or folders, or `smalltalk` [default {default}]",
    )
    add_settings(flags, ReadOptions)
    flags.add_argument(
        "--max-tokens",
        type=whole(1),
        metavar="TOKENS",
        help=f"score about this many held-out tokens, evenly spread [default {how_much}]",
    )


def add_sampling_flags(flags: Parser) -> None:
    """Everything that decides which token comes."""
    add_settings(flags, SamplerConfig)
    for letter, name, kind in (("-t", "temperature", float), ("-k", "top_k", int)):
        text = f"short for --{name.replace('_', '-')}"
        flags.add_argument(letter, dest=name, type=kind, metavar="N", default=argparse.SUPPRESS, help=text)
    flags.add_argument(
        "--seed",
        type=whole(0),
        metavar="NUMBER",
        help="the same seed gives the same answers [default a new one each time]",
    )
    flags.add_argument(
        "--max-tokens",
        type=whole(1),
        metavar="TOKENS",
        help="end an answer after this many [default what the window has room for]",
    )


def sampler_from(args: argparse.Namespace) -> SamplerConfig:
    """The settings that were typed, over the defaults."""
    return settings_from(args, SamplerConfig)


def seed_from(args: argparse.Namespace) -> int:
    """The seed that was typed, or a fresh one."""
    return int.from_bytes(os.urandom(4), "little") if args.seed is None else args.seed


def open_model(args: argparse.Namespace) -> Loaded:
    """Load a model to talk to: of a run its newest checkpoint, or the best if that is clearly better."""
    return open_checkpoint(args, args.checkpoint, best=True, adapter=args.adapter)


def open_checkpoint(
    args: argparse.Namespace, name: str | None, best: bool = False, adapter: str | None = None
) -> Loaded:
    """Load a checkpoint (`find_checkpoint`) in the precision that was typed, and set the threads.

    adapter: what lies beside it; None: nothing, or what its run trained.
    """
    precision = native.choose_precision(args.precision)
    native.set_threads(wanted_threads(args.threads))
    if warning := native.warning(precision):
        tell(f"warning: {warning}")
    path = find_checkpoint(name, MODEL_FILES, best=best)
    if adapter is not None:
        return Loaded(*load_adapted(path, adapter, precision), path, adapter_file(adapter))
    return Loaded(*load_verified(path, precision), path)
