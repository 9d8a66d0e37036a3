"""The process in which fuzzing runs its cases; it ends at the first finding, by itself or by a sanitizer.

The number of each case goes to standard output and its input to --current, so that whoever watches knows what
it was doing when it ended.
"""

import argparse
import importlib
import importlib.util
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Target(NamedTuple):
    """Where to find how to make an input, and what must hold for it; an exception is a finding."""

    module: str  # imported only after the build to be tested has been loaded
    make: str  # (random.Random) -> bytes
    check: str  # (bytes) -> None


TARGETS = {
    "trainer": Target("bpe", "make_trainer_case", "check_trainer"),
    "encoder": Target("bpe", "make_encoder_case", "check_encoder"),
    "tokenizer-json": Target("json_texts", "make_json_case", "check_json"),
    "tokens": Target("files", "make_tokens_case", "check_tokens"),
    "checkpoint": Target("files", "make_checkpoint_case", "check_checkpoint"),
    "config": Target("files", "make_config_case", "check_config"),
    "readers": Target("corpus", "make_readers_case", "check_readers"),
}


def use(library: Path) -> None:
    """Load a build of the tokenizer's C half in the place of the installed one."""
    spec = importlib.util.spec_from_file_location("microgpt.tokenizer._bpe", library)
    assert spec is not None and spec.loader is not None
    sys.modules["microgpt.tokenizer._bpe"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    from microgpt.tokenizer import native

    assert native.lib is module.lib, "the tokenizer was imported before the build to be tested"


def numbers(args: argparse.Namespace) -> Iterator[int]:
    """The cases to run: from the first on until the time is over."""
    end = time.monotonic() + args.seconds
    number = args.first
    while number < args.last and time.monotonic() < end:
        yield number
        number += 1


def run(args: argparse.Namespace, target: Target) -> None:
    """Run cases; the input of each depends on seed and number only."""
    module = importlib.import_module(f"benchmarks.fuzz.{target.module}")
    make, check = getattr(module, target.make), getattr(module, target.check)
    for number in numbers(args):
        args.current.write_bytes(b"")
        print(number, flush=True)
        data = args.input.read_bytes() if args.input else make(random.Random(f"{args.seed} {number}"))
        args.current.write_bytes(data)
        check(data)


def parse() -> argparse.Namespace:
    """The command line, which benchmarks.fuzz writes."""
    parser = argparse.ArgumentParser("benchmarks.fuzz.child")
    parser.add_argument("target")
    parser.add_argument("--library", type=Path)
    parser.add_argument("--current", type=Path)
    parser.add_argument("--input", type=Path)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--first", type=int)
    parser.add_argument("--last", type=int)
    parser.add_argument("--seconds", type=float)
    return parser.parse_args()


def main() -> None:
    """Run cases until the time is over."""
    args = parse()
    use(args.library)
    run(args, TARGETS[args.target])
    print("end", flush=True)


if __name__ == "__main__":
    main()
