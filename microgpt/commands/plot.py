"""Draw runs into a picture: losses, bits per byte, learning rate, gradient norm, speed.

  microgpt plot                              the newest run, into runs/NAME/plot.png
  microgpt plot runs/x runs/y --out xy.svg   several runs on the same axes
  microgpt plot x --x time                   against the time of training

Needs matplotlib: pip install microgpt-cpu[plot]
"""

from collections.abc import Sequence
from pathlib import Path

from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser
from microgpt.common.output import show
from microgpt.files.written import put_file
from microgpt.reporting.history import read_history, run_named
from microgpt.reporting.pictures import AXES, DARK, LIGHT, STEPS, picture

PICTURE = "plot.png"


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt plot", description=__doc__)
    flags.add_argument(
        "runs",
        nargs="*",
        metavar="RUN",
        help="runs, by their paths or as in runs/NAME [default the one that wrote its log last]",
    )
    flags.add_argument(
        "--out",
        type=Path,
        metavar="PICTURE",
        help=f"where to draw, a name that ends in .png or .svg [default {PICTURE} in the run]",
    )
    flags.add_argument(
        "--x",
        choices=AXES,
        default=STEPS,
        help="what to draw against: steps, tokens seen, time of training, FLOP computed [default steps]",
    )
    flags.add_argument("--dark", action="store_true", help="light lines on dark paper")
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = parser().parse_args(argv)
    runs = [run_named(name) for name in args.runs or [None]]
    if len(runs) > 1 and args.out is None:
        raise ConfigError("several runs: say where to draw them, such as --out runs.png")
    out = args.out or runs[0] / PICTURE
    put_file(
        out, picture(out, [read_history(run) for run in runs], args.x, DARK if args.dark else LIGHT), "--out"
    )
    show(f"drawn: {out}")
    return 0
