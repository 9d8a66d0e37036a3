"""The quickstart's order of steps; the steps themselves are tested as commands."""

import pytest

from microgpt.commands import quickstart
from microgpt.corpus.smalltalk import conversation


class Calls(list):
    """What was called; `flags`: of the last training."""


@pytest.fixture
def called(tmp_path, monkeypatch):
    """An empty folder, and the list of what was called; training leaves a checkpoint unless it is done."""
    calls = Calls()

    def train(flags):
        calls.append("resume" if "--resume" in flags else "train")
        calls.flags = flags
        step = len(list(tmp_path.glob("run/step_*")))
        if step < 2:
            (tmp_path / f"run/step_{step:08d}").mkdir(parents=True)
        return 130 if step == 0 else 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(quickstart.train, "main", train)
    monkeypatch.setattr(quickstart.eval, "main", lambda flags: calls.append("exam"))
    monkeypatch.setattr(quickstart, "show_conversation", lambda run: calls.append("talk"))
    return calls


def test_a_stopped_quickstart_goes_on_and_is_examined_once_it_is_done(called):
    assert quickstart.main(["--out-dir", "run"]) == 130 and called == ["train"]
    assert quickstart.main(["--out-dir", "run"]) == 0 and called[1:] == ["resume", "exam", "talk"]
    assert quickstart.main(["--out-dir", "run"]) == 0 and called[4:] == ["resume", "talk"]


def test_what_was_typed_counts_for_a_run_that_goes_on_too(called):
    quickstart.main(["--out-dir", "run", "--max-time", "40s"])
    assert called.flags == ["--out-dir", "run", *quickstart.RECIPE.split(), "--max-time", "40s"]
    quickstart.main(["--out-dir", "run", "--max-time", "10s", "--preset", "tiny"])
    assert called.flags == ["--resume", "run", "--preset", "tiny", "--max-time", "10s"]
    quickstart.main(["--out-dir", "another", "--seed", "7"])
    assert called.flags[-2:] == ["--seed", "7"]
    quickstart.main(["--out-dir", "small", "--preset", "tiny"])
    assert called.flags[-4:] == ["--preset", "tiny", "--shallow-blocks", "0"], "it has no more blocks"
    quickstart.main(["--out-dir", "run"])
    assert called.flags == ["--resume", "run"]


class Parrot:
    """A session that says what the test hands it."""

    def __init__(self, answers):
        self.answers = iter(answers)

    def reply(self, text):
        yield from next(self.answers)


def shown(monkeypatch, capsys, answers, seed):
    """What the sample conversation prints where the model answers so."""
    monkeypatch.setattr(quickstart, "find_checkpoint", lambda run, files, best: run)
    monkeypatch.setattr(quickstart, "load_verified", lambda run: (None, None, None))
    monkeypatch.setattr(quickstart, "ChatSession", lambda *_: Parrot(answers))
    quickstart.show_conversation("run", seed)
    return capsys.readouterr().out


def test_the_sample_conversation_is_marked_to_the_letter(monkeypatch, capsys):
    questions = conversation(5)
    right = [question.expected for question in questions]
    text = shown(monkeypatch, capsys, right, 5)
    assert all(f"> {question.messages[-1].content}\n{question.expected}\n" in text for question in questions)
    assert text.endswith("7 of 7 answers are right; a name counts if every letter is.\n")
    dog = right[5].removesuffix(".")
    text = shown(monkeypatch, capsys, [*right[:5], f"{dog[:-1]}.", right[6]], 5)
    assert text.endswith("6 of 7 answers are right; a name counts if every letter is.\n")


def test_the_sample_conversation_has_new_names_at_each_run(monkeypatch, capsys):
    texts = {shown(monkeypatch, capsys, ["No."] * 7, None) for _ in range(3)}
    assert len(texts) == 3 and all("\n0 of 7 answers are right" in text for text in texts)
