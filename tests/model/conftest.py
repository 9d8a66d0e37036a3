"""A tokenizer and a small random model for the tests of this room."""

import pytest

from microgpt.model import GPT, ModelConfig
from microgpt.tokenizer import train


@pytest.fixture(scope="session")
def tokenizer():
    return train(["hello there, how are you today? I am fine, thank you. "] * 3, n_merges=20)


@pytest.fixture(scope="session")
def model(tokenizer):
    """Random weights, large enough that its logits differ much."""
    config = ModelConfig(
        n_layer=3, n_head=2, n_embd=16, seq_len=48, vocab_size=tokenizer.vocab_size, init_std=0.4, look_back=2
    )
    return GPT(config).init(7)
