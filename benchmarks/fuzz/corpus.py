"""What fuzzing does with the readers of corpora: folders of text, JSON, CSV and parquet, plain and packed.

A case is JSON: the tree of a folder, which of its places are named, how they are to be read.  Only what
`microgpt prepare` itself calls is called: `Corpus` and `prepare`.
"""

import csv
import dataclasses
import gzip
import hashlib
import io
import itertools
import json
import os
import random
import resource
import stat
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from microgpt.common.errors import MicrogptError
from microgpt.corpus.chat import texts as texts_of
from microgpt.corpus.prepared.corpus import Corpus
from microgpt.corpus.prepared.make import prepare
from microgpt.corpus.prepared.split import DEFAULT, Survey
from microgpt.corpus.reading.options import ReadOptions, Skipped
from microgpt.tokenizer import TokenizerError

from . import texts
from .bounds import within_bounds
from .files import VALUES
from .json_texts import change_one, change_token, splice, written

# Processor time for a pass over a small case: 80,000 documents in a megabyte take 2 s, and a CPU may be slow.
LIMIT_S = 20.0
BOMB_S = 60.0  # over one that unpacks to BOMB_BYTES
BOMB_BYTES = 320 << 20  # more than may be held: a record, of up to 64 MiB, and what it is made into
RECORD_BYTES = 224 << 20
MOST_GROWTH_KIB = 768 << 10  # of the process in a case, what libraries take of their own included
ERRORS = (MicrogptError,)
PREPARED_CHARACTERS = 100_000  # what is prepared as well: more takes long

FILES = ["a.txt", "b.jsonl", "c.json", "d.parquet", "e.csv", "f", "g.md", "h.text", "i.ndjson", "j.tsv"]
ODD_NAMES = [
    ".hidden.txt",
    "train.tokens",
    "val.tokens",
    "meta.json",
    "manifest.json",
    "\x1b[31m.txt",
    "two\nlines.txt",
    "smalltalk",
    "-",
    "--data.txt",
    "\udcff.txt",
    "x" * 240 + ".txt",
    "é 漢.jsonl",
    "step_00000001",
    ".txt",
    "A.TXT",
    "a.txt.gz.zst",
    "tokenizer.json",
]
FOLDERS = ["", "", "", "", "sub/", "sub/deeper/", "runs/", ".git/", "b.txt/"]
LINKS = [
    ".",
    "..",
    "loop.txt",
    "a.txt",
    "sub",
    "sub/deeper",
    "missing.txt",
    "../elsewhere",
    "../elsewhere/o.txt",
    "../elsewhere/missing.txt",
    "/dev/null",
    "/dev/zero",
    "/dev/urandom",
    "/dev/full",
    "/dev/stdin",
    "/dev/tty",
    "/proc/self/mem",
    "/proc/self/environ",
    "/proc/self/maps",
    "x" * 300,
    "../../in",
]
ENDS = {"gzip": ".gz", "zstd": ".zst"}
ENCODINGS = ["utf-16", "utf-16-be", "utf-32", "utf-32-le", "utf-8-sig", "latin-1", "utf-7", "cp037"]
BREAKS = ["\r", "\r\n", "\n\n", "\v", "\f", "\x85", "\u2028", "\0", "\n\r", "\x1e"]
PARTS = [
    b"[",
    b'{"a":',
    b"[],",
    b'"a",',
    b"9",
    b"\\",
    b" ",
    b"\0",
    b"\xc3\xbc",
    b'"a":1,',
    b"\n",
    b"\r",
    b",",
    b'{"text":"a"}\n',
    b"__eou__",
    b"<|endoftext|>",
    b'""',
    b'"',
    b"\n\n",
    b"\xff",
    b"\xef\xbb\xbf",
]
KEYS = [
    "text",
    "content",
    "messages",
    "conversations",
    "conversation",
    "data",
    "dialog",
    "dialogue",
    "instruction",
    "input",
    "output",
    "system",
    "history",
    "prompt",
    "completion",
    "question",
    "answer",
    "role",
    "from",
    "value",
    "weight",
    "tools",
    "message_id",
    "parent_id",
    "rank",
    "extra",
]
ROLES = ["user", "assistant", "system", "human", "gpt", "tool", "prompter", "", "USER", "nobody"]

Tree = dict[str, list[str]]  # path -> kind (file, link, pipe, folder) and content or target


# ---- cases -----------------------------------------------------------------------------------------------


def make_readers_case(rng: random.Random) -> bytes:
    """A folder, mostly of one file that some program may have written, spoilt and packed."""
    bomb = rng.random() < 0.005
    tree: Tree = {}
    for _ in range(1 if bomb else rng.choice([1, 1, 1, 2, 5])):
        _add_file(rng, tree, bomb)
    for _ in range(rng.choice([0, 0, 0, 1, 4])):
        _add_other(rng, tree)
    names = rng.choice([["."], list(tree), [rng.choice(list(tree))], [".", rng.choice(list(tree))]])
    if rng.random() < 0.05:
        names.append(rng.choice(["missing", "a\0b", "../elsewhere", "smalltalk", *LINKS[10:19]]))
    options = {
        "bad_lines": rng.choice(["error", "skip"]),
        "text_documents": rng.choice(["paragraphs", "file"]),
        "suffix": rng.choice([None, None, ".md,.csv", "", ",", "/"]),
        "keys": rng.choice([None, None, None, "question,answer", "text", "extra", "role,role"]),
    }
    return json.dumps({"tree": tree, "names": names, "options": options, "bomb": bomb}).encode()


def _add_file(rng: random.Random, tree: Tree, bomb: bool) -> None:
    name = rng.choice(FILES) if rng.random() < 0.85 else rng.choice(ODD_NAMES)
    data = _bomb(rng) if bomb else _content(rng, name)
    packing = rng.choice(["gzip", "zstd"]) if bomb or rng.random() < 0.3 else ""
    if packing:
        data, name = _packed(rng, data, packing, bomb), name + ENDS[packing] * (rng.random() < 0.8)
    tree[rng.choice(FOLDERS) + name] = ["file", data.decode("latin-1")]


def _add_other(rng: random.Random, tree: Tree) -> None:
    """What is no file."""
    kind = rng.choice(["link", "link", "link", "pipe", "folder"])
    name = rng.choice(["loop.txt", "l.txt", "m.jsonl", "linked", "n.gz", "o.parquet", *ODD_NAMES[:6]])
    tree.setdefault(rng.choice(FOLDERS) + name, [kind, rng.choice(LINKS) if kind == "link" else ""])


def _content(rng: random.Random, name: str) -> bytes:
    """The content of a file, most times of the kind that its name says; then perhaps spoilt."""
    kind = next((k for end, k in KINDS.items() if end in name), rng.choice(list(KINDS.values())))
    if rng.random() < 0.25:
        kind = rng.choice(list(KINDS.values()))
    data = kind(rng)
    for _ in range(rng.choice([0, 0, 1, 1, 3])):
        data = rng.choice([change_token, texts.spoil, splice, _broken_lines, _encoded, _giant])(rng, data)
    return data


def _giant(rng: random.Random, data: bytes) -> bytes:
    """Many small things, alone or behind what is there."""
    part, n_bytes = rng.choice(PARTS), rng.choice([10**3, 10**4, 10**5, 1 << 20])
    return data[: rng.choice([0, 1, len(data) // 2, len(data)])] + part * (n_bytes // len(part))


def _broken_lines(rng: random.Random, data: bytes) -> bytes:
    """Other ends of lines, somewhere or everywhere."""
    return data.replace(b"\n", rng.choice(BREAKS).encode(), rng.choice([1, -1]))


def _encoded(rng: random.Random, data: bytes) -> bytes:
    return data.decode("utf-8", "replace").encode(rng.choice(ENCODINGS), "replace")


def _bomb(rng: random.Random) -> bytes:
    """Much text of few different bytes."""
    line = b"word " * rng.choice([2000, 12_000])
    form = rng.choice([b'{"text": "%s"}\n', b"%s\n\n", b'"a","%s"\n', b"%s", b"\0%s\n"])
    start = rng.choice([b"", b"", b"[", b'{"data": [', b"\n" * 1000])
    made = form % line
    return start + made * (BOMB_BYTES // len(made))


# ---- files of each kind ----------------------------------------------------------------------------------


def _word(rng: random.Random) -> str:
    if rng.random() < 0.1:
        return rng.choice(["__eou__", "<|endoftext|>", "<|end|>", "{", "[", " ' ", "\r", "\ud800", "\0", ""])
    return texts.text(rng, 60).decode("utf-8", rng.choice(["replace", "surrogateescape"]))


def record(rng: random.Random) -> Any:
    """What one line or row holds, in a form that is known, perhaps spoilt in a value."""
    turns = range(rng.randrange(5))
    made: Any = rng.choice(
        [
            lambda: {"text": _word(rng)},
            lambda: {"messages": [{"role": ROLES[i % 2], "content": _word(rng)} for i in turns]},
            lambda: {"conversations": [{"from": ROLES[3 + i % 2], "value": _word(rng)} for i in turns]},
            lambda: {rng.choice(["data", "dialog"]): [_word(rng) for _ in turns]},
            lambda: {key: _word(rng) for key in ("instruction", "input", "output", "system")},
            lambda: {
                "instruction": _word(rng),
                "output": _word(rng),
                "history": [[_word(rng)] * 2] * len(turns),
            },
            lambda: {"prompt": _word(rng), "completion": _word(rng)},
            lambda: {
                "message_id": str(rng.randrange(4)),
                "parent_id": rng.choice([None, *"0123"]),
                "role": rng.choice(ROLES),
                "text": _word(rng),
                "rank": rng.randrange(3),
            },
            lambda: {rng.choice(KEYS): _word(rng) for _ in range(3)},
        ]
    )()
    if rng.random() < 0.3:
        made[rng.choice(KEYS)] = rng.choice(VALUES)
    if rng.random() < 0.3:
        change_one(rng, [made, *(value for value in made.values() if isinstance(value, dict | list))])
    return made


def _records(rng: random.Random) -> list[Any]:
    made = [record(rng) for _ in range(texts.size(rng, 40) + 1)]
    return made * rng.choice([1, 1, 1, 20])


def _lines(rng: random.Random) -> bytes:
    return b"\n".join(written(rng, item) for item in _records(rng)) + b"\n" * rng.randrange(3)


def _array(rng: random.Random) -> bytes:
    made: Any = _records(rng)
    return written(rng, {rng.choice(KEYS): made} if rng.random() < 0.2 else made)


def _table(rng: random.Random) -> bytes:
    """Columns of a spreadsheet."""
    out = io.StringIO()
    columns = rng.choices(KEYS, k=rng.randrange(1, 5))
    dialect: Any = rng.choice(["excel", "excel-tab", "unix"])
    table = csv.writer(out, dialect)
    rows = [[_word(rng).replace("\0", "") for _ in columns] for _ in range(rng.randrange(20))]
    for row in [columns, *rows]:
        table.writerow(row if rng.random() < 0.95 else row * 2)
    return out.getvalue().encode("utf-8", "surrogatepass")


def _plain(rng: random.Random) -> bytes:
    gap = rng.choice(["\n\n", "\n", " __eou__ ", "<|endoftext|>", " "]).encode()
    return gap.join(texts.text(rng, 300) for _ in range(rng.randrange(30)))


def _parquet(rng: random.Random) -> bytes:
    """A parquet file of such records, or of columns of any type; JSON where pyarrow is missing."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        return _lines(rng)
    while True:
        try:
            row = pyarrow.Table.from_pylist([_row(rng)])
            table = pyarrow.concat_tables([row] * rng.choice([1, 9, 300, 10**4]))
            out = io.BytesIO()
            packing = rng.choice(["none", "snappy", "gzip", "zstd"])
            parquet.write_table(table, out, compression=packing, row_group_size=rng.choice([1 << 20, 4096]))
            return out.getvalue()
        except (pyarrow.ArrowException, UnicodeError, OverflowError, TypeError, ValueError):
            continue  # a value that parquet cannot hold


def _row(rng: random.Random) -> Any:
    if rng.random() < 0.6:
        return record(rng)
    value: Any = rng.choice([None, b"\xff", 1.5, True, [], [{}], {"a": None}, [["a"]], "a" * 10**5, 10**18])
    return {rng.choice(KEYS): value, "text": _word(rng)}


KINDS: dict[str, Callable[[random.Random], bytes]] = {
    ".jsonl": _lines,
    ".ndjson": _lines,
    ".json": _array,
    ".parquet": _parquet,
    ".csv": _table,
    ".tsv": _table,
    ".txt": _plain,
    ".md": _plain,
}


# ---- packing ---------------------------------------------------------------------------------------------


def _packed(rng: random.Random, data: bytes, packing: str, whole: bool) -> bytes:
    """Packed once or twice, in one member or several; perhaps cut off, spoilt or with something behind."""
    pack = gzip.compress if packing == "gzip" else _zstd()
    cut = rng.randrange(len(data) + 1) if rng.random() < 0.3 else 0
    made = (pack(data[:cut]) if cut else b"") + pack(data[cut:])
    if whole or rng.random() < 0.4:
        return made
    return rng.choice([texts.spoil, _cut_off, _continued, lambda _, packed: pack(packed)])(rng, made)


def _zstd() -> Callable[[bytes], bytes]:
    try:
        import zstandard
    except ImportError:
        return gzip.compress
    return zstandard.ZstdCompressor(level=1).compress


def _cut_off(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def _continued(rng: random.Random, data: bytes) -> bytes:
    return data + rng.choice([b"\0" * 100, b"text", data[:9], data])


# ---- what must hold --------------------------------------------------------------------------------------


def check_readers(case: bytes) -> None:
    """A corpus is refused in one line, or gives the same documents each time, packed or not, and prepared.

    In both cases soon and in bounds, without a change to what is there.
    """
    content = json.loads(case)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory(prefix="fuzz-readers-") as name:
        base = Path(os.path.realpath(name))
        n_bytes = _planted(base, content["tree"])
        there, previous = _listing(base), tempfile.tempdir
        tempfile.tempdir = str(base / "tmp")
        try:
            _check_passes(base, content, n_bytes)
        finally:
            tempfile.tempdir = previous
        assert _listing(base) == there, "something was written, or left behind"
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert growth < MOST_GROWTH_KIB, f"the process grew by {growth >> 10} MiB"


def _check_passes(base: Path, content: Any, n_bytes: int) -> None:
    limit_s = BOMB_S if content["bomb"] else LIMIT_S
    n_bytes += RECORD_BYTES * content["bomb"]
    known = {field.name for field in dataclasses.fields(ReadOptions)}
    options = {key: value for key, value in content["options"].items() if key in known}
    names = [name if name == "smalltalk" else base / "in" / name for name in content["names"]]
    read = partial(_read, names, options)
    found = within_bounds(read, n_bytes, ERRORS, limit_s)
    if found is None:
        return
    if not content["bomb"]:
        assert read() == found, "not the same documents a second time"
    if found[1] <= PREPARED_CHARACTERS:
        with tempfile.TemporaryDirectory() as root:
            made = within_bounds(partial(_prepare, names, options, root), n_bytes, PREPARING, 2 * limit_s)
        # A document is divided between both sides where the corpus is small.
        assert made is None or found[0] <= made <= 2 * found[0], "not the documents prepared that were read"


PREPARING = (*ERRORS, TokenizerError)


def _read(names: list[Any], options: dict[str, Any]) -> tuple[int, int, str]:
    """Documents and characters of a corpus, and a hash of them."""
    n_documents = n_characters = 0
    seen: list[int] = []
    total = hashlib.sha256()
    with Corpus(names, ReadOptions(**options), smalltalk_bytes=2000) as corpus:
        corpus.digest()
        for held_out, document in corpus.sides(DEFAULT, Survey(), Skipped(), seen.append):
            for text in (str(held_out), *texts_of(document)):
                total.update(text.encode("utf-8", "surrogatepass") + b"\0")
            n_documents, n_characters = n_documents + 1, n_characters + sum(map(len, texts_of(document)))
        if not corpus.smalltalk_bytes:  # which is made in whole conversations
            assert sum(seen) <= corpus.size, "more was read than there is"
        corpus.check_unchanged()
    return n_documents, n_characters, total.hexdigest()


def _prepare(names: list[Any], options: dict[str, Any], root: str) -> int:
    """The documents of the corpus when it is prepared."""
    how: dict[str, Any] = {"options": ReadOptions(**options), "smalltalk_bytes": 2000, "show_progress": False}
    made = prepare(names, merges=3, root=root, **how)
    for tokens in made.sides.values():
        tokens.verify()
    return sum(tokens.n_documents for tokens in made.sides.values())


def _planted(base: Path, tree: Tree) -> int:
    """Make the folder of a case, and one beside it; the bytes in them."""
    for folder in ("in", "elsewhere", "tmp"):
        (base / folder).mkdir()
    (base / "elsewhere" / "o.txt").write_text("Elsewhere.\n\nAnd more.\n")
    n_bytes = 0
    for name, (kind, value) in tree.items():
        place = base / "in" / name
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            n_bytes += MAKERS[kind](place, value) or 0
        except OSError:  # there is something already
            continue
    return n_bytes


MAKERS: dict[str, Callable[[Path, str], int | None]] = {
    "file": lambda place, text: place.write_bytes(text.encode("latin-1")),
    "link": lambda place, target: place.symlink_to(target),
    "pipe": lambda place, _: os.mkfifo(place),
    "folder": lambda place, _: place.mkdir(),
}


def _listing(base: Path) -> list[tuple[Any, ...]]:
    """All that is in a folder, as it would show if it was changed."""
    return sorted(_entries(base))


def _entries(base: Path) -> Iterator[tuple[Any, ...]]:
    for root, folders, names in os.walk(base):
        for name in itertools.chain(folders, names):
            place = os.path.join(root, name)
            info = os.lstat(place)
            content = () if stat.S_ISDIR(info.st_mode) else (info.st_size, info.st_mtime_ns)
            yield place, info.st_mode, content
