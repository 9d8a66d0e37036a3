"""Targets of prompts are left out by their share, those of answers and plain text never."""

import numpy as np
import pytest

from microgpt.batches import prompts
from microgpt.batches.batches import IGNORED, Batches, eval_windows
from microgpt.batches.prompts import AnswerLoss, PromptLoss
from microgpt.corpus.chat import Message, render
from microgpt.corpus.token_file import TokenFile, write_token_file
from microgpt.tokenizer import train


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(prompts, "BLOCK", BLOCK)


@pytest.fixture(scope="module")
def tokenizer():
    return train(["no merges"], n_merges=0)


CHAT = [
    Message("user", "uuuuu"),
    Message("assistant", "aaaa"),
    Message("user", "uu"),
    Message("assistant", "aaa"),
]

BLOCK = 256
LONG = [Message("user", "u" * 2 * BLOCK), Message("assistant", "a" * 2 * BLOCK)]


def batches(tmp_path, tokenizer, documents, weight, seq_len=6, seed=0, packing="stream"):
    path = tmp_path / "s.tokens"
    write_token_file(path, [render(document, tokenizer) for document in documents], tokenizer)
    tokens = TokenFile.open(path)
    return Batches(tokens, seq_len, 1, seed, PromptLoss(tokens.ids, tokenizer, weight, seed), packing)


def targets_by_place(made, n_tokens):
    """The target of every place of the stream, over one epoch."""
    found = np.full(n_tokens, -2)
    for index in range(made.n_windows):
        targets, t = made.batch(index)[1][0], 0
        for start, length, _ in made._layout.pieces(made.windows(index)[0]):
            found[start + 1 : start + length] = targets[t : t + length - 1]
            t += length
    return found


@pytest.mark.parametrize("packing", ["stream", "documents"])
@pytest.mark.parametrize("documents", [[CHAT], [LONG, "plain", CHAT, CHAT[:1], LONG[1:]]])
def test_only_answers_are_learned_whatever_the_window(tmp_path, tokenizer, documents, packing):
    ids = np.concatenate([render(document, tokenizer) for document in documents])
    bos = tokenizer.special_id("<|bos|>")
    user, assistant = tokenizer.special_id("<|user|>"), tokenizer.special_id("<|assistant|>")
    learned, role = [], user
    for i, token in enumerate(ids):
        is_scored = packing == "stream" or token != bos
        learned.append(i > 0 and role in (assistant, bos) and is_scored)
        role = token if token in (user, assistant, bos) else role
    for seq_len in (1, 2, 5, 11, len(ids) - 1):
        made = batches(tmp_path, tokenizer, documents, 0.0, seq_len, packing=packing)
        found = targets_by_place(made, len(ids))
        assert [t == token for t, token in zip(found[1:], ids[1:], strict=True)] == learned[1:]


def test_plain_text_is_learned_whole(tmp_path, tokenizer):
    made = batches(tmp_path, tokenizer, ["x" * 3 * BLOCK, "y" * 30], 0.0)
    assert all((made.batch(i)[1] != IGNORED).all() for i in range(made.n_windows))


@pytest.mark.parametrize("scan", [2, 1 << 20])
@pytest.mark.parametrize(
    "documents, something",
    [
        ([CHAT[:1], CHAT[:1]], False),
        ([CHAT[:1], CHAT], True),
        ([CHAT[:1], "plain", CHAT[:1]], True),
        ([[Message("system", "s"), Message("user", "u")]], False),
    ],
)
def test_prompts_alone_leave_nothing_to_learn(tokenizer, monkeypatch, scan, documents, something):
    monkeypatch.setattr(prompts, "SCAN", scan)
    ids = np.concatenate([render(document, tokenizer) for document in documents])
    assert PromptLoss(ids, tokenizer, 0.0, 0).leaves_something() == something
    assert AnswerLoss(ids, tokenizer).leaves_something() == (CHAT in documents), "plain text is no answer"


def test_what_is_kept_of_a_window_does_not_depend_on_the_batch(tmp_path, tokenizer):
    chat = [Message("user", "u" * 500), Message("assistant", "a" * 50)]
    made = batches(tmp_path, tokenizer, [chat, chat], 0.5, 20)
    twos = batches(tmp_path, tokenizer, [chat, chat], 0.5, 20)
    twos.batch_size = 2
    ones = [made.batch(i)[1] for i in range(8)]
    assert np.concatenate(ones).tolist() == np.concatenate([twos.batch(i)[1] for i in range(4)]).tolist()


def test_a_long_message_is_looked_back_through(tmp_path, tokenizer):
    long = [Message("user", "u" * 3 * BLOCK), Message("assistant", "a" * 3 * BLOCK)]
    made = batches(tmp_path, tokenizer, [long], 0.0)
    found = targets_by_place(made, len(render(long, tokenizer)))
    assert not (found == ord("u")).any() and (found == ord("a")).sum() == 3 * BLOCK


def test_the_share_and_its_repeatability(tmp_path, tokenizer):
    chat = [Message("user", "u" * 5000), Message("assistant", "a")]
    runs = [batches(tmp_path, tokenizer, [chat], 0.2, 50, seed) for seed in (0, 0, 1)]
    kept = [[made.batch(i)[1].tolist() for i in range(made.n_windows)] for made in runs]
    share = (np.concatenate(kept[0]) == ord("u")).mean()
    assert 0.17 < share < 0.23
    assert kept[0] == kept[1] != kept[2]


class Counted(np.ndarray):
    """Ids that count how many of them are read."""

    read = 0

    def __getitem__(self, places):
        Counted.read += len(range(*places.indices(len(self))))
        return super().__getitem__(places)


def test_each_token_of_a_long_message_is_looked_back_through_once(tokenizer):
    ids = render([Message("user", "u" * 200 * BLOCK), Message("assistant", "a" * 200 * BLOCK)], tokenizer)
    loss = PromptLoss(ids.view(Counted), tokenizer, 0.0, 0)
    Counted.read = 0
    window = np.zeros((1, 4), np.int32)
    starts = np.random.default_rng(0).permutation(len(ids))[:1000]
    kept = [loss.targets_kept(window, [int(start)], 0)[0, 0] for start in starts]
    assert kept == [start > 200 * BLOCK + 2 for start in starts]
    assert Counted.read < len(ids) + 2 * BLOCK * len(starts), "once in all, and two blocks for each window"


@pytest.mark.parametrize("packing", ["stream", "documents"])
@pytest.mark.parametrize("seq_len", [6, 40])
def test_in_fine_tuning_every_turn_of_the_assistant_is_learned_to_its_end_and_no_marker(
    tmp_path, tokenizer, packing, seq_len
):
    system = [Message("system", "ss"), Message("assistant", "b"), *CHAT]
    documents = [CHAT, LONG, "plain", system]
    made = batches(tmp_path, tokenizer, documents, 0.5, seq_len, packing=packing)
    ids = np.concatenate([render(document, tokenizer) for document in documents])
    made._prompt_loss = AnswerLoss(ids, tokenizer)
    found = targets_by_place(made, len(ids))
    end = tokenizer.special_id("<|end|>")
    texts, text = [], []
    for token in found:
        if token >= 0:
            text.append(int(token))
            if token == end:
                texts.append(tokenizer.decode(text[:-1]).decode())
                text = []
    assert text == []
    assert texts == ["aaaa", "aaa", "a" * 2 * BLOCK, "plain", "b", "aaaa", "aaa"]


def test_held_out_windows_score_the_same_targets(tmp_path, tokenizer):
    made = batches(tmp_path, tokenizer, [CHAT, CHAT], 0.5, 40, packing="documents")
    answers = AnswerLoss(made._tokens.ids, tokenizer)
    windows = eval_windows(made._tokens, 40, tokenizer.byte_lengths, packing="documents", prompt_loss=answers)
    targets = np.concatenate([batch.targets for batch in windows.batches(1)])
    assert windows.n_tokens == (targets != IGNORED).sum() == 2 * (4 + 1 + 3 + 1)
    assert windows.n_bytes == 2 * (4 + 3)
