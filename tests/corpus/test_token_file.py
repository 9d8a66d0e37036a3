import os
import struct
import zlib

import numpy as np
import pytest

from microgpt.common.errors import DataError
from microgpt.corpus import token_file
from microgpt.corpus.chat import render, render_packed
from microgpt.corpus.token_file import HEADER_BYTES, TokenFile, TokenFileWriter, write_token_file

DOCUMENTS = ["hello there", "how are you?", "ä € 𝄞", "fine"]


@pytest.fixture
def arrays(tokenizer):
    return [render(document, tokenizer) for document in DOCUMENTS]


@pytest.fixture
def path(tmp_path, arrays, tokenizer):
    write_token_file(tmp_path / "x.tokens", arrays, tokenizer)
    return tmp_path / "x.tokens"


class Wide:
    """A tokenizer with more ids than two bytes hold."""

    vocab_size, sha256 = 70_000, "ab" * 32
    byte_lengths = np.ones(70_000, np.int32)


def test_what_was_written_is_read(path, arrays, tokenizer):
    tokens = TokenFile.open(path, tokenizer.sha256)
    assert tokens.ids.tolist() == np.concatenate(arrays).tolist()
    assert tokens.offsets.tolist() == np.cumsum([0, *map(len, arrays)])[:-1].tolist()
    assert tokens.n_tokens == sum(map(len, arrays))
    assert tokens.n_documents == 4
    assert tokens.n_bytes == sum(len(text.encode()) for text in DOCUMENTS)
    assert tokens.vocab_size == tokenizer.vocab_size
    assert tokens.tokenizer_sha256 == tokenizer.sha256
    tokens.verify()


def test_the_ids_are_mapped_and_read_only(path):
    tokens = TokenFile.open(path)
    assert isinstance(tokens.ids, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        tokens.ids[0] = 1


def test_the_layout_is_the_documented_one(path, tokenizer, arrays):
    data = path.read_bytes()
    n = sum(map(len, arrays))
    assert data[:8] == b"MGTOKENS"
    assert struct.unpack_from("<III", data, 8) == (1, 2, tokenizer.vocab_size)
    assert struct.unpack_from("<QQ", data, 24) == (n, 4)
    assert data[48:80].hex() == tokenizer.sha256
    assert struct.unpack_from("<I", data, 84)[0] == zlib.crc32(data[:84])
    assert np.frombuffer(data, "<u2", n, HEADER_BYTES).tolist() == np.concatenate(arrays).tolist()
    assert np.frombuffer(data[-32:], "<u8").tolist() == TokenFile.open(path).offsets.tolist()


def test_two_writings_are_the_same_bytes(path, tmp_path, arrays, tokenizer):
    write_token_file(tmp_path / "y.tokens", arrays, tokenizer)
    assert (tmp_path / "y.tokens").read_bytes() == path.read_bytes()


def test_large_vocabularies_take_four_bytes_an_id(tmp_path):
    write_token_file(tmp_path / "w", [np.array([69_999, 0, 65_536], np.int32)], Wide())
    tokens = TokenFile.open(tmp_path / "w")
    assert tokens.ids.tolist() == [69_999, 0, 65_536]
    assert tokens.ids.dtype.itemsize == 4


def test_another_tokenizer_is_refused_by_name(path, tokenizer, other_tokenizer):
    with pytest.raises(DataError, match=f"{tokenizer.sha256[:12]}.*{other_tokenizer.sha256[:12]}"):
        TokenFile.open(path, other_tokenizer.sha256)


def test_an_unfinished_file_is_not_a_token_file(tmp_path, arrays, tokenizer):
    with pytest.raises(RuntimeError), TokenFileWriter(tmp_path / "u", tokenizer) as writer:
        writer.add(render_packed(DOCUMENTS, tokenizer))
        raise RuntimeError
    with pytest.raises(DataError, match="not a token file"):
        TokenFile.open(tmp_path / "u")


def test_every_header_byte_counts(path):
    whole = path.read_bytes()
    for at in range(HEADER_BYTES):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        with pytest.raises(DataError, match=r"x\.tokens"):
            TokenFile.open(path)


def test_every_cut_and_every_addition_is_noticed(path):
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError):
            TokenFile.open(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(DataError, match="bytes long"):
        TokenFile.open(path)


def test_every_bit_of_the_body_counts_when_verified(path):
    whole = path.read_bytes()
    for at in range(HEADER_BYTES, len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        with pytest.raises(DataError):
            TokenFile.open(path).verify()


HUGE = (1 << 64) - 1
HOSTILE = {
    "width 3": {"id_width": 3},
    "width 0": {"id_width": 0},
    "no vocabulary": {"vocab_size": 0},
    "vocabulary over width": {"vocab_size": 70_000},
    "no tokens": {"n_tokens": 0},
    "no documents": {"n_documents": 0},
    "more documents than tokens": {"n_documents": 10**6},
    "huge tokens": {"n_tokens": HUGE},
    "wrapping tokens": {"n_tokens": 1 << 63, "n_documents": 1},
    "huge documents": {"n_tokens": HUGE, "n_documents": HUGE},
}


@pytest.mark.parametrize("lie", HOSTILE.values(), ids=HOSTILE)
def test_a_header_with_a_valid_checksum_is_still_not_believed(path, lie):
    data = bytearray(path.read_bytes())
    places = {"id_width": 12, "vocab_size": 16, "n_tokens": 24, "n_documents": 32}
    for name, value in lie.items():
        struct.pack_into("<I" if places[name] < 24 else "<Q", data, places[name], value)
    struct.pack_into("<I", data, 84, zlib.crc32(data[:84]))
    path.write_bytes(data)
    with pytest.raises(DataError, match="damaged token file"):
        TokenFile.open(path)


BODIES = {
    "id": (HEADER_BYTES, "<H", 60_000, "outside its vocabulary"),
    "first": (-32, "<Q", 1, "out of order"),
    "rising": (-16, "<Q", 1, "out of order"),
    "last": (-8, "<Q", 1 << 40, "out of order"),
    "huge": (-8, "<Q", HUGE, "out of order"),
}


@pytest.mark.parametrize("at, kind, value, reason", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("block_bytes", [8, 1 << 20])
def test_a_body_with_a_valid_checksum_is_still_not_believed(
    path, monkeypatch, at, kind, value, reason, block_bytes
):
    monkeypatch.setattr(token_file, "_BLOCK_BYTES", block_bytes)
    data = bytearray(path.read_bytes())
    TokenFile.open(path).verify()
    struct.pack_into(kind, data, at % len(data), value)
    struct.pack_into("<I", data, 20, zlib.crc32(data[HEADER_BYTES:]))
    struct.pack_into("<I", data, 84, zlib.crc32(data[:84]))
    path.write_bytes(data)
    with pytest.raises(DataError, match=reason):
        TokenFile.open(path).verify()


def test_a_file_that_becomes_shorter_while_it_is_open_is_one_clear_line(path):
    tokens = TokenFile.open(path)
    os.truncate(path, HEADER_BYTES + 8)
    with pytest.raises(DataError, match=r"x\.tokens: cannot read"):
        tokens.verify()


def test_other_things_are_refused(tmp_path, path):
    os.mkfifo(tmp_path / "pipe")
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, 8, 2)
    (tmp_path / "new").write_bytes(data)
    reasons = {"pipe": "not a token", "new": "format 2", ".": "open|not a", "nowhere": "cannot open"}
    for name, reason in reasons.items():
        with pytest.raises(DataError, match=reason):
            TokenFile.open(tmp_path / name)
