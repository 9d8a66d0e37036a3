"""Searches with real runs of five steps: killed, told, and equal to runs that never paused."""

import dataclasses
import json
import os
import signal

import pytest

from microgpt.commands import search as command
from microgpt.research.search import Candidates, RunTrainer, place_of, run_search
from microgpt.research.search_file import read_search
from microgpt.research.trials import read_trials
from microgpt.runs.events import Trained
from microgpt.training.run import train_run
from tests.research.search.toys import STEP, apart_from_speed, sha_of


def test_a_killed_search_goes_on_and_survivors_equal_straight_runs(searched, tmp_path):
    toml, folder = searched / "small.toml", tmp_path / "torn"
    search, trials = read_trials(searched / "whole")
    steps = []

    def listener(event):
        if isinstance(event, Trained):
            steps.append(event.step)
            if len(steps) in (3, 7):  # past the rung of the first; before that of the second
                raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_search(read_search(toml), folder, RunTrainer(folder, [listener]))
    torn = run_search(read_search(toml), folder, RunTrainer(folder, [listener]))
    assert steps == [1, 2, 3, 3, 4, 5, 1, 1, 2, 3, 4, 5], "from the rung, or again"
    assert apart_from_speed(torn) == apart_from_speed(trials)
    one = trials[1]
    straight = train_run(Candidates(search).sparse_spec(one.settings), tmp_path / "straight", [])
    shas = [sha_of(straight.run), *(sha_of(place_of(x, 1)) for x in (searched / "whole", folder))]
    assert len(set(shas)) == 1
    assert straight.metrics["val_bpb"] == one.bpb != one.rung_bpb


def test_what_was_found_is_told_and_drawn(searched, tmp_path, capsys):
    _, trials = read_trials(searched / "whole")
    command.main(["frontier", str(searched / "whole")])
    out = capsys.readouterr().out
    assert "2 finished" in out and f"; {10 * STEP:,} tokens" in out and "| bits/byte |" in out
    command.main(["frontier", str(searched / "whole"), "--json", "--plot", str(tmp_path / "front.svg")])
    best = json.loads(capsys.readouterr().out)
    assert best[0]["bpb"] == min(other.bpb for other in trials) and (tmp_path / "front.svg").stat().st_size
    command.main(["frontier", str(searched / "whole"), "--csv"])
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(trials)


def test_a_signal_between_the_last_step_and_what_is_measured_there_loses_nothing(searched, tmp_path):
    search, steps = read_search(searched / "small.toml"), [2, 5]  # those of the rung, and all

    def listener(event):
        if isinstance(event, Trained) and event.step in steps:
            steps.remove(event.step)
            os.kill(os.getpid(), signal.SIGTERM)

    one = search._replace(config=dataclasses.replace(search.config, candidates=1))
    for _ in range(2):
        with pytest.raises(SystemExit):
            run_search(one, tmp_path / "torn", RunTrainer(tmp_path / "torn", [listener]))
    torn = run_search(one, tmp_path / "torn", RunTrainer(tmp_path / "torn", [listener]))[0]
    whole = read_trials(searched / "whole")[1][0]
    assert (torn.rung_bpb, torn.bpb) == (whole.rung_bpb, whole.bpb) and torn.bpb is not None
    assert sha_of(place_of(tmp_path / "torn", 0)) == sha_of(place_of(searched / "whole", 0))
