"""The texts that taught a model: of all its runs, each once, and whether that is all."""

import json
import shutil
from pathlib import Path

import pytest

from microgpt.corpus.chat import Message
from microgpt.corpus.smalltalk.turns import Question
from microgpt.evaluation.causes import NEVER, READ, UNKNOWN, Answered, causes
from microgpt.evaluation.taught import text_that_taught
from microgpt.runs.checkpoint import load_model
from microgpt.training.run import train_run
from microgpt.tuning.sft import sft_spec
from tests.training.toys import small, text  # noqa: F401


def talk(name, words):
    """A file of forty conversations about something."""
    turns = [(("user", f"Say {n}."), ("assistant", f"{words} {n}.")) for n in range(40)]
    talks = [{"messages": [{"role": role, "content": said} for role, said in turn]} for turn in turns]
    Path(name).write_text("\n".join(map(json.dumps, talks)))
    return name


@pytest.fixture
def parent(text):  # noqa: F811
    talk("first.jsonl", "An oak is")
    return train_run(small("first.jsonl", 2, merges=60, seq_len=64), "runs/parent", []).checkpoint


def tuned(name="second.jsonl", replay=(), share=0.0, **settings):
    values = {"data": [name], "max_steps": 2, "threads": "1", "sample_every": 0, "eval_tokens": 64}
    return train_run(sft_spec("parent", values | settings, replay, share), "tuned", []).checkpoint


def lines(checkpoint, *phrases):
    """Lines of what taught it that have each phrase, and whether that is all."""
    taught = text_that_taught(checkpoint, load_model(checkpoint)[1])
    return taught.counts([[phrase] for phrase in phrases]), taught.is_all


def test_the_text_of_a_parent_taught_it_too(parent):
    talk("second.jsonl", "A birch is")
    alone, _ = lines(parent, "an oak is")
    both, is_all = lines(tuned(), "a birch is", "an oak is")
    assert is_all and both[1:] == alone and both[0] > 20


def test_text_of_both_counts_once(parent):
    assert lines(tuned("first.jsonl"), "an oak is") == lines(parent, "an oak is")


def test_replayed_and_mixed_texts_are_among_it(parent):
    talk("second.jsonl", "A birch is")
    talk("third.jsonl", "An elm is")
    (birch, elm), is_all = lines(tuned(replay=["third.jsonl"], share=0.5), "a birch is", "an elm is")
    assert is_all and birch > 20 and elm > 20
    mixed = small("first.jsonl", 2, merges=60, seq_len=64, mixed=["third.jsonl"], shares=[0.5, 0.5])
    (oak, elm), is_all = lines(train_run(mixed, "mixed", []).checkpoint, "an oak is", "an elm is")
    assert is_all and oak > 20 and elm > 20


def test_where_some_of_it_is_gone_nothing_is_said_to_be_missing(parent, tmp_path):
    talk("second.jsonl", "A birch is")
    checkpoint = tuned()
    shutil.rmtree("runs/parent")
    (birch, oak), is_all = lines(checkpoint, "a birch is", "an oak is")
    assert birch > 20 and oak == 0 and not is_all, "who knows what else it was told"
    taught = text_that_taught(checkpoint, load_model(checkpoint)[1])
    asked = [
        Answered("", Question("", [Message("user", "Say it.")], words, "", lambda answer: False), "no", False)
        for words in ("A birch is", "An ash")
    ]
    assert [one.kind for one in causes(asked, taught)] == [READ, UNKNOWN]
    taught.is_all = True
    assert [one.kind for one in causes(asked, taught)] == [READ, NEVER]
    shutil.rmtree(tmp_path / "data")
    Path("second.jsonl").unlink()
    assert text_that_taught(checkpoint, load_model(checkpoint)[1]) is None


def test_a_text_that_is_open_is_taken_as_it_is(parent, tmp_path):
    tokenizer = load_model(parent)[1]
    (own,) = text_that_taught(parent, tokenizer).files
    shutil.rmtree(tmp_path / "data")
    taught = text_that_taught(parent, tokenizer, own)
    assert taught.files == [own] and taught.is_all
