"""The tokenizer alone, on files: train it, encode, decode, show; also the tokenizer of a run."""

import argparse
from collections.abc import Sequence

from microgpt.runs.kept import tokenizer_named
from microgpt.tokenizer import __main__ as alone


def parser() -> argparse.ArgumentParser:
    """All flags."""
    return alone.parser()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return alone.main(argv, tokenizer_named)
