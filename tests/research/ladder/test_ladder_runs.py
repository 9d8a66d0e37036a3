"""A ladder of toys that were really trained: killed and climbed again, what it shows, its page."""

import os
import re
import signal
import subprocess
import sys

import pytest

from microgpt.commands import ladder as command
from microgpt.common.errors import ConfigError
from microgpt.evaluation.laws import Law
from microgpt.files import durable
from microgpt.reporting.ladder_page import ladder_page
from microgpt.research.ablation import trained
from microgpt.research.ladder import evidence
from microgpt.research.ladder.document import document
from microgpt.research.ladder.engine import climb, settle, standings
from microgpt.research.ladder.gates.case import OPEN, PASS
from microgpt.research.ladder.rungs import read_ladder
from microgpt.research.ladder.state import State
from microgpt.research.showed import showed
from microgpt.runs.events import Trained

# Climbs several times, in processes of which a listener kills each at the n-th event.
KILLED = """
import os, signal, sys
from pathlib import Path
from microgpt.research.ladder import evidence
from microgpt.research.ladder.engine import climb
from microgpt.research.ladder.rungs import read_ladder
from microgpt.training.overfit import Overfit
evidence.overfit = lambda *how: Overfit(1.0, how[-1], 100, 0.1)
evidence.is_resumed_exactly = lambda *how: True
file, torn = map(Path, sys.argv[1:3])
for last in map(int, sys.argv[3:]):
    heard = []
    def listener(event):
        heard.append(event)
        if len(heard) == last:
            os.kill(os.getpid(), signal.SIGKILL)
    child = os.fork()  # before anything was computed, so that no thread is lost
    if not child:
        climb(read_ladder(file), torn, [listener], is_forced=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    for leftover in torn.rglob("large-seed*.json"):  # as if it had been killed before that was written
        leftover.unlink()
"""


def timeless(found):
    """What is known of a ladder, without what a clock had to do with."""
    timed = ("began", "seconds", "tok_per_s", "hours", "peak_bytes", "folder")
    if isinstance(found, dict):
        return {name: timeless(one) for name, one in found.items() if name not in timed}
    return [timeless(one) for one in found] if isinstance(found, list) else found


def weights_of(folder):
    return {
        str(path.relative_to(folder)): durable.sha256_of(path)
        for path in folder.rglob("step_00000012/model.safetensors")
    }


def test_a_ladder_that_is_killed_again_and_again_comes_to_the_same_results(place, monkeypatch):
    monkeypatch.setattr(
        evidence, "is_resumed_exactly", lambda *how: True
    )  # that of the whole one was looked at
    torn, file = place / "torn", place / "ladder.toml"
    words = [sys.executable, "-c", KILLED, str(file), str(torn)]
    words += ["14", "35", "33"]  # within the first run; the last event of another; in a later rung
    ended = subprocess.run(
        words, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True
    )
    assert ended.returncode == 0, ended.stderr.decode()
    climb(read_ladder(file), torn, is_forced=True)
    ladder = read_ladder(file)
    one, other = (timeless(document(ladder, State.read(place / name))) for name in ("whole", "torn"))
    assert one == other
    assert len(weights_of(torn)) == 4 and weights_of(torn) == weights_of(place / "whole")


def test_a_run_that_was_stopped_after_its_last_step_is_measured_when_it_goes_on(place, tmp_path):
    plan, last = settle(read_ladder(place / "ladder.toml"))[0][0].plan, 12

    def listener(event):
        if isinstance(event, Trained) and event.step == last:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit):
        trained(plan, tmp_path / "run", [listener])
    checkpoint = trained(plan, tmp_path / "run", [])
    whole = place / "whole" / "small-seed0"
    assert showed(checkpoint.parent).loss == showed(whole).loss
    assert durable.sha256_of(checkpoint / "model.safetensors") == durable.sha256_of(
        whole / checkpoint.name / "model.safetensors"
    )


def test_the_toy_shows_proof_of_life(place):
    ladder, state = read_ladder(place / "ladder.toml"), State.read(place / "whole")
    for one in standings(ladder, state):
        verdicts = {result.gate: result.verdict for result in one.results}
        assert (
            verdicts["resume"] == verdicts["tokenizer"] == verdicts["by_heart"] == verdicts["seeds"] == PASS
        )
        assert verdicts["law"] == verdicts["forecast"] == OPEN
        assert "recipe" not in verdicts and "kappa" not in verdicts, "asked of large ones alone"
        assert len({run["showed"]["loss"] for run in one.case.whole}) == 2


def test_begun_rungs_keep_their_place_their_settings_and_their_hypothesis(place):
    state = State.read(place / "whole")
    text = (place / "ladder.toml").read_text()
    changed = place / "changed.toml"
    for old, new, why in (
        ('name = "small"', 'name = "other"', "rung small was begun as number 1"),
        ("n_embd = 24", "n_embd = 32", r"large was begun with other settings \(n_embd"),
        ("max_steps = 12", "max_steps = 30", r"small was begun with other settings \(max_steps"),
    ):
        changed.write_text(text.replace(old, new))
        with pytest.raises(ConfigError, match=why):
            climb(read_ladder(changed), place / "whole")
    with pytest.raises(ConfigError, match="--budget: rungs were begun without one"):
        climb(read_ladder(place / "ladder.toml"), place / "whole", budget_s=60)
    changed.write_text(
        text.replace("Training works.", "I knew it.").replace("[gates]", "[gates]\ngain = 0.5")
    )
    told = document(read_ladder(changed), state)["rungs"][0]
    assert told["hypothesis"] == "Training works." and told["changed_gates"] == ["gain"]


def test_the_page_needs_nothing_beside_it(place, capsys):
    words = [str(place / "ladder.toml"), "--out-dir", str(place / "whole")]
    assert command.main(["report", *words]) == 0
    page = (place / "whole" / "report.html").read_text()
    for text in (
        "Training works.",
        "More helps.",
        "Four questions",
        "resumes exactly",
        "<svg",
        "Forced past",
    ):
        assert text in page
    assert "prefers-color-scheme: dark" in page and "var(--ink)" in page
    assert not re.search(r"""(src|href)="(?!#)|@import|url\((?!#)""", page.replace("xlink:href", "href"))
    told = document(read_ladder(place / "ladder.toml"), State.read(place / "whole"))
    told["rungs"][1]["foretold"] |= {"loss": 2.5, "run_low": 2.4, "run_high": 2.6, "hours": None}
    del told["rungs"][1]["foretold"]["why_not"]
    law = Law(0.5, 20.0, 0.25, ratio=4.0)._asdict()
    told["law"] = {"law": law, "r_squared": 0.99, "spread": 0.01, "n_runs": 4, "n_sizes": 2}
    page = ladder_page(told)
    assert "0.5 + 20 N^-0.25, along 4 tokens" in page and "2.4000 to 2.6000" in page and "0.9900" in page
    (place / "mine.html").write_text("mine")
    with pytest.raises(ConfigError, match="not made by microgpt"):
        command.main(["report", *words, "--out", str(place / "mine.html")])
