"""The tokenizer alone, on files.

microgpt tokenizer train FILE... --merges 4000 --out tokenizer.json      each file is one document
microgpt tokenizer encode FILE --tokenizer tokenizer.json                prints ids
microgpt tokenizer decode FILE --tokenizer tokenizer.json                prints the text of printed ids
microgpt tokenizer show [--tokenizer tokenizer.json] [--text TEXT]       prints what is in it

`microgpt tokenizer` also accepts the name of a run after --tokenizer; `python -m tokenizer` does not.
"""

import argparse
import difflib
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, NoReturn

from tqdm import tqdm

from microgpt.tokenizer import MERGES, SPECIALS, Tokenizer, TokenizerError, read_pieces, train
from microgpt.tokenizer.file_format import place_of
from microgpt.tokenizer.pieces import MAX_THREADS

LONGEST = 500  # characters of a line that tells of a mistake
NAMED = "the tokenizer: a file; `microgpt tokenizer` also accepts the name of a run"
PACKED = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}


def main(arguments: Sequence[str] | None = None, load: Callable[[str], Tokenizer] = Tokenizer.load) -> int:
    """Run one command; a mistake of the user ends in one line and exit code 2.

    load: makes a tokenizer of what --tokenizer names.
    """
    args = parser().parse_args(arguments)
    args.load = load
    try:
        _open_output()
        args.command(args)
        sys.stdout.flush()
    except TokenizerError as error:
        _tell(f"error: {error}")
        return 2
    except MemoryError:
        _tell(f"error: out of memory; {args.less}")
        return 2
    except KeyboardInterrupt:
        _tell("stopped")
        return 130
    except OSError as error:  # files have errors of their own above
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # `... | head`
            _tell(f"error: standard output: {error.strerror}")
            return 2
    return 0


def _open_output() -> None:
    """Have standard output escape what it cannot hold, such as a letter in ASCII, as standard error does."""
    if sys.stdout is None:
        raise TokenizerError("standard output is closed")
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _tell(text: str) -> None:
    """A line for a person."""
    if sys.stderr is not None:
        print(_printable(text), file=sys.stderr)


def _printable(text: str) -> str:
    """Text that may hold any name, in one line that cannot control a terminal; cut if it is long."""
    text = text if len(text) <= LONGEST else f"{text[: LONGEST - 110]} ... {text[-90:]}"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line, which tell what may have been meant."""

    commands: Any  # below it

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does."""
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            known = [
                flag for command in self.commands.choices.values() for flag in command._option_string_actions
            ]
            self.error(f"unrecognized arguments: {' '.join(unknown)}{_meant(unknown[0], known)}")
        return found

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            meant = _meant(str(value), action.choices or ())
            raise argparse.ArgumentError(action, f"{error.message}{meant}") from None

    def error(self, message: str) -> NoReturn:
        """End with what was wrong."""
        _tell(f"error: {message} (--help lists the flags)")
        self.exit(2)


def _meant(word: str, known: Iterable[str]) -> str:
    """The known word that is most like one that is not known, if any is."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def parser() -> Parser:
    """All commands and flags."""
    formatter = argparse.ArgumentDefaultsHelpFormatter
    parser = Parser("microgpt tokenizer", description="Byte-level BPE on files.")
    commands = parser.commands = parser.add_subparsers(required=True, metavar="train|encode|decode|show")

    p = commands.add_parser("train", help="learn merges from text files", formatter_class=formatter)
    p.set_defaults(command=_train, less="learn from less text, or with fewer --threads")
    p.add_argument("files", nargs="+", metavar="FILE", help="text, each file one document")
    p.add_argument("--merges", type=int, default=MERGES, help="how many merges to learn")
    p.add_argument("--single-digits", action="store_true", help="make every digit a token of its own")
    p.add_argument("--out", default="tokenizer.json", metavar="FILE", help="where to write")
    p.add_argument("--tiktoken", metavar="FILE", help="write a rank file for tiktoken as well")
    p.add_argument("--specials", nargs="*", default=list(SPECIALS), metavar="NAME", help="special tokens")
    p.add_argument(
        "--threads",
        type=int,
        default=min(os.cpu_count() or 1, MAX_THREADS),
        help="threads that read and count",
    )

    for command, text, what in ((_encode, "text to ids", "text"), (_decode, "ids to text", "ids")):
        p = commands.add_parser(command.__name__[1:], help=text, formatter_class=formatter)
        p.set_defaults(command=command, less="divide the file, or name it rather than standard input")
        p.add_argument("file", nargs="?", default="-", metavar="FILE", help=f"{what}; - for standard input")
        p.add_argument("--tokenizer", default="tokenizer.json", metavar="FILE", help=NAMED)

    p = commands.add_parser("show", help="list the tokens, or cut a text", formatter_class=formatter)
    p.set_defaults(command=_show, less="take a shorter --text or a smaller tokenizer")
    p.add_argument("--tokenizer", default="tokenizer.json", metavar="FILE", help=NAMED)
    p.add_argument("--text", help="show how this text is cut, rather than all tokens")
    return parser


def _train(args: argparse.Namespace) -> None:
    """Learn, save, and say what came out."""
    _refuse_places(args)
    documents = (piece for path in args.files for piece in _text_pieces(path))
    with Bars() as bars:
        tokenizer = train(documents, args.merges, args.specials, args.threads, bars.show, args.single_digits)
    tokenizer.save(args.out)
    if args.tiktoken:
        tokenizer.save_tiktoken(args.tiktoken)
    print(_printable(f"{args.out}: {_summary(tokenizer)}"))
    if len(tokenizer.merges) < args.merges:
        _tell(f"{args.merges} merges were asked for; the text holds no more pairs")


def _refuse_places(args: argparse.Namespace) -> None:
    """What is written must not take the place of a text, of no file, or of the other that is written."""
    taken = {os.path.realpath(path): f"{path} is a text to learn from" for path in args.files}
    for flag, path in (("--out", args.out), ("--tiktoken", args.tiktoken)):
        if path is None:
            continue
        place = str(place_of(path)[0])
        if place in taken:
            raise TokenizerError(f"{flag} {path}: {taken[place]}; name another file")
        taken[place] = f"{flag} {path} is written there"


def _text_pieces(path: str) -> Iterator[bytes]:
    """The pieces of a file, counted as the file would be (pieces.py), if it can be text."""
    found = read_pieces(path)
    first = next(found, b"")
    if not first:
        raise TokenizerError(f"{path}: this file is empty; name a file with text")
    packed = next((name for name, magic in PACKED.items() if first.startswith(magic)), None)
    if packed:
        raise TokenizerError(f"{path}: packed with {packed}; unpack it, or let `microgpt prepare` read it")
    if b"\0" in first:
        _tell(f"warning: {path}: this looks like no text; it is learnt from byte by byte")
    yield first
    yield from found


class Bars(ExitStack):
    """A progress bar for each stage of training, on a terminal only."""

    def __init__(self) -> None:
        super().__init__()
        self.stages: dict[str, tqdm] = {}

    def show(self, stage: str, done: int, total: int | None) -> None:
        """Draw how far a stage has come; the `Progress` of `train`."""
        if stage not in self.stages:
            unit = "B" if stage == "count" else " merges"
            hidden = None if sys.stderr else True  # None: if it is no terminal
            bar = tqdm(desc=stage, total=total, unit=unit, unit_scale=stage == "count", disable=hidden)
            self.stages[stage] = self.enter_context(bar)
        self.stages[stage].update(done - self.stages[stage].n)


def _summary(tokenizer: Tokenizer) -> str:
    """What is in a tokenizer, in a line."""
    return (
        f"vocabulary {tokenizer.vocab_size}: 256 bytes, {len(tokenizer.merges)} merges, "
        f"{len(tokenizer.specials)} specials; sha256 {tokenizer.sha256}"
    )


def _read(path: str) -> Iterator[bytes]:
    """The pieces of a file, or standard input whole."""
    if path == "-":
        if sys.stdin is None:
            raise TokenizerError("standard input is closed; name a file")
        try:
            yield sys.stdin.buffer.read()
        except OSError as error:
            raise TokenizerError(f"standard input: {error.strerror}; name a file") from error
    else:
        yield from read_pieces(path)


def _encode(args: argparse.Namespace) -> None:
    """Print the ids of a text, a line per piece."""
    tokenizer = args.load(args.tokenizer)
    for ids in tokenizer.encode_each(_read(args.file)):
        print(" ".join(map(str, ids.tolist())))  # one write a piece, also where nothing is buffered


def _decode(args: argparse.Namespace) -> None:
    """Print the text of ids."""
    tokenizer = args.load(args.tokenizer)
    for piece in _read(args.file):
        ids = [_id(word, args.file) for word in piece.split()]
        sys.stdout.buffer.write(tokenizer.decode(ids, show_specials=True))


def _id(word: bytes, path: str) -> int:
    try:
        return int(word)
    except ValueError:
        got = word[:40].decode("utf-8", "replace")
        raise TokenizerError(f"{path}: expected ids, numbers between spaces; got {got!r}") from None


def _show(args: argparse.Namespace) -> None:
    """Print all tokens, or those of one text."""
    tokenizer = args.load(args.tokenizer)
    print(_summary(tokenizer))
    ids = range(tokenizer.vocab_size) if args.text is None else tokenizer.encode(args.text).tolist()
    names = [repr(word)[1:] for word in tokenizer.token_bytes]
    names[256 + len(tokenizer.merges) :] = tokenizer.specials
    made = dict(enumerate((f"= {names[a]} + {names[b]}" for a, b in tokenizer.merges), 256))
    for i in ids:
        print(f"{i:7d}  {names[i]:24} {made.get(i, '')}".rstrip())


if __name__ == "__main__":
    sys.exit(main())
