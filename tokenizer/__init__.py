"""Byte-level BPE: train, encode, decode; files that Hugging Face `tokenizers` and `tiktoken` open.

    tok = train(["some text", ...], n_merges=4000)
    tok.decode(tok.encode("any text")) == b"any text"
    tok.save("tokenizer.json");  Tokenizer.load("tokenizer.json")

reference.py is the definition in short Python, csrc/tokenizer the fast form, native.py the door between them.
"""

from microgpt.tokenizer.errors import TokenizerError
from microgpt.tokenizer.model import SPECIALS, Tokenizer
from microgpt.tokenizer.native import MAX_MERGES
from microgpt.tokenizer.pieces import read_pieces
from microgpt.tokenizer.streaming import StreamDecoder
from microgpt.tokenizer.training import MERGES, train

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
