"""Searches of toys, for tests of searching and of what comes after it."""

import json

import pytest

from microgpt.commands import search as command
from microgpt.research import search as room
from microgpt.research.search_file import search_from
from tests.research.search.toys import RUN, TEXT, Kept, document

HEAD = """
candidates = 2
startup = 2
population = 2
tokens = 1280
rung = 0.4
stop = "never"
finalists = 1
seeds = 2
[run]
data = "text.txt"
"""  # of five steps, the rung after two
SPACE = "[space]\nlr = {low = 1e-3, high = 1e-2}\n"


@pytest.fixture
def made(write):
    """Makes a search."""
    return lambda *args, **settings: search_from(document(write, *args, **settings))


@pytest.fixture
def kept(monkeypatch):
    """What comes of draws is kept in lists, by folder."""
    folders = {}
    monkeypatch.setattr(room, "Store", lambda folder, config: Kept(folders.setdefault(folder, [])))


@pytest.fixture(scope="session")
def searched(tmp_path_factory, data_dir):
    """A folder with the file of a search, small.toml, and that search with its finalist, whole."""
    place = tmp_path_factory.mktemp("search")
    (place / "text.txt").write_text(
        "".join(TEXT.replace(" of number ", f" of number {n}") for n in range(1, 10))
    )
    lines = [f"{name} = {json.dumps(value)}" for name, value in {**RUN, "n_layer": 1}.items()]
    (place / "small.toml").write_text("\n".join([HEAD, *lines, SPACE]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MICROGPT_DATA_DIR", str(data_dir))
        command.main(["run", str(place / "small.toml"), "--out-dir", str(place / "whole")])
    return place
