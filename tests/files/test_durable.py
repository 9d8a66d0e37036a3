"""Writing in place of another file, and the lock of a directory."""

import os
import threading

import pytest

from microgpt.files import durable


def test_a_replaced_file_is_the_old_one_or_the_new_one(tmp_path, monkeypatch):
    place = tmp_path / "a"
    for content in (b"old", b"new"):
        written = durable.replace_file(place, [content[:1], content[1:]])
        assert place.read_bytes() == content and written.sha256 == durable.sha256_of(place)
    full = OSError(28, os.strerror(28))
    for step in ("sync", "_write_all"):
        with monkeypatch.context() as patch:
            patch.setattr(durable, step, lambda *_: (_ for _ in ()).throw(full))
            with pytest.raises(OSError, match="No space"):
                durable.replace_file(place, [b"half"])
        assert place.read_bytes() == b"new" and os.listdir(tmp_path) == ["a"]


def test_a_lock_is_waited_for_only_where_somebody_hears_of_it(tmp_path):
    held, told = durable.lock_directory(tmp_path), threading.Event()
    with pytest.raises(BlockingIOError):
        durable.lock_directory(tmp_path)
    got = []
    other = threading.Thread(target=lambda: got.append(durable.lock_directory(tmp_path, told.set)))
    other.start()
    assert told.wait(60) and not got
    os.close(held)
    other.join(60)
    os.close(got[0])
    os.close(durable.lock_directory(tmp_path, told.clear))
    assert told.is_set(), "nobody was there to wait for"


def test_the_hash_of_a_file_tells_how_far_it_is(tmp_path):
    (tmp_path / "a").write_bytes(bytes(3 * durable.CHUNK_BYTES + 5))
    parts = []
    durable.sha256_of(tmp_path / "a", parts.append)
    assert sum(parts) == 3 * durable.CHUNK_BYTES + 5 and len(parts) == 4
