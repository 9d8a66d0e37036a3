"""From a named corpus to token files, done once: the result is kept under the hash of what went into it.

    DATA/prepared/<hash>/   the files of prepared.py

DATA is the folder `data`, or what MICROGPT_DATA_DIR says.  The hash covers the bytes of the corpus, the way
it is read and the tokenizer, so an unchanged corpus starts at once and a changed one is prepared anew.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from microgpt.common.bars import progress_bar
from microgpt.common.errors import DataError
from microgpt.common.output import tell
from microgpt.tokenizer import MERGES, Tokenizer, train
from microgpt.tokenizer.pieces import map_threads

from .cache import make_folder
from .chat import Document, Packed, n_characters, render_packed
from .corpora import SMALLTALK_BYTES, Corpus, Sources, source_names
from .folders import OTHER
from .prepared import (
    FILES,
    META,
    READING,
    SIDES,
    TOKENIZER,
    Prepared,
    description,
    find_held_out,
    find_prepared,
    is_made_here,
    is_prepared,
    open_prepared,
    tokens_path,
)
from .reading import ReadOptions, Skipped
from .sources import Progress
from .split import DEFAULT, EVERYTHING, Split, Survey
from .token_file import TokenFile, TokenFileWriter, counts

FORMAT = 2  # part of the hash: raise it when the same corpus would be prepared differently
_CHUNK_CHARACTERS = 1 << 20
_ENDS = 8  # so many ends of names are told


def data_dir() -> Path:
    """Where prepared corpora and downloads live: MICROGPT_DATA_DIR, else `data` in the current folder."""
    return Path(os.environ.get("MICROGPT_DATA_DIR") or "data")


def prepare(
    sources: Sources,
    *,
    merges: int = MERGES,
    tokenizer: Tokenizer | None = None,
    options: ReadOptions | None = None,
    smalltalk_bytes: int = SMALLTALK_BYTES,
    root: str | os.PathLike | None = None,
    out_dir: str | os.PathLike | None = None,
    threads: int = 1,
    show_progress: bool = True,
    tell_skipped: bool = True,
) -> Prepared:
    """Read, split, tokenize and write a corpus, or find it done already.

    Args:     sources: files, folders, "smalltalk", or several of them; or one folder made by this function,
                  which is taken as it is.
              merges: size of the tokenizer to train on the training side, unless `tokenizer` is given.
              root: the folder of all prepared corpora (default DATA/prepared).
              out_dir: this very folder instead of one named by the hash.
              tell_skipped: say on stderr what is left out, for who does not read it in `meta`.
    Raises:   DataError: nothing to read, a bad line, nothing that could be held out, no room to write.
    """
    names, bars = source_names(sources), _Bars(show_progress, tell_skipped)
    if ready := _made_before(names, tokenizer):
        bars.tell_skipped(ready.meta)
        return ready
    chosen_place = None if out_dir is None else _checked_place(out_dir)
    corpus = Corpus(names, options, smalltalk_bytes)
    bars.tell_files(corpus)
    key = _key(corpus, f"merges {merges}" if tokenizer is None else tokenizer.sha256, bars)
    directory = chosen_place or _kept_place(key, root)

    def fill(folder: Path) -> None:
        split, learned = (DEFAULT, tokenizer) if tokenizer else _learn(corpus, merges, threads, bars)
        while (chosen := _write(folder, corpus, split, learned, threads, bars, key)) != split:
            split = chosen  # the corpus is small: another part is held out

    elsewhere = "MICROGPT_DATA_DIR" if out_dir is None else "--out-dir"
    with corpus:
        ready = make_folder(directory, lambda: find_prepared(directory, key), fill, elsewhere)
    bars.tell_skipped(ready.meta)
    return replace(ready, meta=ready.meta | {"left_out": corpus.n_left_out})


def prepare_held_out(
    sources: Sources,
    tokenizer: Tokenizer,
    *,
    options: ReadOptions | None = None,
    smalltalk_bytes: int = SMALLTALK_BYTES,
    root: str | os.PathLike | None = None,
    threads: int = 1,
    show_progress: bool = True,
) -> TokenFile:
    """All documents of a corpus as one token file, to evaluate on; of smalltalk the held-out part.

    A prepared corpus gives its own held-out part.
    """
    names, bars = source_names(sources), _Bars(show_progress)
    if ready := _made_before(names, tokenizer):
        bars.tell_skipped(ready.meta)
        return ready.val
    corpus = Corpus(names, options, smalltalk_bytes)
    bars.tell_files(corpus)
    key = _key(corpus, f"held out {tokenizer.sha256}", bars)
    directory = _kept_place(key, root)

    def fill(folder: Path) -> None:
        _write(folder, corpus, EVERYTHING, tokenizer, threads, bars, key)

    tokens = make_folder(
        directory, lambda: find_held_out(directory, key, tokenizer), fill, "MICROGPT_DATA_DIR"
    )
    bars.tell_skipped(description(directory))
    return tokens


def _made_before(names: list[str | os.PathLike], tokenizer: Tokenizer | None) -> Prepared | None:
    """The prepared corpus whose folder is the only source, or None.

    Raises:   DataError: it is damaged, of another tokenizer, or named beside other sources.
    """
    folders = [Path(name) for name in names if is_prepared(Path(name))]
    if not folders:
        return None
    if len(names) > 1:
        raise DataError(f"{folders[0]}: a prepared corpus stands alone; name the files it was made of")
    ready = open_prepared(folders[0])
    if tokenizer and tokenizer.sha256 != ready.tokenizer.sha256:
        raise DataError(f"{folders[0]}: made with another tokenizer; name the files it was made of instead")
    return ready


class _Bars:
    """What stderr shows: progress bars for passes over a corpus, and what the passes left out."""

    def __init__(self, show: bool, tell_skipped: bool = True):
        self._show, self._tells_skipped = show, show and tell_skipped

    @contextmanager
    def over(self, corpus: Corpus, title: str) -> Iterator[Progress]:
        """A bar for one pass."""
        with progress_bar(title, corpus.size, "B", self._show) as bar:
            yield bar.update

    @contextmanager
    def merging(self) -> Iterator[Callable[[str, int, int | None], None]]:
        """A bar for the tokenizer's merges, in the form in which it reports them, from the first one on."""
        with ExitStack() as stack:
            bar: tqdm | None = None

            def show(stage: str, done: int, total: int | None) -> None:
                nonlocal bar
                if stage == "merge" and total:
                    if bar is None:
                        bar = stack.enter_context(progress_bar("merging", total, "pairs", self._show))
                    bar.update(done - bar.n)

            yield show

    def tell_skipped(self, meta: dict[str, Any]) -> None:
        """Say how much of its sources a prepared corpus lacks, whenever it is used."""
        skipped = Skipped(**meta["skipped"])
        if skipped.examples and self._tells_skipped:
            tell(f"{skipped} left out: {skipped.examples[0]}")
        if skipped.parts and self._tells_skipped:
            tell("left out: " + ", ".join(f"{what}: {n:,}" for what, n in skipped.parts.items()))

    def tell_files(self, corpus: Corpus) -> None:
        """Say which files are left out, and why."""
        named = {f"{why}, left out of a folder": files for why, files in corpus.left_out.items()}
        for why, files in ({"named twice, read once": corpus.repeated} | named).items():
            if files and self._show:
                more = f" and {len(files) - 1:,} more" if len(files) > 1 else ""
                tell(f"{why}: {files[0]}{more}")
        ends = sorted({file.suffix for file in corpus.left_out.get(OTHER, []) if file.suffix})
        if ends and self._show:
            tell(f"--suffix takes such files, too; their ends: {' '.join(ends[:_ENDS])}")


def _key(corpus: Corpus, tokenizer: str, bars: _Bars) -> str:
    with bars.over(corpus, "hashing") as progress:
        content = corpus.digest(progress)
    return hashlib.sha256(f"{FORMAT} {content} {tokenizer}".encode()).hexdigest()


def _kept_place(key: str, root: str | os.PathLike | None) -> Path:
    return (Path(root) if root is not None else data_dir() / "prepared") / key[:16]


def _checked_place(out_dir: str | os.PathLike) -> Path:
    """The folder of one's own choice.

    Raises:   DataError: what is there is not ours to replace, or nothing can be written there.
    """
    directory = Path(os.path.realpath(out_dir))
    if directory.exists() and not _is_ours(directory):
        raise DataError(f"{directory}: this place holds other files; name a new or empty folder")
    above = next((folder for folder in directory.parents if folder.exists()), directory)
    if directory == Path.cwd() or os.path.ismount(directory):
        raise DataError(f"{directory}: this folder cannot be replaced by another; name a new one")
    try:
        tempfile.TemporaryDirectory(dir=above).cleanup()
    except OSError as error:
        raise DataError(f"{directory}: cannot write there ({error.strerror}); name another folder") from error
    return directory


def _is_ours(directory: Path) -> bool:
    """Whether a folder is empty or holds nothing but a prepared corpus, sound or damaged."""
    held = set(os.listdir(directory)) if directory.is_dir() else {directory.name}
    return not held or (held <= FILES and is_made_here(directory))


def _learn(corpus: Corpus, merges: int, threads: int, bars: _Bars) -> tuple[Split, Tokenizer]:
    """Choose the split and train a tokenizer on the training side, in one pass unless the corpus is small."""
    split = DEFAULT
    while True:
        survey = Survey()
        with bars.over(corpus, "counting words") as progress, bars.merging() as merged:
            training = corpus.training_texts(split, survey, progress)
            learned = train(training, n_merges=merges, threads=threads, progress=merged)
        chosen = survey.choose() if corpus.files else split
        if chosen == split:
            return split, learned
        split = chosen


def _write(
    folder: Path,
    corpus: Corpus,
    split: Split,
    tokenizer: Tokenizer,
    threads: int,
    bars: _Bars,
    key: str,
) -> Split:
    """Encode every document into its side's token file; meta.json goes last.

    Returns:  the split that suits the corpus.  If it is another one, what was written is of no use.
    """
    tokenizer.save(folder / TOKENIZER)
    skipped, survey = Skipped(), Survey()
    wanted = [True] if split == EVERYTHING else [False, True]
    with ExitStack() as stack, bars.over(corpus, "encoding") as progress:
        writers = {
            side: stack.enter_context(TokenFileWriter(tokens_path(folder, side), tokenizer))
            for side in wanted
        }
        chunks = _chunks(corpus.sides(split, survey, skipped, progress))
        for encoded in map_threads(partial(_encode, tokenizer=tokenizer), chunks, threads):
            for side, packed in encoded.items():
                writers[side].add(packed)
        corpus.check_unchanged()
    if corpus.files and split != EVERYTHING and (chosen := survey.choose()) != split:
        return chosen
    meta = {
        "key": key, "merges": len(tokenizer.merges), "split": vars(split), "sources": corpus.names,
        "tokenizer": tokenizer.sha256, "skipped": vars(skipped), "files_read": corpus.n_read(skipped),
        "left_out": corpus.n_left_out, "reading": READING,
    }  # fmt: skip
    meta |= {SIDES[side]: _counts(writer) for side, writer in writers.items()}
    (folder / META).write_text(json.dumps(meta, indent=1) + "\n", "ascii")
    return split


def _counts(writer: TokenFileWriter) -> dict[str, int | float]:
    if not writer.n_documents:
        raise DataError("one side of the corpus has no document; give more text")
    return counts(writer)


Chunk = dict[bool, list[Document]]  # documents in order, those held out under True


def _encode(chunk: Chunk, tokenizer: Tokenizer) -> dict[bool, Packed]:
    return {side: render_packed(documents, tokenizer) for side, documents in chunk.items()}


def _chunks(sides: Iterator[tuple[bool, Document]]) -> Iterator[Chunk]:
    """Documents in groups of about _CHUNK_CHARACTERS: a task for a thread, and room that it keeps."""
    chunk: Chunk = {}
    size = 0
    for held_out, document in sides:
        chunk.setdefault(held_out, []).append(document)
        size += n_characters(document) + 1
        if size >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, size = {}, 0
    if chunk:
        yield chunk
