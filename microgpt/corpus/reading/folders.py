"""Which files a corpus is read from: those named, and those of text in the folders named.

A folder gives what has a name of text, its own folders and linked ones included.  What microgpt made there
(runs, checkpoints, prepared corpora, tokenizers) is never text: a corpus named `.` stays what it was when a
run has been trained on it.
"""

import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import NoReturn

from microgpt.common.errors import DataError
from microgpt.corpus.token_file import has_magic

from .files import META, TOKEN_FILES, NoTextError, head_of, unpacked_name

BadFile = Callable[[NoTextError], object]  # called with what is wrong with a file that is then passed over
LeftOutFile = Callable[[str, Path], object]  # called with why something in a folder is left out, and its path

TEXT_SUFFIXES = (".txt", ".text", ".json", ".jsonl", ".ndjson", ".parquet")  # what is taken out of a folder
OTHER = "no text by its name"
MADE_HERE = "made by microgpt"

_CHECKPOINT = re.compile(r"step_\d{8,}")
_MODEL = {"model.safetensors", "config.json"}
_OWN_JSON = {  # how the start of a file of this name looks; any other such file is a corpus
    META: re.compile(rb'\s*\{\s*"key":.*"sources":', re.DOTALL),
    "metrics.jsonl": re.compile(rb'\{"event": "\w+", "step": |$'),
}
_PREPARED = {META, "tokenizer.json", *TOKEN_FILES}
_TOKENIZER = re.compile(rb'\s*\{\s*"version":\s*"1\.0",.*"added_tokens":\s*\[', re.DOTALL)


def find_files(
    paths: Iterable[str | os.PathLike],
    bad_file: BadFile,
    left_out: LeftOutFile = lambda why, path: None,
    suffixes: Collection[str] = (),
) -> list[Path]:
    """The files that `paths` name: files as given, folders opened and sorted.

    Args:     bad_file: hears of each file that is empty or, in a folder, no file at all; it may go on.
              left_out: hears of each file or folder in a folder that is left out, hidden ones excepted.
              suffixes: ends of names that are text in folders, beside TEXT_SUFFIXES.
    Raises:   DataError: a path is missing, not a file or folder, or a folder without any text file.
    """
    files: list[Path] = []
    wanted = (*TEXT_SUFFIXES, *suffixes)
    for path in map(Path, paths):
        is_folder = os.path.isdir(path)
        found = list(_in_folder(path, wanted, left_out)) if is_folder else [path]
        if not found:
            names = " ".join(wanted)
            raise DataError(
                f"{path}: no corpus file in this folder; expected names in {names} (.gz, .zst); "
                "--suffix adds others"
            )
        if not is_folder:
            _check_regular(path)
        files += found
    if not files:
        raise DataError("no corpus given; name at least one file or folder")
    return [file for file in files if _is_readable(file, bad_file)]


def each_once(files: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """The files without those that were there before, by this or another name; and those."""
    seen: set[str] = set()
    once: list[Path] = []
    repeated: list[Path] = []
    for file in files:
        place = os.path.realpath(file)
        (repeated if place in seen else once).append(file)
        seen.add(place)
    return once, repeated


def _in_folder(folder: Path, suffixes: tuple[str, ...], left_out: LeftOutFile) -> Iterator[Path]:
    real = Path(os.path.realpath(folder))
    entered = {str(real), *map(str, real.parents)}  # a link back to one of them would never end
    for root, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        if _is_checkpoint(root, names):
            left_out(MADE_HERE, Path(root))
            folders[:] = []
            continue
        folders[:] = list(_to_enter(root, folders, entered))
        is_prepared = any(has_magic(Path(root, name)) for name in TOKEN_FILES if name in names)
        for path in (Path(root, name) for name in sorted(names) if not name.startswith(".")):
            if (is_prepared and path.name in _PREPARED) or _is_made_here(path):
                left_out(MADE_HERE, path)
            elif unpacked_name(path.name).endswith(suffixes):
                yield path
            else:
                left_out(OTHER, path)


def _to_enter(root: str, folders: Iterable[str], entered: set[str]) -> Iterator[str]:
    """The folders in one, without hidden ones and those that another name has led into."""
    for name in sorted(folders):
        place = os.path.realpath(os.path.join(root, name))
        if not name.startswith(".") and place not in entered:
            entered.add(place)
            yield name


def _is_checkpoint(folder: str, names: Collection[str]) -> bool:
    is_named = _CHECKPOINT.fullmatch(os.path.basename(os.path.realpath(folder)))
    return _MODEL.issubset(names) or (bool(is_named) and "manifest.json" in names)


def _is_made_here(path: Path) -> bool:
    """Whether a file is the log of a run, a tokenizer or of a prepared corpus, which its start tells."""
    start = _OWN_JSON.get(path.name) or (_TOKENIZER if path.suffix == ".json" else None)
    return start is not None and os.path.isfile(path) and bool(start.match(head_of(path)))


def _refuse(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename}: cannot read this folder ({error.strerror}); check its rights")


def _is_readable(path: Path, bad_file: BadFile) -> bool:
    try:
        if _check_regular(path) == 0:
            raise NoTextError(f"{path}: this corpus file is empty; give a file with text")
    except NoTextError as error:
        bad_file(error)
        return False
    return True


def _check_regular(path: Path) -> int:
    """The length of a file.

    Raises:   NoTextError: it is missing, or not a regular file.
    """
    try:
        info = path.stat()
    except (OSError, ValueError) as error:  # ValueError: such as a null byte
        reason = error.strerror if isinstance(error, OSError) else "no file can have this name"
        raise NoTextError(f"{path}: cannot read this corpus file ({reason}); check the path") from error
    if not stat.S_ISREG(info.st_mode):
        raise NoTextError(f"{path}: not a regular file; a corpus is read more than once, so save it first")
    return info.st_size
