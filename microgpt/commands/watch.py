"""Watch a run from another terminal: where it stands, and its curves, drawn anew every few seconds.

  microgpt watch               the run that wrote its log last
  microgpt watch runs/x        this one; --once draws it a single time

Ctrl-C ends the watching, not the run.  Needs plotext: pip install microgpt-cpu[terminal]
"""

import shutil
import sys
import time
from collections.abc import Sequence

from microgpt.common.flags import Parser, whole
from microgpt.common.output import Lasting
from microgpt.reporting.history import read_history, run_named, state_of
from microgpt.reporting.screen import screen
from microgpt.runs.layout import RUNNING

EVERY_S = 5
CLEARED = "\033[H\033[2J"  # the screen of a terminal, the cursor at its top


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt watch", description=__doc__)
    flags.add_argument(
        "run",
        nargs="?",
        metavar="RUN",
        help="a run, by its path or as in runs/NAME [default the one that wrote its log last]",
    )
    flags.add_argument(
        "--every",
        type=whole(1),
        default=EVERY_S,
        metavar="SECONDS",
        help=f"between two looks [seconds, default {EVERY_S}]",
    )
    flags.add_argument("--once", action="store_true", help="look once and end, as without a terminal")
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; it ends with the run."""
    args = parser().parse_args(argv)
    run, is_terminal = run_named(args.run), sys.stdout.isatty()
    out = Lasting(sys.stdout)
    while True:
        history = read_history(run)
        state = state_of(run, history)
        width, height = shutil.get_terminal_size()
        text = screen(history, width, height - 1, state, colours=is_terminal)
        out.write(f"{CLEARED if is_terminal and not args.once else ''}{text}\n")
        out.flush()
        if args.once or not is_terminal or state != RUNNING:
            return 0
        time.sleep(args.every)
