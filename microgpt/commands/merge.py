"""Make a whole model of adapters and the model that they lie beside.

microgpt merge mine-sft --out-dir runs/mine     a run like any other: chat, sample, eval, train --from
"""

from collections.abc import Sequence
from pathlib import Path

from microgpt.common.flags import Parser
from microgpt.common.output import show
from microgpt.common.words import command_line
from microgpt.tuning.merge import merge


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt merge", description=__doc__)
    flags.add_argument("run", metavar="RUN", help="the run of the adapters, or a checkpoint of it")
    flags.add_argument("--out-dir", type=Path, required=True, metavar="DIR", help="directory of the new run")
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = parser().parse_args(argv)
    checkpoint = merge(args.run, args.out_dir)
    show(f"merged   {checkpoint}", f"next     {command_line('chat', args.out_dir)}")
    return 0
