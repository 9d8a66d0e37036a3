"""From a named corpus to token files, done once: the result is kept under the hash of what went into it.

    DATA/prepared/<hash>/   the files of folder.py

DATA is the folder `data`, or what MICROGPT_DATA_DIR says.  The hash covers the bytes of the corpus, the way
it is read and the tokenizer, so an unchanged corpus starts at once and a changed one is prepared anew.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from microgpt.common.bars import progress_bar
from microgpt.common.errors import DataError
from microgpt.common.output import tell
from microgpt.common.words import counted
from microgpt.corpus.chat import Document, Packed, n_characters, render_packed
from microgpt.corpus.reading.files import Progress
from microgpt.corpus.reading.folders import OTHER
from microgpt.corpus.reading.options import ReadOptions, Skipped
from microgpt.corpus.token_file import TokenFile, TokenFileWriter, counts
from microgpt.files.folder import make_folder
from microgpt.tokenizer import MERGES, Tokenizer, train
from microgpt.tokenizer.pieces import map_threads

from .corpus import SMALLTALK_BYTES, Corpus, Sources, source_names
from .folder import (
    FILES,
    META,
    READING,
    SIDES,
    TOKENIZER,
    Known,
    Prepared,
    description,
    find_held_out,
    find_prepared,
    is_made_here,
    is_prepared,
    made_of,
    open_prepared,
    read_meta,
    tokens_path,
)
from .split import EVERYTHING, HeldOutWanted, Split

FORMAT = 3  # part of the hash: raise it when the same corpus would be prepared differently
EARLIER = 2  # where less of a small corpus is held out: a run keeps what was prepared so for it
_CHUNK_CHARACTERS = 1 << 20
LARGE_BYTES = 4_000_000  # of a corpus: preparing it takes a while
_ENDS = 8  # so many ends of names are told


def data_dir() -> Path:
    """Where prepared corpora and downloads live: MICROGPT_DATA_DIR, else `data` in the current folder."""
    return Path(os.environ.get("MICROGPT_DATA_DIR") or "data")


def prepare(
    sources: Sources,
    *,
    merges: int = MERGES,
    single_digits: bool = False,
    tokenizer: Tokenizer | None = None,
    options: ReadOptions | None = None,
    smalltalk_bytes: int = SMALLTALK_BYTES,
    wanted: HeldOutWanted | None = None,
    known: Known | None = None,
    root: str | os.PathLike | None = None,
    out_dir: str | os.PathLike | None = None,
    overwrite: bool = False,
    threads: int = 1,
    show_progress: bool = True,
    tell_skipped: bool = True,
) -> Prepared:
    """Read, split, tokenize and write a corpus, or find it done already.

    Args:     sources: files, folders, "smalltalk", or several of them; or one folder made by this function,
                  which is taken as it is.
              merges: size of the tokenizer to train on the training side, unless `tokenizer` is given.
              single_digits: that tokenizer makes every digit a token of its own.
              wanted: which part is held out, if not the one that the rule of `split` chooses.
              known: what a run remembers of its corpus: if this is it, by its content, it gets the same key
                  and tokenizer again, in whichever way they were come by.
              root: the folder of all prepared corpora (default DATA/prepared).
              out_dir: this very folder instead of one named by the hash.
              overwrite: another corpus that was prepared in out_dir may be replaced.
              tell_skipped: say on stderr what is left out, for who does not read it in `meta`.
    Raises:   DataError: nothing to read, a bad line, nothing that could be held out, no room to write.
    """
    names, bars = source_names(sources), _Bars(show_progress, tell_skipped)
    if ready := _made_before(names, tokenizer):
        bars.tell_skipped(ready.meta)
        return ready
    chosen_place = None if out_dir is None else _checked_place(out_dir)
    corpus = Corpus(names, options, smalltalk_bytes, wanted)
    bars.tell_files(corpus)
    content = _content(corpus, bars)
    key = _key(content, _merges(merges, single_digits) if tokenizer is None else tokenizer.sha256)
    if known and known.key in _keys(content, merges, known.tokenizer):
        key, tokenizer = known
    elif known and (kept := _kept_from_before(content, merges, known, root)):
        bars.tell_skipped(kept.meta)
        return kept
    if tokenizer and out_dir is None and (same := _same_text(content, merges, tokenizer, root)):
        bars.tell_skipped(same.meta)
        return replace(same, meta=same.meta | {"key": key})
    learn = partial(train, n_merges=merges, threads=threads, single_digits=single_digits)
    directory = chosen_place or _kept_place(key, root)
    if chosen_place and not overwrite:
        _refuse_another(chosen_place, key)

    def fill(folder: Path) -> None:
        bars.tell_beginning(corpus)
        first = corpus.first_split
        split, learned = (first, tokenizer) if tokenizer else _learn(corpus, learn, bars)
        if not tokenizer:
            bars.tell_merges(len(learned.merges), merges)
        while (chosen := _write(folder, corpus, split, learned, threads, bars, key)) != split:
            split = chosen  # the corpus is small: another part is held out

    elsewhere = "MICROGPT_DATA_DIR" if out_dir is None else "--out-dir"
    with corpus:
        ready = make_folder(directory, lambda: find_prepared(directory, key, names), fill, elsewhere)
    bars.tell_skipped(ready.meta)
    return replace(ready, meta=ready.meta | {"left_out": corpus.n_left_out})


def find_kept(key: str, root: str | os.PathLike | None = None) -> Prepared | None:
    """The corpus of this key, if it was prepared before and is still kept; its sources need not be there."""
    with suppress(DataError):
        return find_prepared(_kept_place(key, root), key)
    return None


def find_same(
    sources: Sources,
    tokenizer: Tokenizer,
    *,
    merges: int = MERGES,
    single_digits: bool = False,
    options: ReadOptions | None = None,
    smalltalk_bytes: int = SMALLTALK_BYTES,
    wanted: HeldOutWanted | None = None,
) -> Prepared | None:
    """What was prepared of these sources with this tokenizer and is still kept; None: nothing.

    Raises: DataError: nothing to read.
    """
    names = source_names(sources)
    if ready := _made_before(names, None):
        return ready if ready.tokenizer.sha256 == tokenizer.sha256 else None
    content = _content(Corpus(names, options, smalltalk_bytes, wanted), _Bars(True))
    return _same_text(content, merges, tokenizer, None)


def is_known(
    sources: Sources,
    known: Known,
    *,
    merges: int = MERGES,
    single_digits: bool = False,
    options: ReadOptions | None = None,
    smalltalk_bytes: int = SMALLTALK_BYTES,
    wanted: HeldOutWanted | None = None,
) -> bool:
    """Whether sources are the corpus of a key by their content, whatever their names and places."""
    names = source_names(sources)
    if ready := _made_before(names, None):
        return ready.meta["key"] == known.key
    try:
        content = _content(Corpus(names, options, smalltalk_bytes, wanted), _Bars(True))
    except DataError:
        return False  # no corpus at all
    return any(known.key in _keys(content, merges, known.tokenizer, form) for form in (FORMAT, EARLIER))


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
    key = _key(_content(corpus, bars), f"held out {tokenizer.sha256}")
    directory = _kept_place(key, root)

    def fill(folder: Path) -> None:
        _write(folder, corpus, EVERYTHING, tokenizer, threads, bars, key)

    tokens = make_folder(
        directory, lambda: find_held_out(directory, key, tokenizer, names), fill, "MICROGPT_DATA_DIR"
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

    def tell_beginning(self, corpus: Corpus) -> None:
        """Say that what will take a while begins, for a log has no bars."""
        if self._show and corpus.size >= LARGE_BYTES:
            tell(f"preparing {corpus.size / 1e6:.0f} MB {made_of({'sources': corpus.names})} ...")

    def tell_merges(self, found: int, wanted: int) -> None:
        """Say when a text has fewer merges than are wanted."""
        if self._show and found < wanted:
            tell(f"the tokenizer has {found:,} merges, not {wanted:,}: the text holds no more pairs")

    def tell_skipped(self, meta: dict[str, Any]) -> None:
        """Say how much of its sources a prepared corpus lacks, whenever it is used."""
        skipped, n_copies = Skipped(**meta["skipped"]), meta.get("held_out_copies", 0)
        if skipped.examples and self._tells_skipped:
            tell(f"{skipped} left out: {skipped.examples[0]}")
        if skipped.parts and self._tells_skipped:
            tell("left out: " + ", ".join(f"{what}: {n:,}" for what, n in skipped.parts.items()))
        if n_copies and self._tells_skipped:
            tell(f"{held_out_too(n_copies)}")

    def tell_files(self, corpus: Corpus) -> None:
        """Say which files are left out, and why."""
        if corpus.apart:
            self.tell_files(corpus.apart)
        named = {f"{why}, left out of a folder": files for why, files in corpus.left_out.items()}
        for why, files in ({"named twice, read once": corpus.repeated} | named).items():
            if files and self._show:
                more = f" and {len(files) - 1:,} more" if len(files) > 1 else ""
                tell(f"{why}: {files[0]}{more}")
        ends = sorted({file.suffix for file in corpus.left_out.get(OTHER, []) if file.suffix})
        if ends and self._show:
            tell(f"--suffix takes such files, too; their ends: {' '.join(ends[:_ENDS])}")


def held_out_too(n_copies: int) -> str:
    """What became of copies of documents that --held-out names, for people."""
    return f"{counted(n_copies, 'document')} not trained on: held out, for --held-out has the same"


def _content(corpus: Corpus, bars: _Bars) -> str:
    with bars.over(corpus, "hashing") as progress:
        return corpus.digest(progress)


def _key(content: str, tokenizer: str, form: int = FORMAT) -> str:
    return hashlib.sha256(f"{form} {content} {tokenizer}".encode()).hexdigest()


def _kept_from_before(
    content: str, merges: int, known: Known, root: str | os.PathLike | None
) -> Prepared | None:
    """What an earlier version prepared of this content, if a run has it and it is still kept."""
    is_it = known.key in _keys(content, merges, known.tokenizer, EARLIER)
    return find_kept(known.key, root) if is_it else None


def _same_text(
    content: str, merges: int, tokenizer: Tokenizer, root: str | os.PathLike | None
) -> Prepared | None:
    """What is kept of this content with this very tokenizer, trained on it then and handed in now, as where a
    run replays the text of its parent."""
    kept = (find_kept(key, root) for key in _keys(content, merges, tokenizer))
    return next((one for one in kept if one and one.tokenizer.sha256 == tokenizer.sha256), None)


def _keys(content: str, merges: int, tokenizer: Tokenizer, form: int = FORMAT) -> list[str]:
    """Every key that a corpus of this content can have got together with this tokenizer.

    It was trained on the corpus, with the merges asked for now or, of a prepared folder, those it has, with
    single digits or without; or it was handed in.
    """
    sizes = (merges, len(tokenizer.merges))
    ways = [*(_merges(size, single) for size in sizes for single in (False, True)), tokenizer.sha256]
    return [_key(content, way, form) for way in ways]


def _merges(merges: int, single_digits: bool) -> str:
    return f"merges {merges}" + ", single digits" * single_digits


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


def _refuse_another(directory: Path, key: str) -> None:
    """Refuse to replace a prepared corpus by another one; a damaged one is of no use to anybody."""
    meta = read_meta(directory)
    if meta and meta["key"] != key:
        raise DataError(
            f"{directory}: another corpus was prepared there, {made_of(meta)}, and runs may need it; "
            "name another --out-dir, or replace it with --overwrite"
        )


def _is_ours(directory: Path) -> bool:
    """Whether a folder is empty or holds nothing but a prepared corpus, sound or damaged."""
    held = set(os.listdir(directory)) if directory.is_dir() else {directory.name}
    return not held or (held <= FILES and is_made_here(directory))


def _learn(corpus: Corpus, learn: Callable[..., Tokenizer], bars: _Bars) -> tuple[Split, Tokenizer]:
    """Choose the split and train a tokenizer on the training side, in one pass unless the corpus is small."""
    split = corpus.first_split
    while True:
        survey = corpus.survey()
        with bars.over(corpus, "counting words") as progress, bars.merging() as merged:
            training = corpus.training_texts(split, survey, progress)
            learned = learn(training, progress=merged)
        chosen = corpus.choose(survey)
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
    skipped, survey = Skipped(), corpus.survey()
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
    if split != EVERYTHING and (chosen := corpus.choose(survey)) != split:
        return chosen
    meta = {
        "key": key,
        "merges": len(tokenizer.merges),
        "split": vars(split),
        "sources": corpus.names,
        "tokenizer": tokenizer.sha256,
        "skipped": vars(skipped),
        "files_read": corpus.n_read(skipped),
        "left_out": corpus.n_left_out,
        "reading": READING,
    }
    if split != EVERYTHING and (shares := corpus.held_out_shares()):
        meta |= {"held_out_shares": shares, "is_share_even": survey.is_even()}
    if corpus.apart:
        meta |= {"held_out": corpus.apart.names, "held_out_copies": corpus.n_copies}
    meta |= {SIDES[side]: _counts(writer, corpus) for side, writer in writers.items()}
    (folder / META).write_text(json.dumps(meta, indent=1) + "\n", "ascii")
    return split


def _counts(writer: TokenFileWriter, corpus: Corpus) -> dict[str, int | float]:
    if not writer.n_documents and corpus.n_copies:
        raise DataError("--held-out has every document: that leaves nothing to train on; name more text")
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
