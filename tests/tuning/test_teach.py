"""Lessons from a person: learned, saved, taken back, gone on with to the bit."""

import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from microgpt.commands.teach import main, taught
from microgpt.common.errors import CheckpointError, ConfigError
from microgpt.common.output import harmless
from microgpt.corpus.chat import Message
from microgpt.model import IGNORED
from microgpt.runs.checkpoint import load_model
from microgpt.runs.inspection import look, tasks_of_run
from microgpt.runs.layout import checkpoints
from microgpt.runs.spec import Spec
from microgpt.training.run import train_run
from microgpt.tuning import teach as room
from microgpt.tuning.teach import STEPS, Teacher, lesson
from tests.training.toys import ended_by_kill, small, text  # noqa: F401

ASK = [Message("user", "Who is it?")]


@pytest.fixture
def parent(text):  # noqa: F811
    return train_run(small(text, 4, merges=60, seq_len=48), "runs/parent", [])


def newest(run):
    return checkpoints(Path(run))[0][1]


def weights(run):
    return (newest(run) / "model.safetensors").read_bytes()


def test_an_answer_is_learned_and_only_the_answer(parent):
    teacher = Teacher("parent", Path("runs/a"))
    assert teacher.replays
    batch = lesson(ASK, "It is me.", teacher)
    learned = batch.targets[batch.targets != IGNORED]
    end = teacher.tokenizer.special_id("<|end|>")
    assert learned.tolist() == [*teacher.tokenizer.encode("It is me.").tolist(), end]
    losses = [teacher.teach(ASK, "It is me.") for _ in range(4)]
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0] - 0.005
    assert teacher.state.step == teacher.optimizer.updates == 4 * (STEPS + 1)


def test_a_lesson_longer_than_the_window_keeps_its_answer(parent):
    teacher = Teacher("parent", Path("runs/a"))
    batch = lesson([Message("user", "Why? " * 30)], "Yes.", teacher)
    learned = batch.targets[batch.targets != IGNORED]
    assert batch.ids.shape == (1, 48) and teacher.tokenizer.decode(learned[:-1]).decode() == "Yes."


def test_lessons_go_on_to_the_bit_and_are_taken_back_to_the_bit(parent):
    straight = Teacher("parent", Path("runs/a"))
    offered = [straight.candidates(ASK)]
    straight.teach(ASK, "It is me.", offered[0])
    after_one = weights("runs/a")
    offered.append(straight.candidates(ASK))
    straight.teach(ASK, "It is you.")
    straight.teach(ASK, offered[1][2], offered[1])
    assert straight.lessons[-1]["rejected"] == [*offered[1][:2], *offered[1][3:]]
    assert straight.undo()
    first = Teacher("parent", Path("runs/b"))
    first.teach(ASK, "It is me.", offered[0])
    again = Teacher("parent", Path("runs/b"))  # as after a kill
    assert again.candidates(ASK) == offered[1] and len(offered[1]) == 5
    again.teach(ASK, "It is you.")
    assert weights("runs/b") == weights("runs/a")
    assert again.undo() and weights("runs/b") == after_one
    pairs = [json.loads(line) for line in Path("runs/b/pairs.jsonl").read_text().splitlines()]
    assert [pair["chosen"] for pair in pairs] == ["It is me."] and pairs[0]["rejected"] == offered[0]
    assert again.undo() and not again.undo()
    base, taught = load_model("parent")[0], load_model("b")[0]
    assert np.array_equal(base.params.flat, taught.params.flat)
    assert [finding.problem for finding in look(tasks_of_run(Path("runs/a")))] == [""] * 3


def test_a_run_of_something_else_is_not_taught_over(parent, text):  # noqa: F811
    with pytest.raises(ConfigError, match="holds a run without lessons"):
        Teacher("parent", Path("runs/parent"))
    Teacher("parent", Path("runs/a")).teach(ASK, "It is me.")
    train_run(small(text, 2, merges=60, seq_len=48), "runs/other", [])
    with pytest.raises(CheckpointError, match="holds lessons of another model"):
        Teacher("other", Path("runs/a"))


def test_pairs_of_somebody_else_stay_and_those_of_lessons_come_back(parent):
    own = Path("tt/pairs.jsonl")
    own.parent.mkdir()
    own.write_text("mine\n")
    with pytest.raises(ConfigError, match=r"pairs\.jsonl is not of lessons here"):
        Teacher("parent", own.parent)
    assert own.read_text() == "mine\n" and [*own.parent.iterdir()] == [own]
    with pytest.raises(ConfigError, match="is a checkpoint"):
        Teacher("parent", Path("runs/x/step_00000001"))
    teacher, written = Teacher("parent", Path("runs/a")), Path("runs/a/pairs.jsonl")
    assert not written.exists()
    teacher.teach(ASK, "It is me.")
    whole = written.read_bytes()
    written.unlink()  # as if killed before it was written
    Teacher("parent", Path("runs/a"))
    assert written.read_bytes() == whole
    assert teacher.undo() and written.read_bytes() == b""


class Asked:
    """Offers three answers and keeps what it is taught."""

    def __init__(self):
        self.learned = []

    def candidates(self, messages):
        return ["a", "b", "c"]

    def teach(self, messages, answer, offered):
        self.learned.append(answer)
        return 0.0


def test_what_is_typed_is_a_pick_or_an_answer():
    typed = ["2", "= 2", "4", "==2", "\N{SUPERSCRIPT TWO}", "9" * 5000, "=", ""]
    asked = Asked()
    told = [taught(asked, ASK, iter([line])) for line in typed]
    assert told == ["b", "2", "4", "=2", "\N{SUPERSCRIPT TWO}", "9" * 5000, "", ""]
    assert asked.learned == told[:-2]


def test_the_command_in_a_pipe(parent, monkeypatch, capsys):
    typed = "Who is it?\n2\nWhat now?\nNothing.\n\n/undo\nHello?\n\n/quit\nnever\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert main(["parent", "--threads", "1"]) == 0
    out = capsys.readouterr()
    assert "held out" in out.out and "bits per byte before" in out.out and "1 lesson;" in out.out
    assert "taken back" in out.err
    (pair,) = map(json.loads, Path("runs/parent-taught/pairs.jsonl").read_text().splitlines())
    assert f"\n2  {harmless(pair['chosen'])}\n3  " in out.out and len(pair["rejected"]) == 4
    monkeypatch.setattr("sys.stdin", io.StringIO("/quit\n"))
    assert (
        main(["parent", "--threads", "1"]) == 0
        and "1 lesson in runs/parent-taught" in capsys.readouterr().err
    )


@pytest.mark.parametrize("typed", ["", "/quit\n", "Who is it?\n\n/undo\n"])
def test_without_a_lesson_nothing_is_made(parent, typed, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert main(["parent", "--threads", "1"]) == 0
    out = capsys.readouterr().out
    assert "nothing was learned, so nothing is saved" in out and "chat" not in out
    assert [path.name for path in Path("runs").iterdir()] == ["parent"]


KILLED = """
import os, signal, sys
from microgpt.commands.teach import main
from microgpt.tuning.teach import Teacher

name, moments, whole = sys.argv[2], iter(range(int(sys.argv[3]))), getattr(Teacher, sys.argv[2])

def killing(teacher, *args):
    if next(moments, None) is None:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(teacher, *args)

setattr(Teacher, name, killing)
main(["parent", "--threads", "1", "--out-dir", sys.argv[1]])
"""


def test_lessons_that_were_killed_go_on_to_the_bit(parent, monkeypatch):
    """In the middle of a lesson, which is gone; and between its checkpoint and its pairs: that is saved."""
    lessons = ["Who is it?\n2\n/new\n", "What now?\nNothing.\n/new\n", "And you?\n3\n/new\n"]

    def taught_here(run, typed):
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        assert main(["parent", "--threads", "1", "--out-dir", run]) == 0

    taught_here("runs/straight", "".join(lessons))
    in_second = "_step", (STEPS + 1) + 1
    assert ended_by_kill(KILLED, "runs/killed", *in_second, input="".join(lessons).encode())
    assert Teacher("parent", Path("runs/killed")).state.step == STEPS + 1
    assert ended_by_kill(KILLED, "runs/killed", "_write_pairs", 1, input="".join(lessons[1:]).encode())
    taught_here("runs/killed", lessons[2])
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (newest("runs/killed") / name).read_bytes() == (newest("runs/straight") / name).read_bytes()
    pairs = [Path(run, "pairs.jsonl").read_text() for run in ("runs/straight", "runs/killed")]
    assert pairs[0] == pairs[1] and pairs[0].count("\n") == 3


def test_the_exam_is_measured_where_a_model_before_was_trained_on_the_embedded_corpus(parent, monkeypatch):
    marked = []
    monkeypatch.setattr(room, "take_exam", lambda *asked: marked.append(asked) or SimpleNamespace(share=0.5))
    assert Teacher("parent", Path("runs/plain")).effect().exam is None and not marked
    train_run(small("smalltalk", 2, merges=60, seq_len=48, smalltalk_bytes=9000), "runs/chatty", [])
    told = Spec.of(parent="chatty", data="text.txt", max_steps=2, threads="1", sample_every=0, probes=False)
    train_run(told, "runs/child", [])
    assert Teacher("child", Path("runs/a")).effect().exam == 0.5

    def no_room(*asked):
        raise ConfigError("no room")

    monkeypatch.setattr(room, "take_exam", no_room)
    assert Teacher("child", Path("runs/a")).effect().exam is None, "what was learned is told all the same"
