"""Test what a trained model remembers, on the states that its layers really carry.

  microgpt states runs/x                 the newest checkpoint of a run, on its held-out text
  microgpt states x --data my.txt        on another text

Whether every mixer has a state (S0) of sound size (S1) that changes with the text (S2) and is the same for
the same text (S3); whether both branches of a fusion bring something (S4); whether states stay as large over
512 tokens (D1) and vary (D2), whether the loss rises without the mixers of a kind (D3), how far the first
token reaches (D4); whether pieces come to what one pass does, a state that is reset is as new, and texts that
are read at once stay apart.  The exit code is 1 if a test fails, not for a warning.
"""

from collections.abc import Sequence

from microgpt.common.flags import Parser, given
from microgpt.common.output import escaped, json_line
from microgpt.common.words import counted
from microgpt.core import native
from microgpt.corpus.reading.options import ReadOptions
from microgpt.evaluation.held_out import packing_of, text_to_measure, windows_of
from microgpt.evaluation.states import FAIL, WARN, state_tests

from ._model_flags import add_model_flags, add_text_flags, open_checkpoint

SCORED = 16_384  # tokens of held-out text, where nothing else is said


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt states", description=__doc__)
    add_model_flags(flags)
    add_text_flags(flags, "what it was trained on", f"{SCORED:,}")
    flags.add_argument("--json", action="store_true", help="print one JSON object a line")
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = parser().parse_args(argv)
    loaded = open_checkpoint(args, args.checkpoint)
    how = given(args, ReadOptions)
    held_out = text_to_measure(loaded.path, loaded.tokenizer, args.files, native.threads(), how)
    which = loaded.model.config.seq_len, args.max_tokens or SCORED, packing_of(loaded.path)
    windows = windows_of(held_out, loaded.tokenizer, *which)
    if not args.json:
        print(escaped(f"{loaded.path}, on {' '.join(held_out.names)} ({held_out.part})"))
    verdicts = []
    for check in state_tests(loaded.model, loaded.tokenizer, held_out.tokens, windows):
        verdicts.append(check.verdict)
        print(json_line(check._asdict()) if args.json else escaped(check.told()), flush=True)
        for layer, (first, second, ratio) in check.numbers.get("layers", {}).items():
            if not args.json:
                print(f"        layer {layer:<3} {first:8.3g} {second:8.3g} {ratio:8.3g}")
    if not args.json:
        print(f"{counted(verdicts.count(FAIL), 'test')} failed, {counted(verdicts.count(WARN), 'warning')}")
    return 1 if FAIL in verdicts else 0
