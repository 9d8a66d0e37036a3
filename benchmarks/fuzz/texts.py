"""Texts that are hard on a splitter: every kind of character, long runs, broken bytes."""

import math
import random
from collections.abc import Callable

CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'", "''", "'S", "'r", "'l", "don't", "we'll"]
SPACES = [" ", "  ", "\n", "\r\n", "\t", "\v", "\f", "\x85", "\u00a0", "\u1680", "\u2003", "\u2028", "\u3000"]
NEARLY_SPACES = ["\x1c", "\x1f", "\x00", "\u180e", "\u200b", "\u2060", "\ufeff"]
LETTERS = ["a", "Z", "é", "ж", "ʰ", "漢", "あ", "한", "ก", "𐐷", "\U00020000", "\U0003134f", "word", "Straße"]
NUMBERS = ["0", "42", "²", "½", "٣", "Ⅷ", "𝟙", "〇"]
OTHERS = [
    "!",
    "...",
    "—",
    "。",
    "_",
    "<|end|>",
    "\u0301",
    "🙂",
    "👨\u200d👩",
    "\uffff",
    "\U00040000",
    "\U0010ffff",
]
PARTS = [CONTRACTIONS, SPACES, NEARLY_SPACES, LETTERS, NUMBERS, OTHERS]
BROKEN = [
    b"\xff",
    b"\x80",
    b"\xbf",
    b"\xc2",
    b"\xc0\x80",
    b"\xe2\x80",
    b"\xe0\x80\x80",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x99",
    b"\xf0\x80\x80\x80",
    b"\xf4\x90\x80\x80",
    b"\xf8\x88\x80\x80\x80",
]


def size(rng: random.Random, largest: int) -> int:
    """A number up to `largest`, small ones more often."""
    return int(math.exp(rng.uniform(0, math.log(largest + 1)))) - rng.randrange(2)


def text(rng: random.Random, largest: int) -> bytes:
    """A text of at most about `largest` bytes."""
    n = size(rng, largest) if rng.random() < 0.7 else rng.randrange(largest + 1)
    made = rng.choice(KINDS)(rng, n)[:largest]
    return spoil(rng, made) if rng.random() < 0.3 else made


def spoil(rng: random.Random, data: bytes) -> bytes:
    """Change a few places: flip, remove, double, insert, cut off."""
    made = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        i = rng.randrange(len(made) + 1)
        j = i + size(rng, 8)
        action = rng.randrange(5)
        if action == 0 and i < len(made):
            made[i] ^= 1 << rng.randrange(8)
        elif action == 1:
            del made[i:j]
        elif action == 2:
            made[i:i] = made[i:j]
        elif action == 3:
            made[i:i] = rng.choice(BROKEN)
        elif len(made) - i < 5:
            del made[i:]
    return bytes(made)


def _mixed(rng: random.Random, n: int) -> bytes:
    return "".join(rng.choice(rng.choice(PARTS)) for _ in range(n // 2)).encode()


def _few_letters(rng: random.Random, n: int) -> bytes:
    return bytes(rng.choices(rng.choice([b"ab", b"abc", b"ab ", b"a'sl", b"01x", b"  \na"]), k=n))


def _run(rng: random.Random, n: int) -> bytes:
    part = rng.choice(rng.choice(PARTS)).encode()
    start = rng.choice(rng.choice(PARTS)).encode() if rng.random() < 0.5 else b""
    return start + part * (n // len(part))


def _words(rng: random.Random, n: int) -> bytes:
    words = ["".join(rng.choices("etaoinsh", k=rng.randrange(1, 12))) for _ in range(rng.randrange(1, 9))]
    words += rng.sample(CONTRACTIONS, 2)
    gap = rng.choice([" ", " ", "\n", "  ", "", ", "])
    return gap.join(rng.choice(words) for _ in range(n // 5)).encode()


def _points(rng: random.Random, n: int) -> bytes:
    highest = rng.choice([0x100, 0x800, 0x3200, 0x10000, 0x110000])
    return "".join(chr(rng.randrange(highest)) for _ in range(n // 3)).encode("utf-8", "surrogatepass")


def _broken(rng: random.Random, n: int) -> bytes:
    return b"".join(rng.choice(BROKEN) if rng.random() < 0.4 else _mixed(rng, 2) for _ in range(n // 3))


def _random_bytes(rng: random.Random, n: int) -> bytes:
    return rng.randbytes(max(n, 0))


def _white(rng: random.Random, n: int) -> bytes:
    parts = SPACES + NEARLY_SPACES + ["a", "'s", "1"]
    return "".join(rng.choice(parts) for _ in range(n // 2)).encode()


KINDS: list[Callable[[random.Random, int], bytes]] = [
    _mixed,
    _few_letters,
    _run,
    _words,
    _points,
    _broken,
    _random_bytes,
    _white,
]
