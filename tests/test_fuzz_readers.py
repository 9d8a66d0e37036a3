"""A short run of what benchmarks/fuzz.py does with folders, without sanitizers; and every number of a run's
configuration in turn as the values that are hard to take."""

import json
import random

import pytest

from benchmarks import _fuzz_files
from benchmarks._fuzz_child import TARGETS
from microgpt.corpus import prepared, token_file
from microgpt.training import checkpoint, config
from microgpt.training.checkpoint import CONFIG
from microgpt.training.documents import read_json

CASES = {"tokens": 150, "checkpoint": 120, "config": 200}


def run(target, n_cases):
    make, check = (getattr(_fuzz_files, name) for name in TARGETS[target][1:])
    for number in range(n_cases):
        check(make(random.Random(f"1 {number}")))


@pytest.mark.parametrize("target", CASES)
def test_nothing_is_found(target):
    run(target, CASES[target])


MISTAKES = {
    "an unchecked sum": ("tokens", token_file.TokenFile, "verify", lambda self: None),
    "an unchecked length": ("tokens", prepared, "MAX_META_BYTES", 1 << 40),
    "unchecked parts": ("checkpoint", checkpoint, "read_config", lambda path: read_json(path / CONFIG)),
    "an unchecked name": ("config", config, "config_from", lambda kind, values: kind(**values)),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_is_found(monkeypatch, name):
    target, place, attribute, wrong = MISTAKES[name]
    monkeypatch.setattr(place, attribute, wrong)
    with pytest.raises(Exception):  # noqa: B017
        run(target, 3 * CASES[target])


FILES = _fuzz_files.checkpoint_files(1)
RUN, STATE = (json.loads(FILES[name]) for name in ("config.json", "state.json"))
SETTINGS = [(part, key) for part in ("model", "train", "data") for key in RUN[part]]
SETTINGS += [("", key) for key in STATE]


@pytest.mark.parametrize("part, key", SETTINGS)
def test_no_value_of_a_setting_is_more_than_a_mistake(part, key):
    for value in _fuzz_files.VALUES:
        run, state = json.loads(FILES["config.json"]), json.loads(FILES["state.json"])
        (run[part] if part else state)[key] = value
        changed = {"config.json": json.dumps(run).encode(), "state.json": json.dumps(state).encode()}
        _fuzz_files.check_config(_fuzz_files.packed(FILES | changed))
