"""Fine-tuning against PyTorch: the same ids, weights and masks."""

import numpy as np
import pytest

from microgpt.batches.batches import Batches
from microgpt.batches.prompts import AnswerLoss
from microgpt.corpus.chat import Message, render
from microgpt.corpus.token_file import TokenFile, write_token_file
from microgpt.model import GPT, ModelConfig
from microgpt.runs.settings import TrainConfig
from microgpt.training.adam import Adam

pytestmark = pytest.mark.oracle("torch")

TALK = ["hello there", "I am fine, thank you", "how are you today?", "thank you. hello", "are you there?"]


def chats():
    """Conversations of one or two exchanges, some begun by a system's message."""
    for n in range(40):
        roles = ["system"] * (n % 3 == 0) + ["user", "assistant"] * (1 + n % 2)
        yield [Message(role, TALK[(n + 3 * k) % 5] + f" {n}") for k, role in enumerate(roles)]


def test_three_steps_are_those_of_the_twin(tmp_path, tokenizer):
    import torch

    from benchmarks._torch_twin import Twin

    config = ModelConfig(2, 4, 32, 96, tokenizer.vocab_size, init_std=0.2, look_back=2)
    write_token_file(tmp_path / "s.tokens", [render(chat, tokenizer) for chat in chats()], tokenizer)
    tokens = TokenFile.open(tmp_path / "s.tokens")
    batches = Batches(tokens, 96, 4, 0, AnswerLoss(tokens.ids, tokenizer), "documents")
    model, train = GPT(config).init(3), TrainConfig(grad_clip=0.0)
    adam, twin = Adam(model, train), Twin(config, {name: model.params[name] for name in model.params})
    how = {"betas": (train.beta1, train.beta2), "eps": train.eps}
    optimizer = torch.optim.Adam(twin.weights.values(), lr=1e-3, **how)
    for index in range(3):
        batch = batches.batch(index)
        assert batch.starts is not None and 0 < (batch.targets >= 0).mean() < 0.6
        nats, n = model.loss_and_grad(batch)
        optimizer.zero_grad()
        arrays = (torch.from_numpy(array) for array in (batch.ids, batch.targets, batch.starts))
        loss = twin.loss(*(array.long() for array in arrays))
        loss.backward()
        assert nats / n == pytest.approx(loss.item(), abs=1e-5)
        for name, grad in model.grads.items():
            wanted = twin.weights[name].grad.numpy()
            assert np.abs(grad / n - wanted).max() <= 1e-5 * max(1, np.abs(wanted).max()), name
        adam.update(1e-3, adam.grad_norm(n), n)
        optimizer.step()
