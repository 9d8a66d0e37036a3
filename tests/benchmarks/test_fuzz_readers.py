"""A short run of what benchmarks.fuzz does with folders and files, without sanitizers; and every number of
a run's configuration in turn as the values that are hard to take."""

import importlib
import itertools
import json
import os
import random
import tempfile

import pytest

from benchmarks.fuzz import corpus, files
from benchmarks.fuzz.child import TARGETS
from microgpt.common.errors import DataError
from microgpt.corpus import token_file
from microgpt.corpus.prepared import folder
from microgpt.corpus.prepared.corpus import Corpus
from microgpt.files.records import read_json
from microgpt.runs import checkpoint, settings
from microgpt.runs.checkpoint import CONFIG

CASES = {"tokens": 60, "checkpoint": 50, "config": 80, "readers": 30}


@pytest.fixture(autouse=True)
def in_memory(monkeypatch):
    """Thousands of folders are made and removed, for which a disk takes longer than all else."""
    if os.access("/dev/shm", os.W_OK):
        monkeypatch.setattr(tempfile, "tempdir", "/dev/shm")


@pytest.fixture(autouse=True)
def small_bombs(monkeypatch):
    monkeypatch.setattr(corpus, "BOMB_BYTES", 1 << 20)


def run(target, n_cases):
    module = importlib.import_module(f"benchmarks.fuzz.{TARGETS[target].module}")
    make, check = (getattr(module, name) for name in TARGETS[target][1:])
    for number in range(n_cases):
        check(make(random.Random(f"1 {number}")))


@pytest.mark.parametrize("target", CASES)
def test_nothing_is_found(target):
    run(target, CASES[target])


def refuse(reason):
    raise type("Refused", (DataError,), {"__str__": lambda self: reason})


def forgetful(read):
    """Every second time without the first document."""
    times = itertools.count()
    return lambda *args: itertools.islice(read(*args), next(times) % 2, None)


MISTAKES = {
    "an unchecked sum": ("tokens", token_file.TokenFile, "verify", lambda self: None),
    "an unchecked length": ("tokens", folder, "MAX_META_BYTES", 1 << 40),
    "unchecked parts": ("checkpoint", checkpoint, "read_config", lambda path: read_json(path / CONFIG)),
    "an unchecked name": ("config", settings, "record_from", lambda kind, values, where: kind(**values)),
    "an error of Python's": ("readers", Corpus, "digest", lambda self: b"\xff".decode()),
    "an error of two lines": ("readers", Corpus, "digest", lambda self: refuse("two\u2028lines\n")),
    "memory without bound": ("readers", Corpus, "digest", lambda self: bytearray(200 << 20)),
    "documents that differ": ("readers", Corpus, "sides", forgetful(Corpus.sides)),
    "a file left behind": ("readers", Corpus, "check_unchanged", lambda self: self.files[0].touch()),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_is_found(monkeypatch, name):
    target, place, attribute, wrong = MISTAKES[name]
    monkeypatch.setattr(place, attribute, wrong)
    with pytest.raises(Exception):  # noqa: B017
        run(target, 400)


FILES = files.checkpoint_files(1)
RUN, STATE = (json.loads(FILES[name]) for name in ("config.json", "state.json"))
SETTINGS = [(part, key) for part in ("model", "train", "data") for key in RUN[part]]
SETTINGS += [("", key) for key in STATE]


@pytest.mark.parametrize("part, key", SETTINGS)
def test_no_value_of_a_setting_is_more_than_a_mistake(part, key):
    for value in files.VALUES:
        run, state = json.loads(FILES["config.json"]), json.loads(FILES["state.json"])
        (run[part] if part else state)[key] = value
        changed = {"config.json": json.dumps(run).encode(), "state.json": json.dumps(state).encode()}
        files.check_config(files.packed(changed))  # other files of a checkpoint are not read for it
