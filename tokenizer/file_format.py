"""Reading and writing `tokenizer.json` (the layout of Hugging Face `tokenizers`) and tiktoken's rank files.

Only one kind of `tokenizer.json` is read: byte-level BPE with the GPT-2 pattern and ids as in model.py.
Everything in a file that would make another program encode differently is checked, so a foreign file is
refused, never misread.  One key is ours: `unicode` in `pre_tokenizer`, the version of our splitter's tables.
(`tokenizers` ignores unknown keys there, but not at the top.)
"""

import base64
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from microgpt.tokenizer.alphabet import CHARACTERS, to_text
from microgpt.tokenizer.errors import TokenizerError
from microgpt.tokenizer.native import MAX_MERGES
from microgpt.tokenizer.unicode_tables import VERSION as UNICODE_VERSION

# Bounds before a file is parsed: memory stays below 64 MiB beyond the file, and MAX_MERGES merges fit in.
MAX_FILE_BYTES = 1 << 23
MAX_COUNTS = {b"[": 2 * MAX_MERGES, b"{": MAX_MERGES, b",": 4 * MAX_MERGES}

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
PLAIN_MODEL = {
    "type": "BPE",
    "dropout": None,
    "unk_token": None,
    "continuing_subword_prefix": None,
    "end_of_word_suffix": None,
    "fuse_unk": False,
    "byte_fallback": False,
    "ignore_merges": False,
}
PLAIN_SPECIAL = {
    "single_word": False,
    "lstrip": False,
    "rstrip": False,
    "normalized": False,
    "special": True,
}

KINDS = {
    "a folder": stat.S_ISDIR,
    "a pipe": stat.S_ISFIFO,
    "a socket": stat.S_ISSOCK,
    "a link to itself": stat.S_ISLNK,
}

Merges = list[tuple[int, int]]


# ---- writing ---------------------------------------------------------------------------------------------


def to_json(merges: Sequence[tuple[int, int]], token_bytes: Sequence[bytes], specials: Sequence[str]) -> str:
    """The text of a tokenizer.json; token_bytes as in `Tokenizer`."""
    n_words = 256 + len(merges)
    words = [to_text(word) for word in token_bytes[:n_words]]
    vocab = {word: i for i, word in enumerate([*words, *specials])}
    added = [{"id": n_words + i, "content": name} | PLAIN_SPECIAL for i, name in enumerate(specials)]
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": BYTE_LEVEL | {"unicode": UNICODE_VERSION},
        "post_processor": None,
        "decoder": BYTE_LEVEL,
        "model": PLAIN_MODEL | {"vocab": vocab, "merges": [[words[a], words[b]] for a, b in merges]},
    }
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n"


def to_tiktoken(words: Sequence[bytes]) -> str:
    """The text of a rank file: a token in base64 and its rank, which is its id, per line."""
    return "".join(f"{base64.b64encode(word).decode()} {rank}\n" for rank, word in enumerate(words))


def write(path: str | Path, text: str) -> None:
    """Write a file whole or not at all: where its name leads to, with the rights of the one it replaces."""
    data = text.encode("utf-8")
    _refuse_large(data)
    place, mode = place_of(path)
    temporary = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                if mode is not None:
                    os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            os.replace(temporary, place)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise TokenizerError(f"{path}: cannot be written: {error.strerror}") from error


def place_of(path: str | Path) -> tuple[Path, int | None]:
    """Where a file of this name is to be written, behind all links, and the rights of the one that is there.

    Raises:   TokenizerError: something else than a file is there, which it would replace.
    """
    try:
        place = Path(os.path.realpath(path))
        mode = os.lstat(place).st_mode
    except FileNotFoundError:
        return place, None
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        raise TokenizerError(f"{path}: cannot be written: {getattr(error, 'strerror', error)}") from error
    if not stat.S_ISREG(mode):
        kind = next((name for name, is_kind in KINDS.items() if is_kind(mode)), "a device")
        raise TokenizerError(f"{path}: cannot be written: it is {kind}; name a file")
    return place, stat.S_IMODE(mode)


# ---- reading ---------------------------------------------------------------------------------------------


def read(path: str | Path) -> tuple[Merges, list[str]]:
    """Merges and special tokens of a tokenizer.json.

    Raises:   TokenizerError: not such a file, or one that means something this tokenizer does not do.
    Cost:     at most MAX_FILE_BYTES are read; memory is bounded by a few times that.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise TokenizerError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return from_json(data)
    except TokenizerError as error:
        raise TokenizerError(f"{path}: {error}") from error


def from_json(data: bytes) -> tuple[Merges, list[str]]:
    """Merges and special tokens of the content of a tokenizer.json."""
    content = _parse(data)
    _expect(content, "the file", {"version": "1.0"})
    model = _part(content, "model", dict)
    _expect(model, "model", PLAIN_MODEL)
    _expect(content, "the file", {"normalizer": None, "truncation": None, "padding": None})
    splitter = _part(content, "pre_tokenizer", dict)
    _expect(splitter, "pre_tokenizer", BYTE_LEVEL | {"trim_offsets": splitter.get("trim_offsets")})
    _expect({"unicode": UNICODE_VERSION} | splitter, "pre_tokenizer", {"unicode": UNICODE_VERSION})
    for name in ("decoder", "post_processor"):
        if name == "decoder" or content.get(name) is not None:
            _expect(_part(content, name, dict), name, {"type": "ByteLevel"})
    return _tokens(_part(model, "vocab", dict), _part(model, "merges", list), content.get("added_tokens", []))


def _parse(data: bytes) -> dict[str, Any]:
    """JSON without duplicate keys, deep nesting or long numbers."""
    _refuse_large(data)
    try:
        content = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_int=_short_int,
            parse_float=_no_number,
            parse_constant=_no_number,
        )
    except UnicodeDecodeError:
        raise TokenizerError("not a tokenizer.json: not UTF-8") from None
    except json.JSONDecodeError as error:
        raise TokenizerError(f"not a tokenizer.json: {error}") from None
    except RecursionError:
        raise TokenizerError("not a tokenizer.json: nested too deeply") from None
    if not isinstance(content, dict):
        raise TokenizerError("not a tokenizer.json: not an object")
    return content


def _refuse_large(data: bytes) -> None:
    """Neither written nor read: what could take much memory to parse."""
    if len(data) > MAX_FILE_BYTES or any(data.count(sign) > limit for sign, limit in MAX_COUNTS.items()):
        raise TokenizerError(f"a file larger than a tokenizer.json of {MAX_MERGES} merges has reason to be")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise TokenizerError(f"key {_short(twice)} occurs twice in one object")
    return found


def _short_int(digits: str) -> int:
    if len(digits) > 10:
        raise TokenizerError(f"number {digits[:20]}... is no id")
    return int(digits)


def _no_number(text: str) -> None:
    raise TokenizerError(f"number {text[:20]}: fractions have no place in this kind of tokenizer")


def _short(value: object) -> str:
    """A value for an error message, cut if long."""
    if isinstance(value, list | dict):
        return type(value).__name__
    text = repr(value[:60] if isinstance(value, str) else value)  # cut first: repr may be ten times as long
    return text if len(text) <= 60 else text[:57] + "..."


def _part(whole: dict[str, Any], name: str, kind: type) -> Any:
    """A part that must be there, of a kind."""
    if not isinstance(whole.get(name), kind):
        raise TokenizerError(f"{name}: expected {kind.__name__}, got {_short(whole.get(name))}")
    return whole[name]


def _expect(part: dict[str, Any], name: str, wanted: dict[str, Any]) -> None:
    """Every value must be as wanted; one that is left out counts if None or False is wanted."""
    for key, value in wanted.items():
        got = part.get(key)
        if got != value and not (got is None and value is False) and not (got == "" and value is None):
            raise TokenizerError(f"{key} of {name}: this tokenizer needs {value!r}, got {_short(got)}")


def _tokens(vocab: dict[str, Any], merges: list[Any], added: Any) -> tuple[Merges, list[str]]:
    """Check that ids are bytes, merges, specials in this order without holes, and return the last two."""
    if not isinstance(added, list):
        raise TokenizerError(f"added_tokens: expected list, got {_short(added)}")
    words = list(vocab)
    for i, word in enumerate(sorted(words, key=lambda word: _id(vocab, word))):
        if vocab[word] != i:
            raise TokenizerError(f"vocab: expected a token of id {i}, got {_short(word)} with {vocab[word]}")
        if i < 256 and word != CHARACTERS[i]:
            raise TokenizerError(f"vocab: id {i} must be {CHARACTERS[i]!r}, byte {i}, got {_short(word)}")
    n_words = 256 + len(merges)
    if len(vocab) != n_words + len(added):
        raise TokenizerError(
            f"vocab: {len(vocab)} tokens, but 256 bytes, {len(merges)} merges and "
            f"{len(added)} added tokens make {n_words + len(added)}"
        )
    return (
        [_merge(vocab, merge, 256 + i) for i, merge in enumerate(merges)],
        [_special(vocab, token, n_words + i) for i, token in enumerate(added)],
    )


def _id(vocab: dict[str, Any], word: object) -> int:
    """Id of a word of the vocabulary."""
    found = vocab.get(word) if isinstance(word, str) else None
    if not isinstance(found, int) or isinstance(found, bool):
        raise TokenizerError(f"vocab: {_short(word)} has no id, but {_short(found)}")
    return found


def _merge(vocab: dict[str, Any], merge: Any, new: int) -> tuple[int, int]:
    """One merge, `["a", "b"]` or `"a b"`, which must make the token of id `new`."""
    parts = merge.split(" ", 2) if isinstance(merge, str) else merge
    if not isinstance(parts, list) or len(parts) != 2:
        raise TokenizerError(f"merges: entry {new - 256} is no pair of tokens: {_short(merge)}")
    pair = _id(vocab, parts[0]), _id(vocab, parts[1])
    if max(pair) >= new or vocab.get(parts[0] + parts[1]) != new:
        raise TokenizerError(f"merges: entry {new - 256} must make the token of id {new} from earlier ones")
    return pair


def _special(vocab: dict[str, Any], token: Any, expected: int) -> str:
    """Name of one added token, which must be special and have the expected id."""
    if not isinstance(token, dict):
        raise TokenizerError(f"added_tokens: expected an object, got {_short(token)}")
    name = token.get("content")
    _expect(token, f"added token {_short(name)}", {"id": expected} | PLAIN_SPECIAL)
    if not isinstance(name, str) or vocab.get(name) != expected:
        raise TokenizerError(f"added token {_short(name)}: must have id {expected} in vocab too")
    return name
