"""Counter-based randomness: every number is a pure function of (seed, purpose, counters, index).

Nothing has a state, so nothing needs saving, and no order of work can change a result.  The kernels' random.h
is the same stream in C.
"""

import hashlib
from collections.abc import Iterable

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def key(seed: int, purpose: str, *counters: int) -> int:
    """The 64-bit key of one stream, such as key(0, "dropout", step, layer)."""
    text = "/".join([str(seed), purpose, *map(str, counters)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def keys(seed: int, purpose: str, counters: Iterable[int]) -> np.ndarray:
    """The keys of many streams, uint64 (n,)."""
    return np.array([key(seed, purpose, counter) for counter in counters], np.uint64)


def bits(key: int, n: int, start: int = 0) -> np.ndarray:
    """Words start .. start+n-1 of a stream, uint64 (n,): SplitMix64 (Steele, Lea & Flood 2014)."""
    with np.errstate(over="ignore"):
        z = np.uint64(key) + np.arange(start + 1, start + n + 1, dtype=np.uint64) * GOLDEN
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def uniform(key: int, n: int, start: int = 0) -> np.ndarray:
    """Uniform numbers in [0, 1), float64 (n,)."""
    return (bits(key, n, start) >> np.uint64(11)) * 2.0**-53


def normal(key: int, n: int, start: int = 0) -> np.ndarray:
    """Standard normal numbers, float64 (n,), by the transform of Box & Muller (1958) on words 2i and 2i+1."""
    u = uniform(key, 2 * n, 2 * start).reshape(n, 2)
    return np.sqrt(-2 * np.log1p(-u[:, 0])) * np.cos(2 * np.pi * u[:, 1])


def permutation(key: int, n: int) -> np.ndarray:
    """The numbers 0 .. n-1 in random order, int64 (n,)."""
    return np.argsort(bits(key, n), kind="stable")


def keep_factors(key: int, n: int, p: float) -> np.ndarray:
    """What dropout multiplies n elements by: 0 with probability p, else 1/(1-p); float64 (n,).

    Sixteen bits an element, four elements a word; p is rounded to a multiple of 1/65536.
    """
    words = bits(key, (n + 3) // 4)
    shifts = np.array([0, 16, 32, 48], np.uint64)
    draws = (words[:, None] >> shifts & np.uint64(0xFFFF)).reshape(-1)[:n]
    return np.where(draws < int(p * 65536 + 0.5), 0.0, 1 / (1 - p))
