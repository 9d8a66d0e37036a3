"""Byte-level BPE: train, encode, decode; files that Hugging Face `tokenizers` and `tiktoken` open.

    tok = train(["some text", ...], n_merges=4000)
    tok.decode(tok.encode("any text")) == b"any text"
    tok.save("tokenizer.json");  Tokenizer.load("tokenizer.json")

reference.py is the definition in short Python, csrc/bpe*.c the fast form, native.py the door between them.
"""

from tokenizer.errors import TokenizerError
from tokenizer.model import SPECIALS, Tokenizer
from tokenizer.native import MAX_MERGES
from tokenizer.pieces import read_pieces
from tokenizer.streaming import StreamDecoder
from tokenizer.training import MERGES, train

__all__ = [
    "MAX_MERGES",
    "MERGES",
    "SPECIALS",
    "StreamDecoder",
    "Tokenizer",
    "TokenizerError",
    "read_pieces",
    "train",
]
