"""How far chance moves a mean loss: against what it does when documents are really drawn."""

import math

import numpy as np
import pytest

from microgpt.batches.batches import eval_windows
from microgpt.batches.carried import EvalInOrder
from microgpt.core import arrays
from microgpt.corpus.chat import render
from microgpt.corpus.token_file import TokenFile, write_token_file
from microgpt.evaluation.loss import evaluate, half_width, standard_error, with_interval
from microgpt.model import GPT, ModelConfig


def test_the_error_is_the_spread_of_the_loss_over_draws_of_documents():
    rng = np.random.default_rng(5)
    n_draws, n_documents = 4000, 60
    n_tokens = rng.integers(1, 200, (n_draws, n_documents)).astype(float)
    hardness = rng.gamma(4, 0.5, (n_draws, n_documents))  # of a document; tokens in it go together
    nats = n_tokens * hardness
    losses = nats.sum(1) / n_tokens.sum(1)
    errors = np.array([standard_error(*draw) for draw in zip(nats, n_tokens, strict=True)])
    # The spread of 4000 draws is known to 1.1 %, and the estimate is a little low for 60 documents.
    assert math.sqrt((errors**2).mean()) == pytest.approx(losses.std(), rel=0.06)


@pytest.mark.parametrize("n_documents", [3, 60])
def test_the_interval_holds_the_mean_in_95_of_100_cases(n_documents):
    nats = np.random.default_rng(6).normal(2, 0.5, (4000, n_documents))
    n_tokens = np.ones(n_documents)
    errors = np.array([standard_error(draw, n_tokens) for draw in nats])
    half = np.array([half_width(error, n_documents) for error in errors])
    covered = np.abs(nats.mean(1) - 2) < half
    assert covered.mean() == pytest.approx(0.95, abs=0.015)  # its own standard error: 0.0034


def test_equal_documents_of_unequal_length_have_no_error():
    n_tokens = np.array([1.0, 10, 500, 0])
    assert standard_error(2.5 * n_tokens, n_tokens) == pytest.approx(0, abs=1e-12)


def test_documents_without_tokens_are_none():
    nats, n_tokens = np.array([3.0, 5, 9]), np.array([1.0, 2, 3])
    more = np.zeros(7)
    assert standard_error(np.append(nats, more), np.append(n_tokens, more)) == standard_error(nats, n_tokens)


@pytest.mark.parametrize("n_tokens", [[5.0], [0.0, 5.0]])
def test_one_document_says_nothing_about_others(n_tokens):
    assert standard_error(np.array(n_tokens), np.array(n_tokens)) is None
    assert half_width(0.1, 1) is half_width(None, 5) is None
    assert with_interval(1.5, None) == "1.5000" and with_interval(1.5, 0.196) == "1.5000 +- 0.1960"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_losses_that_are_no_numbers_have_none(bad):
    assert math.isnan(standard_error(np.array([1.0, bad, 2.0]), np.ones(3)))


def test_a_short_last_batch_leaves_no_memory_behind(tokenizer, tmp_path):
    model = GPT(ModelConfig(1, 1, 64, 64, tokenizer.vocab_size)).init(0)
    document = render("abcdefgh" * 40, tokenizer)
    write_token_file(tmp_path / "tokens", [document] * 3, tokenizer)
    windows = eval_windows(TokenFile.open(tmp_path / "tokens"), 64, tokenizer.byte_lengths, 10**6)
    arrays.release()
    before = arrays.held()
    assert evaluate(model, windows, windows.n_windows) and arrays.held() > before, "it is kept for the next"
    assert evaluate(model, windows, windows.n_windows - 1) and arrays.held() == before


def test_windows_in_order_give_memory_back_twice_at_most(tokenizer, tmp_path, monkeypatch):
    model, released = GPT(ModelConfig(1, 1, 16, 16, tokenizer.vocab_size)).init(0), []
    write_token_file(tmp_path / "tokens", [render("abcdefgh" * 99, tokenizer)] * 9, tokenizer)
    windows = EvalInOrder(TokenFile.open(tmp_path / "tokens"), 16, tokenizer.byte_lengths)
    monkeypatch.setattr(arrays, "release", lambda: released.append(1))
    assert evaluate(model, windows, 64) and 1 <= len(released) <= 3, "where rows grow fewer, and at the end"
