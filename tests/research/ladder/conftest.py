"""Ladders of toys."""

import pytest

from microgpt.research.ladder import evidence
from microgpt.research.ladder.engine import climb
from microgpt.research.ladder.rungs import read_ladder
from tests.research.ladder.toys import RUNGS, SHARED, TEXT, FakeRuns, learned_at_once


@pytest.fixture
def file(tmp_path):
    """The file of a ladder, with its text beside it."""
    (tmp_path / "text.txt").write_text(TEXT)
    file = tmp_path / "ladder.toml"
    file.write_text(SHARED + RUNGS)
    return file


@pytest.fixture
def fake(monkeypatch):
    """Nothing is trained, nor measured."""
    return FakeRuns(monkeypatch)


@pytest.fixture(scope="session")
def whole(tmp_path_factory, data_dir):
    """A folder with text, the file of a ladder, and that ladder climbed to its end past its gates."""
    folder = tmp_path_factory.mktemp("ladder")
    (folder / "text.txt").write_text(TEXT)
    (folder / "ladder.toml").write_text(SHARED + RUNGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MICROGPT_DATA_DIR", str(data_dir))
        patch.setattr(evidence, "overfit", learned_at_once)
        climb(read_ladder(folder / "ladder.toml"), folder / "whole", is_forced=True)
    return folder


@pytest.fixture
def place(whole, monkeypatch):
    """That folder, where nothing has to be learned by heart."""
    monkeypatch.setattr(evidence, "overfit", learned_at_once)
    return whole
