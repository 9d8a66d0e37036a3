"""A tokenizer that most tests share."""

import pytest

from microgpt.tokenizer import Tokenizer, train
from tests.tokenizer import texts as bpe_texts


@pytest.fixture(scope="session")
def tok() -> Tokenizer:
    """A thousand merges over English, code and ten languages."""
    return train([*bpe_texts.english(), *bpe_texts.code(), *bpe_texts.languages(300)], 1000)
