"""Turn text and chats into token files, ready for training.

  microgpt prepare chats.jsonl books/ --out-dir data/mine      read, train a tokenizer, encode
  microgpt prepare more.jsonl --tokenizer runs/x               with the tokenizer of a run
  microgpt train --data data/mine

Plain text, JSONL and JSON chats, DailyDialog and parquet are known by their content, .csv and .tsv tables by
their names; all but parquet may be packed as .gz or .zst.  `<|endoftext|>` in plain text ends a document.
Messages whose `weight` is 0 are left out, all others count alike.  `microgpt train --data` does the same by
itself; this shows what is in a corpus before the training.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from microgpt.batches.packing import StreamWindows
from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser, add_settings, given, whole
from microgpt.common.output import escaped, json_line
from microgpt.common.words import command_line, counted
from microgpt.corpus.prepared.corpus import SMALLTALK
from microgpt.corpus.prepared.folder import SIDES, Prepared, refuse_settled
from microgpt.corpus.prepared.make import held_out_too, prepare
from microgpt.corpus.prepared.split import HeldOutWanted, add_held_out_flags, few_note, held_out_wanted
from microgpt.corpus.reading.options import ReadOptions, Skipped
from microgpt.corpus.token_file import counts
from microgpt.evaluation.probes_of_data import sizes
from microgpt.machine.cpus import add_threads_flag, wanted_threads
from microgpt.runs.kept import tokenizer_named
from microgpt.tokenizer import MAX_MERGES, MERGES, Tokenizer

TITLES = dict(zip(SIDES.values(), ("training", "held out"), strict=True))


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt prepare", description=__doc__)
    flags.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="files or folders of text or chats; smalltalk: the embedded corpus",
    )
    flags.add_argument(
        "--out-dir",
        type=Path,
        metavar="DIR",
        help="where the token files go [default data/prepared/<hash of the content>]",
    )
    flags.add_argument(
        "--overwrite",
        action="store_true",
        help="replace another corpus that was prepared in --out-dir; runs trained on that one then miss it",
    )
    flags.add_argument(
        "--tokenizer",
        metavar="FILE",
        help="use this tokenizer.json, or that of a run, a checkpoint or a prepared corpus: "
        "one that microgpt or `microgpt tokenizer` made, or another of that very form "
        "(byte-level BPE, GPT-2's pattern, ids in the order of bytes, merges, specials) "
        "[default train a new one]",
    )
    flags.add_argument(
        "--merges",
        type=whole(0, MAX_MERGES),
        metavar="MERGES",
        help=f"pairs that a new tokenizer merges beyond the 256 bytes [default {MERGES}]",
    )
    flags.add_argument(
        "--single-digits",
        action="store_true",
        help="make every digit a token of its own: numbers are then learned by their digits",
    )
    flags.add_argument(
        "--seq-len",
        type=whole(1),
        default=256,
        metavar="TOKENS",
        help="window to count with; the files serve every window [default 256]",
    )
    add_settings(flags, ReadOptions)
    add_held_out_flags(flags)
    add_threads_flag(flags)
    flags.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = parser().parse_args(argv)
    started = time.monotonic()
    settings = [name for name in ("out_dir", "merges", "single_digits", "overwrite") if getattr(args, name)]
    refuse_settled(args.files, [*settings, *given(args, ReadOptions), *given(args, HeldOutWanted)])
    if args.overwrite and not args.out_dir:
        raise ConfigError("--overwrite is for --out-dir; without it nothing is ever replaced")
    prepared = prepare(
        args.files,
        merges=MERGES if args.merges is None else args.merges,
        single_digits=args.single_digits,
        tokenizer=given_tokenizer(args),
        options=ReadOptions(**given(args, ReadOptions)),
        wanted=held_out_wanted(args),
        out_dir=args.out_dir,
        overwrite=args.overwrite,
        threads=wanted_threads(args.threads),
        tell_skipped=False,  # the facts hold it
    )
    if args.json:
        print(json_line(facts(prepared, args.seq_len)))
    else:
        print(*map(escaped, lines(prepared, args.seq_len, time.monotonic() - started)), sep="\n")
    return 0


def given_tokenizer(args: argparse.Namespace) -> Tokenizer | None:
    """The tokenizer that --tokenizer names."""
    if args.tokenizer is None:
        return None
    for flag, wanted in {"--merges": args.merges is not None, "--single-digits": args.single_digits}.items():
        if wanted:
            raise ConfigError(f"{flag} is for a new tokenizer, --tokenizer names one; give one of the two")
    return tokenizer_named(args.tokenizer)


def facts(prepared: Prepared, seq_len: int) -> dict[str, Any]:
    """What there is, for programs."""
    return {
        "directory": str(prepared.directory),
        "tokenizer": prepared.tokenizer.sha256,
        "vocab_size": prepared.tokenizer.vocab_size,
        "seq_len": seq_len,
        "files": files_read(prepared),
        "skipped": prepared.meta["skipped"],
        "left_out": prepared.meta.get("left_out", {}) | Skipped(**prepared.meta["skipped"]).parts,
        **{
            side: counts(file) | {"windows": StreamWindows(file, seq_len).n_windows}
            for side, file in prepared.sides.items()
        },
    }


def lines(prepared: Prepared, seq_len: int, elapsed_s: float) -> list[str]:
    """What there is, for people."""
    found = facts(prepared, seq_len)
    windows = f"windows of {seq_len}"
    table = [f"{'':9}{'documents':>12}{'bytes':>16}{'tokens':>15}{'bytes/token':>13}{windows:>17}"]
    for side in SIDES.values():
        row = found[side]
        table.append(
            f"{TITLES[side]:9}{row['documents']:12,}{row['bytes']:16,}{row['tokens']:15,}"
            f"{row['bytes_per_token']:13.2f}{row['windows']:17,}"
        )
    skipped, n_copies = Skipped(**found["skipped"]), prepared.meta.get("held_out_copies", 0)
    first = f"; the first: {skipped.examples[0]}" if skipped.examples else ""
    read = [counted(found["files"], "file")] if found["files"] else []
    read += ["the embedded corpus"] if SMALLTALK in prepared.meta["sources"] else []
    next_step = command_line("train", "--data", prepared.directory)
    return [
        *table,
        f"tokenizer {found['vocab_size']:,} ids, {len(prepared.tokenizer.merges):,} of them merges",
        f"read      {' and '.join(read)}",
        f"skipped   {skipped}{first}",
        *(f"left out  {what}: {n:,}" for what, n in found["left_out"].items()),
        *([f"left out  {held_out_too(n_copies)}"] if n_copies else []),
        *(f"warning   {text}" for text in warnings(prepared)),
        f"ready in {elapsed_s:.1f} s; next: {next_step}",
    ]


def warnings(prepared: Prepared) -> list[str]:
    """What makes numbers on the held-out part worth little, for people."""
    found = sizes(prepared.train, prepared.val)
    exchanged = [f"more is held out than trained on; look at {found.look}"] if found.is_good is False else []
    return exchanged + [note for note in (prepared.share_note, few_note(prepared.val.n_documents)) if note]


def files_read(prepared: Prepared) -> int:
    """How many files a corpus was made of; one of an earlier version names them only."""
    sources = prepared.meta["sources"]
    return int(prepared.meta.get("files_read", sum(name != SMALLTALK for name in sources)))
