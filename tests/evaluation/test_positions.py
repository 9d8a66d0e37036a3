"""Loss by position: means of the parts of windows add up to the whole."""

import numpy as np
import pytest
from scipy.special import stdtrit

from microgpt.batches.batches import eval_windows
from microgpt.corpus.token_file import TokenFile, write_token_file
from microgpt.evaluation.loss import evaluate
from microgpt.evaluation.positions import loss_by_position


def test_every_part_is_the_mean_of_its_positions(tmp_path, model, tokenizer):
    ids = np.concatenate([tokenizer.encode("hello there, how are you? ") for _ in range(40)]).astype(np.int32)
    write_token_file(tmp_path / "s.tokens", [ids], tokenizer)
    tokens = TokenFile.open(tmp_path / "s.tokens")
    windows = eval_windows(tokens, 48, tokenizer.byte_lengths)
    found = loss_by_position(model, windows, 3, n_parts=5)
    assert [(part.first, part.last) for part in found] == [(0, 8), (9, 18), (19, 27), (28, 37), (38, 47)]
    total = sum(part.loss * part.n_tokens for part in found) / sum(part.n_tokens for part in found)
    assert total == pytest.approx(evaluate(model, windows, 2).loss, rel=1e-6)
    alone = eval_windows(tokens, 48, tokenizer.byte_lengths, max_tokens=48)
    losses = model.token_losses(next(alone.batches(1)))[0]
    first = loss_by_position(model, alone, 1, n_parts=5)[0]
    assert first.loss == pytest.approx(losses[:9].mean(), rel=1e-6)
    assert first.half_width is None
    rows = [model.token_losses(batch)[0] for batch in windows.batches(1)]
    by_window = [row[:9].mean(dtype=np.float64) for row in rows]
    error = np.std(by_window, ddof=1) / np.sqrt(len(by_window))
    assert found[0].half_width == pytest.approx(error * stdtrit(len(by_window) - 1, 0.975), rel=1e-5)
