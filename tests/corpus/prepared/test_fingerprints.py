"""Hashes of documents: equal for equal documents, wherever they stand."""

import hashlib

import numpy as np

from microgpt.corpus.chat import Message, render
from microgpt.corpus.prepared.fingerprints import fingerprints
from microgpt.corpus.token_file import TokenFile, write_token_file


def hashes(path, documents, tokenizer):
    write_token_file(path, [render(document, tokenizer) for document in documents], tokenizer)
    return fingerprints(TokenFile.open(path))


def test_equal_documents_are_equal_wherever_they_stand_and_others_differ(tmp_path, tokenizer):
    chat = [Message("user", "hello"), Message("assistant", "fine")]
    other = [Message("user", "hello"), Message("user", "fine")]
    one = hashes(tmp_path / "a", ["hello", chat, "thank you", other, "hello"], tokenizer)
    two = hashes(tmp_path / "b", ["x", "hello", chat], tokenizer)
    assert one.dtype == np.dtype("<u8") and len(set(one.tolist())) == 4 and one[0] == one[4]
    assert [two[1], two[2]] == [one[0], one[1]] and two[0] not in one


def test_the_hash_is_fixed_for_ever(tmp_path, tokenizer):
    """Runs keep it; another value would forget what they were trained on."""
    ids = np.array([1, 2, 300 % tokenizer.vocab_size], np.int32)
    write_token_file(tmp_path / "a", [ids], tokenizer)
    want = int.from_bytes(hashlib.blake2b(ids.astype("<u2").tobytes(), digest_size=8).digest(), "little")
    assert fingerprints(TokenFile.open(tmp_path / "a")).tolist() == [want]
