"""What the commands that use a model share: their flags, and opening a checkpoint."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from microgpt.common.flags import Parser, add_settings, settings_from
from microgpt.common.output import tell
from microgpt.common.threads import add_threads_flag, thread_count
from microgpt.core import native
from microgpt.model import GPT
from microgpt.training.checkpoint import MODEL_FILES, find_checkpoint, load_model
from microgpt.training.config import MOST
from tokenizer import Tokenizer

from .sampler import SamplerConfig


class Loaded(NamedTuple):
    """A model ready for use.  state: what its checkpoint recorded, such as the step."""

    model: GPT
    tokenizer: Tokenizer
    state: dict[str, Any]
    path: Path

    def describe(self) -> list[str]:
        """Two lines for people: what it is, where it comes from."""
        config = self.model.config
        bpb = (self.state.get("metrics") or {}).get("val_bpb")
        quality = f", held-out {bpb:.3f} bits per byte" if isinstance(bpb, float) else ""
        return [
            f"{config.n_params:,} parameters: {config.n_layer} layers of width {config.n_embd}, "
            f"window {config.seq_len}, vocabulary {config.vocab_size:,}",
            f"from {self.path}{quality}",
        ]


def whole(least: int, most: int = MOST - 1) -> Callable[[str], int]:
    """The type of a flag that is a whole number from `least` to `most`."""
    expected = f"from {least} up" if most == MOST - 1 else f"from {least} to {most}"

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            bound = expected if value < MOST else f"below {MOST:.1e}"
            raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number {bound}")
        return value

    return parse


def add_model_flags(flags: Parser) -> None:
    """The checkpoint and the machine."""
    flags.add_argument(
        "checkpoint",
        nargs="?",
        metavar="CHECKPOINT",
        help="a run directory, for its newest checkpoint, or one checkpoint of it "
        "[default the newest run under runs/]",
    )
    add_threads_flag(flags)
    flags.add_argument(
        "--precision",
        choices=native.PRECISIONS,
        default="fp32",
        help="of large matrix products, which read prompts and held-out text; auto: bf16 where the CPU has "
        "it [default fp32]",
    )


def add_sampling_flags(flags: Parser) -> None:
    """Everything that decides which token comes."""
    add_settings(flags, SamplerConfig)
    for letter, name, kind in (("-t", "temperature", float), ("-k", "top_k", int)):
        text = f"short for --{name.replace('_', '-')}"
        flags.add_argument(
            letter, dest=name, type=kind, metavar="N", default=argparse.SUPPRESS, help=text
        )
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
    """Load the checkpoint that was named, the newest by default, and set precision and threads."""
    native.use_precision(native.choose_precision(args.precision))
    native.set_threads(thread_count(args.threads))
    if warning := native.warning():
        tell(f"warning: {warning}")
    path = find_checkpoint(args.checkpoint, MODEL_FILES)
    return Loaded(*load_model(path), path)
