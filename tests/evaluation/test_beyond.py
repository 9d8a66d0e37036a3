"""Beyond the window: the same weights further on, loss by place, names and passages found again."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from microgpt.common.errors import ConfigError
from microgpt.corpus.chat import render
from microgpt.corpus.token_file import TokenFile, write_token_file
from microgpt.evaluation import beyond
from microgpt.model import GPT, ModelConfig


def test_a_wider_window_changes_nothing_within_the_old_one(model):
    wide, ids = beyond.widened(model, 3), np.arange(40, dtype=np.int32)[None]
    assert wide.config.seq_len == 3 * model.config.seq_len
    assert np.array_equal(wide.logits(ids), model.logits(ids))
    assert wide.logits(np.zeros((1, 3 * model.config.seq_len), np.int32)).shape[1] == 144


def test_what_local_attention_sees_does_not_grow():
    config = ModelConfig(2, 1, 4, 64, 70, attention="local local_global")
    wide = beyond.widened(GPT(config).init(0), 4).config
    for layer in range(2):
        assert wide.heads_of(layer) == config.heads_of(layer)


def test_learned_positions_end_at_the_window():
    config = ModelConfig(1, 1, 4, 64, 70, positions="learned")
    with pytest.raises(ConfigError, match="learned"):
        beyond.widened(GPT(config), 2)


@pytest.fixture
def text(tokenizer, tmp_path):
    path = tmp_path / "tokens"
    documents = ["".join(chr(97 + (7 * i + j * j) % 26) for j in range(60)) for i in range(30)]
    write_token_file(path, [render(document, tokenizer) for document in documents], tokenizer)
    return TokenFile.open(path)


def test_every_token_has_its_place(model, tokenizer, text):
    wide = beyond.widened(model, 4)
    parts = beyond.positions(wide, tokenizer, text, 4)
    assert [(part.first, part.last) for part in parts[:3]] == [(0, 23), (24, 47), (48, 71)]
    assert len(parts) == 8 and sum(part.n_tokens for part in parts) == text.n_tokens - 1


def test_names_are_told_first_and_asked_last_in_a_full_window(tokenizer, monkeypatch):
    seen = []

    def answers(questions):
        seen.extend(questions)
        return ((i, q.expected if i % 2 else "Nobody.") for i, q in enumerate(questions))

    monkeypatch.setattr(beyond, "answers_of", lambda model, tokenizer: answers)
    model = SimpleNamespace(config=SimpleNamespace(seq_len=900))
    found = beyond.keys_found(model, tokenizer, 20)
    assert (found.n, found.of) == (10, 20)
    for question in seen:
        name = question.expected.removeprefix("Your name is ").rstrip(".")
        assert [name in message.content for message in question.messages[::2]].index(True) == 0
        assert 700 < len(render(question.messages, tokenizer)) <= 900


class Copying:
    """Foretells at the end of a row what its beginning holds: 1 nat where it does, else 3."""

    config = SimpleNamespace(seq_len=200)

    def token_losses(self, batch):
        n, T = 32, batch.ids.shape[1]
        assert T == 200
        losses = np.full(batch.ids.shape, 2.0, np.float32)
        losses[:, T - n :] = np.where(batch.targets[:, T - n :] == batch.ids[:, :n], 1.0, 3.0)
        return losses


def test_a_passage_that_stood_there_before_is_foretold_better_by_one_that_copies(text):
    gain = beyond.passage_gain(Copying(), text)
    assert 1.5 < gain.value <= 2 and gain.n_documents > 10
    long = SimpleNamespace(config=SimpleNamespace(seq_len=text.n_tokens))
    assert beyond.passage_gain(long, text) is None


def test_all_is_told_of_each_length_and_names_only_of_a_chat(model, tokenizer, text, monkeypatch):
    monkeypatch.setattr(beyond, "keys_found", lambda model, tokenizer: beyond.share(1, model.config.seq_len))
    heard = []
    found = beyond.beyond(model, tokenizer, text, True, heard.append)
    assert {times: key.of for times, key in found.keys.items()} == {1: 48, 2: 96, 3: 144, 4: 192}
    assert sum(heard) == 5 and set(found.passages) == {1, 2, 3, 4}
    assert beyond.beyond(model, tokenizer, text, False).to_dict()["passkey"] is None
    learned = GPT(dataclasses.replace(model.config, positions="learned"))
    with pytest.raises(ConfigError):
        beyond.beyond(learned, tokenizer, text, True)
