"""Writing in place of another file, and the lock of a directory."""

import os
import subprocess
import sys

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


HOLD = """
import sys; from pathlib import Path; from microgpt.files.durable import lock_directory
lock_directory(Path(sys.argv[1])); print("held", flush=True); sys.stdin.read()
"""


def test_a_lock_is_waited_for_only_where_somebody_hears_of_it(tmp_path):
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError):
            durable.lock_directory(tmp_path)
        lock = durable.lock_directory(tmp_path, other.stdin.close)  # it is told, and the other one ends
    durable.unlock_directory(lock)
    durable.unlock_directory(durable.lock_directory(tmp_path, lambda: pytest.fail("nobody holds it")))


def test_nobody_waits_for_a_lock_of_ones_own(tmp_path):
    lock = durable.lock_directory(tmp_path)
    with pytest.raises(OSError, match="in use by this very command"):
        durable.lock_directory(tmp_path, lambda: pytest.fail("it would wait for ever"))
    durable.unlock_directory(lock)
    durable.unlock_directory(durable.lock_directory(tmp_path))


def test_the_hash_of_a_file_tells_how_far_it_is(tmp_path):
    (tmp_path / "a").write_bytes(bytes(3 * durable.CHUNK_BYTES + 5))
    parts = []
    durable.sha256_of(tmp_path / "a", parts.append)
    assert sum(parts) == 3 * durable.CHUNK_BYTES + 5 and len(parts) == 4
