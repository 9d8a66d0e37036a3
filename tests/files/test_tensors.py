"""safetensors files: what others read and write, what is refused, and how much memory either takes."""

import json
import os
import tracemalloc

import numpy as np
import pytest
import safetensors.numpy

from microgpt.common.errors import CheckpointError
from microgpt.files import durable, records, tensors
from microgpt.files.tensors import not_finite, read_into, shapes_in, write_tensors


def arrays(seed=0, shapes=((3, 5), (7,), (1, 1, 2))):
    draw = np.random.default_rng(seed)
    names = ("h.0.weight", "a", "größe")
    return {n: draw.standard_normal(s, np.float32) for n, s in zip(names, shapes, strict=True)}


def raw(header, payload=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + payload


def entry(shape=(2,), start=0, stop=8, dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


def test_the_library_of_the_format_reads_what_we_write(tmp_path):
    wanted = arrays()
    written = write_tensors(tmp_path / "x", wanted)
    found = safetensors.numpy.load_file(tmp_path / "x")
    assert set(found) == set(wanted)
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name])
    assert written == durable.describe(tmp_path / "x")
    assert int.from_bytes((tmp_path / "x").read_bytes()[:8], "little") % 8 == 0


def test_we_read_what_the_library_writes(tmp_path):
    wanted = arrays()
    safetensors.numpy.save_file(wanted, tmp_path / "x", {"made": "elsewhere"})
    found = {name: np.zeros_like(array) for name, array in wanted.items()}
    read_into(tmp_path / "x", found)
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name])
    assert shapes_in(tmp_path / "x") == {name: array.shape for name, array in wanted.items()}


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "0 bytes are no"),
        (b"1234567", "7 bytes are no"),
        (raw(b"{}", length=1 << 63), "no safetensors file"),
        (raw(b"{}", length=3), "no safetensors file"),
        (raw(b"{}" + b" " * (1 << 21)), "no safetensors file"),
        (raw(b"[]"), "expected a JSON object"),
        (raw(b"{"), "not readable as JSON"),
        (raw(b"[" * 100_000), "not readable as JSON"),
        (raw(b'{"a": NaN}'), "NaN is no number"),
        (raw(b'{"a": 1e999}'), "1e999 is too large a number"),
        (raw(b'{"a": -1%s.0}' % (b"0" * 5000)), "is too large a number"),
        (raw(b"\xff\xfe"), "not readable as JSON"),
        (raw(b'{"a": %s}' % (b"9" * 5000)), "not readable as JSON"),
        (raw(b'{"a": {}, "a": {}}'), "a key stands there twice"),
        (raw({"a": 1}), "does not describe a"),
        (raw({"a": {"dtype": "F32", "shape": [2]}}), "does not describe a"),
        (raw({"a": entry() | {"more": 1}}, bytes(8)), "does not describe a"),
        (raw({"a": entry(dtype="F16")}, bytes(8)), "a is F16, expected F32"),
        (raw({"a": entry(shape=[-2])}, bytes(8)), "impossible"),
        (raw({"a": entry(shape=[2.0])}, bytes(8)), "impossible"),
        (raw({"a": entry(shape=[True])}, bytes(8)), "impossible"),
        (raw({"a": entry(shape=[1] * 9)}, bytes(8)), "impossible"),
        (raw({"a": entry(shape=[1 << 64, 0])}, bytes(8)), "impossible"),
        (raw({"a": {**entry(), "data_offsets": [0]}}, bytes(8)), "impossible"),
        (raw({"a": {**entry(), "shape": "2"}}, bytes(8)), "impossible"),
        (raw({"a": entry(shape=[1 << 62, 1 << 62])}, bytes(8)), "does not fit its place"),
        (raw({"a": entry(shape=[3])}, bytes(8)), "does not fit its place"),
        (raw({"a": entry(start=8, stop=0)}, bytes(8)), "does not fit its place"),
        (raw({"a": entry()}, bytes(7)), "its tensors end"),
        (raw({"a": entry()}, bytes(9)), "its tensors end"),
        (raw({"a": entry(), "b": entry()}, bytes(8)), "does not begin where"),
        (raw({"a": entry(), "b": entry(start=12, stop=20)}, bytes(20)), "does not begin where"),
        (raw({"a": entry(start=4, stop=12)}, bytes(12)), "does not begin where"),
        (raw({"b": entry()}, bytes(8)), "tensor a is missing"),
        (raw({"a": entry(), "b": entry(start=8, stop=16)}, bytes(16)), "tensor b is not part"),
        (raw({"a": entry(shape=[2, 1])}, bytes(8)), r"a is \(2, 1\), this model needs \(2,\)"),
    ],
)
def test_a_hostile_file_is_refused_in_one_line_and_little_memory(tmp_path, content, reason):
    path = tmp_path / "x"
    path.write_bytes(content)
    target = {"a": np.full(2, 7, np.float32)}
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=reason) as error:
        read_into(path, target)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "\n" not in str(error.value) and len(str(error.value)) < 400 and peak < len(content) + (8 << 20)
    assert (target["a"] == 7).all()


def test_json_at_the_limit_takes_bounded_memory(tmp_path):
    for unit in (b"{},", b"[],", b'"a",', b"1.5,"):
        body = b'{"a":[' + unit * ((records.LARGEST_JSON - 20) // len(unit)) + b"0]}"
        (tmp_path / "x").write_bytes(body)
        tracemalloc.start()
        records.read_json(tmp_path / "x")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 64 << 20, unit


@pytest.mark.parametrize("read", [records.read_json, shapes_in, durable.sha256_of])
def test_what_is_no_file_is_refused_without_waiting(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path / "pipe", tmp_path / "folder", tmp_path / "loop", tmp_path / "none", "/dev/zero"):
        with pytest.raises((CheckpointError, OSError)) as error:
            read(type(tmp_path)(path))
        assert "\n" not in str(error.value)


def test_a_value_that_is_not_finite_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(tensors, "FINITE_CHUNK_BYTES", 16)
    values = arrays()
    write_tensors(tmp_path / "x", values)
    assert not_finite(tmp_path / "x") is None
    for name, where in (("a", 6), ("h.0.weight", (2, 4))):
        wrong = arrays()
        wrong[name][where] = np.inf
        path = tmp_path / name
        write_tensors(path, wrong)
        assert not_finite(path) == name


def test_a_header_that_would_not_be_read_is_not_written(tmp_path, monkeypatch):
    size = len(tensors.header(arrays())) - tensors.LENGTH_BYTES
    monkeypatch.setattr(tensors, "LARGEST_JSON", size)
    write_tensors(tmp_path / "x", arrays())
    assert set(shapes_in(tmp_path / "x")) == set(arrays())
    monkeypatch.setattr(tensors, "LARGEST_JSON", size - 1)
    with pytest.raises(CheckpointError, match=f"3 tensors make a header of {size} bytes"):
        write_tensors(tmp_path / "y", arrays())
    assert not (tmp_path / "y").exists()


def test_writing_and_reading_take_no_copy(tmp_path):
    values = {"a": np.ones((1024, 1024), np.float32)}  # 4 MB
    target = {"a": np.zeros((1024, 1024), np.float32)}
    tracemalloc.start()
    write_tensors(tmp_path / "x", values)
    read_into(tmp_path / "x", target)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20 and (target["a"] == 1).all()


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path, monkeypatch):
    write_tensors(tmp_path / "x", {"a": np.ones(8, np.float32)})
    real = durable.size_of
    monkeypatch.setattr(durable, "size_of", lambda file: real(file) + 4)
    with pytest.raises(CheckpointError, match=r"tensors end|became shorter"):
        read_into(tmp_path / "x", {"a": np.ones(8, np.float32)})
