"""What fuzzing does with the reader of tokenizer.json: valid files, spoilt in bytes, tokens and structure."""

import json
import random
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from microgpt.tokenizer import Tokenizer, TokenizerError, alphabet, file_format

from . import texts
from .bounds import within_bounds
from .bpe import random_merges

LIMIT_S = 2.0  # processor time to read a file, sanitizers included

SPECIALS = ["<|bos|>", "<|user|>", "<|end|>", "<|ü|>", "🙂", "x y", '"', "\\", "Ġ", "a", "", "\n", "\ud800"]
NUMBERS = [
    "0",
    "-1",
    "-0",
    "255",
    "256",
    "1e999",
    "1.5",
    "1E5",
    "NaN",
    "-Infinity",
    "2147483648",
    "4294967296",
    "9999999999",
    "18446744073709551616",
    "9" * 5000,
    "007",
    "0x1",
]
VALUES = [
    *NUMBERS,
    "null",
    "true",
    "false",
    "[]",
    "{}",
    '""',
    '"\\ud800"',
    '"\\u0000"',
    '"a b"',
    '" "',
    "'a'",
    '["a","b"]',
    '["a"]',
    '{"a":1,"a":2}',
    '{"":""}',
    '"BPE"',
    '"ByteLevel"',
    '"1.0"',
]
Make = Callable[[random.Random], bytes]

TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null|[\[\]{},:]')


# ---- cases -----------------------------------------------------------------------------------------------


def make_json_case(rng: random.Random) -> bytes:
    """A file that a tokenizer might have written, most times spoilt."""
    if rng.random() < 0.02:
        return rng.choice(GIANTS)(rng)
    content = valid_content(rng)
    for _ in range(rng.choice([0, 0, 1, 1, 2, 5])):
        change_structure(rng, content)
    data = written(rng, content)
    for _ in range(rng.choice([0, 0, 0, 0, 1, 3])):
        data = rng.choice([change_token, change_token, texts.spoil, splice])(rng, data)
    return data


def valid_content(rng: random.Random) -> Any:
    """The content of a valid file, in one of the forms that are read."""
    largest = 400 if rng.random() < 0.98 else 5000
    source = [texts.text(rng, largest) for _ in range(3)]
    merges = random_merges(rng, source, texts.size(rng, 20 if largest == 400 else 500))
    specials = rng.sample(SPECIALS[:8], rng.randrange(6))
    try:
        content = json.loads(file_format.to_json(merges, Tokenizer(merges, specials).token_bytes, specials))
    except TokenizerError:  # a token that came twice
        return valid_content(rng)
    if rng.random() < 0.3:
        content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
    if rng.random() < 0.2:
        content["added_tokens"] = [
            {"id": token["id"], "content": token["content"], "special": True}
            for token in content["added_tokens"]
        ]
    return content


def written(rng: random.Random, content: Any) -> bytes:
    """Content as JSON, in one of its layouts."""
    layout = rng.choice([{"separators": (",", ":")}, {}, {"indent": 1}, {"sort_keys": True}])
    text = json.dumps(content, ensure_ascii=rng.random() < 0.3, **layout)  # type: ignore[arg-type]
    return text.encode("utf-8", "surrogatepass")


def change_structure(rng: random.Random, content: Any) -> None:
    """Change one thing in a tokenizer.json, the parts with most checks more often."""
    model = content.get("model")
    parts = [content, model, content.get("added_tokens")]
    parts += [model.get("vocab"), model.get("merges")] if isinstance(model, dict) else []
    change_one(rng, parts)


def change_one(rng: random.Random, parts: list[Any]) -> None:
    """Remove, replace, exchange, double, wrap or shift one thing somewhere in one of the parts."""
    place, key = _somewhere(rng, parts)
    if key is None:
        return
    action, value = rng.randrange(6), place[key]
    if action == 0:
        del place[key]
    elif action == 1:
        place[key] = _value(rng)
    elif action == 2:
        other = rng.choice(_keys(place))
        place[key], place[other] = place[other], value
    elif action == 3 and isinstance(place, list):
        place.insert(rng.randrange(len(place) + 1), value)
    elif action == 3:
        place[rng.choice([*SPECIALS, "extra", "type", "unicode", "Ā"])] = value
    elif action == 4 and isinstance(value, int):
        place[key] += rng.choice([-1, 1, 256, -256, 1 << 31, 1 << 32])
    else:
        place[key] = rng.choice([[value], {"type": value}])


def _somewhere(rng: random.Random, parts: list[Any]) -> tuple[Any, Any]:
    """A dict or list and one of its keys, None if there is none."""
    place = rng.choice(parts)
    while keys := _keys(place):
        key = rng.choice(keys)
        if not _keys(place[key]) or rng.random() < 0.15:
            return place, key
        place = place[key]
    return place, None


def _keys(place: Any) -> list[Any]:
    if isinstance(place, dict):
        return list(place)
    return list(range(len(place))) if isinstance(place, list) else []


def _value(rng: random.Random) -> Any:
    """A value of JSON; those that only a broken file holds are passed over."""
    while True:
        try:
            return json.loads(rng.choice(VALUES))
        except ValueError:
            continue


def change_token(rng: random.Random, data: bytes) -> bytes:
    """Put something else in the place of one word, number or sign."""
    found = [match.span() for match in TOKEN.finditer(data[: 1 << 16])]
    if not found:
        return data
    start, end = rng.choice(found)
    action = rng.randrange(4)
    if action == 0:
        new = rng.choice(VALUES).encode()
    elif action == 1:
        depth = texts.size(rng, 3000)
        new = rng.choice([b"[" * depth, b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth])
    elif action == 2:
        new = json.dumps(texts.text(rng, 200).decode("utf-8", "replace")).encode()
    else:
        other = rng.choice(found)
        new = data[other[0] : other[1]]
    return data[:start] + new + data[end:]


def splice(rng: random.Random, data: bytes) -> bytes:
    """Move or double a stretch, or leave it out."""
    a, b, c = sorted(rng.randrange(len(data) + 1) for _ in range(3))
    return rng.choice([data[:a] + data[b:], data[:b] + data[a:], data[:a] + data[b:c] + data[a:b] + data[c:]])


# ---- giants: as long as a file may be --------------------------------------------------------------------


def _giant_string(rng: random.Random) -> bytes:
    """One long string somewhere in a valid file."""
    content = valid_content(rng)
    n = rng.choice([1 << 20, file_format.MAX_FILE_BYTES - 50_000])
    part = rng.choice(["a", " ", "a b", "ü", "\u0378", "漢", "🙂", "\U000e0001", '"'])
    giant = part * (n // len(json.dumps(part, ensure_ascii=False)[1:-1].encode())) + rng.choice(["", "🙂"])
    place, key = rng.choice(
        [
            (content, "version"),
            (content["model"], "type"),
            (content["model"], "merges"),
            (content["model"], "vocab"),
            (content, "added_tokens"),
        ]
    )
    place[key] = rng.choice([giant, [giant], {giant: 1}, [[giant, giant[:9]]]])
    return json.dumps(content, ensure_ascii=False).encode()


def _giant_special(rng: random.Random) -> bytes:
    """A special token with a name of a megabyte, or some thousands of them."""
    names = rng.choice([["<" + "ü" * (1 << 19) + ">"], [f"<{i}>" for i in range(rng.randrange(20_000))]])
    words = Tokenizer([], names).token_bytes
    return file_format.to_json([], words, names).encode()


def _giant_vocabulary(rng: random.Random) -> bytes:
    """Tokens that double in length until the file is full."""
    merges = [(97, 97)] + [(255 + i, 255 + i) for i in range(1, rng.randrange(10, 21))]
    words = Tokenizer(merges, ()).token_bytes
    return texts.spoil(rng, file_format.to_json(merges, words, ()).encode())


def _giant_number(rng: random.Random) -> bytes:
    """Many small things."""
    part = rng.choice([b"[", b'{"a":', b"[],", b'"a",', b"9", b"\\", b" ", b"\0", b"\xc3\xbc", b'"a":1,'])
    start = rng.choice([b"", b"[", b"{", b'{"version":', b'{"version":"1.0","model":{"vocab":{'])
    n = rng.choice([10**4, 10**5, 2 * 10**5, file_format.MAX_FILE_BYTES])
    return start + part * min(n, (file_format.MAX_FILE_BYTES - len(start)) // len(part))


GIANTS: list[Make] = [_giant_string, _giant_string, _giant_special, _giant_vocabulary, _giant_number]


# ---- what must hold --------------------------------------------------------------------------------------


def check_json(data: bytes) -> None:
    """A file is refused in one line, or gives the tokenizer that it describes; soon, and in bounds."""
    with tempfile.TemporaryDirectory(prefix="fuzz-json-") as folder:
        path = Path(folder) / "tokenizer.json"
        path.write_bytes(data)
        tokenizer = within_bounds(lambda: Tokenizer.load(path), len(data), (TokenizerError,), LIMIT_S)
        if tokenizer is not None:
            _check_content(tokenizer, json.loads(data))
            _check_saving(tokenizer, path)


def _check_content(tokenizer: Tokenizer, content: Any) -> None:
    """Ids as the file gives them, and merges that make what the file says."""
    words = [alphabet.to_text(word) for word in tokenizer.token_bytes[: 256 + len(tokenizer.merges)]]
    vocab = {word: i for i, word in enumerate([*words, *tokenizer.specials])}
    assert vocab == content["model"]["vocab"], "vocab: not as in the file"
    for pair, wanted in zip(tokenizer.merges, content["model"]["merges"], strict=True):
        parts = wanted.split(" ") if isinstance(wanted, str) else wanted
        assert [words[i] for i in pair] == parts, "merges: not as in the file"
    names = [token["content"] for token in content.get("added_tokens", [])]
    assert names == list(tokenizer.specials), "special tokens: not as in the file"


def _check_saving(tokenizer: Tokenizer, path: Path) -> None:
    """Saved and read again it is the same, and it encodes."""
    sample = b" ".join(tokenizer.token_bytes[-40:])
    assert tokenizer.decode(tokenizer.encode(sample)) == sample, "decode(encode(x)) is not x"
    try:
        tokenizer.save(path)
    except TokenizerError:  # the layout that is written takes more room than the one that was read
        assert len(tokenizer._file_text().encode()) > file_format.MAX_FILE_BYTES, "a small file is not saved"
        return
    again = Tokenizer.load(path)
    assert again == tokenizer and again.sha256 == tokenizer.sha256, "not the same after saving"
