"""For the tests of commands."""

import pytest

from microgpt.corpus.prepared.config import DataConfig
from microgpt.corpus.smalltalk import generate
from microgpt.model import GPT, ModelConfig
from microgpt.tokenizer import train
from tests.commands.random_run import save


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run of random weights, runs/a, said to be trained on a short smalltalk."""
    place = tmp_path_factory.mktemp("work")
    texts = [message.content for document in generate(20_000) for message in document]
    tokenizer = train(texts, n_merges=150)
    config = ModelConfig(
        n_layer=2, n_head=2, n_embd=16, seq_len=128, vocab_size=tokenizer.vocab_size, init_std=0.3
    )
    save(place / "runs" / "a", GPT(config).init(1), tokenizer, DataConfig(smalltalk_bytes=400_000))
    return place
