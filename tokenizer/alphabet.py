"""The byte alphabet of GPT-2, and the order of ties that follows from it.

In a `tokenizer.json` every byte is written as one printable character: the bytes 33-126, 161-172 and
174-255 as the code point of the same number, the other 68 in ascending order as U+0100, U+0101, ...: a space
is U+0120, a newline U+010A.

Ties.  Training merges the pair with the highest count, and among equals the smallest pair, compared by
`tie_rank` of its left and then of its right token.  A merged token ranks by its id; a byte ranks by its
*character* above, not by its value, because that is how Hugging Face's trainer numbers its alphabet: "!" is
first, the space comes after all the letters.  csrc/tokenizer/train.c works in these ranks throughout.
"""

_PLAIN = [*range(33, 127), *range(161, 173), *range(174, 256)]
_OTHER = [b for b in range(256) if b not in _PLAIN]

CHARACTERS: dict[int, str] = {b: chr(b) for b in _PLAIN} | {b: chr(256 + i) for i, b in enumerate(_OTHER)}
BYTES: dict[str, int] = {character: byte for byte, character in CHARACTERS.items()}

BYTES_BY_RANK: list[int] = _PLAIN + _OTHER  # ascending by character
_RANKS = {byte: rank for rank, byte in enumerate(BYTES_BY_RANK)}


def tie_rank(token: int) -> int:
    """Place of a token id in the order of ties."""
    return _RANKS[token] if token < 256 else token


def to_text(token: bytes) -> str:
    """Write a token in the alphabet: to_text(b" a") == "Ġa"."""
    return "".join(map(CHARACTERS.__getitem__, token))


def to_bytes(text: str) -> bytes:
    """Read a token written in the alphabet.  KeyError: a character that stands for no byte."""
    return bytes(map(BYTES.__getitem__, text))
