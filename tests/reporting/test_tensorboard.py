"""What TensorBoard reads: each number under its name with its unit, at its step."""

import dataclasses
import struct
from importlib.util import find_spec

import pytest

from microgpt.reporting.tensorboard import FOLDER, TensorBoard
from microgpt.runs.events import Ended, Sampled
from tests.reporting.fakes import evaluated, start, trained

pytestmark = pytest.mark.skipif(find_spec("tensorboardX") is None, reason="tensorboardX is not installed")


def scalars(folder):
    """(step, name, value) of what lies in a folder's files: records of a length, a checksum, an event."""
    from tensorboardX.proto.event_pb2 import Event

    for path in folder.iterdir():
        data, place = path.read_bytes(), 0
        while place < len(data):
            (n,) = struct.unpack("<Q", data[place : place + 8])
            event = Event.FromString(data[place + 12 : place + 12 + n])
            yield from ((event.step, one.tag, one.simple_value) for one in event.summary.value)
            place += 12 + n + 4


def test_numbers_are_written_every_so_many_steps(tmp_path):
    board = TensorBoard(every=10)
    begun = dataclasses.replace(start(), run=str(tmp_path))
    for event in (
        begun,
        evaluated(0, 2.0),
        *map(trained, range(1, 21)),
        Sampled(20, "x"),
        Ended(20, "", 0.0),
    ):
        board(event)
    found = {(step, name): value for step, name, value in scalars(tmp_path / FOLDER)}
    assert found[0, "bpb/held_out"] == 1.0 and found[0, "loss_nats/held_out"] == 2.0
    steps = [step for step, name in found if name == "loss_nats/training"]
    assert steps == [1, 10, 20] and found[10, "tok_per_s"] == pytest.approx(17_003)
    assert found[20, "lr"] == pytest.approx(1e-3)
