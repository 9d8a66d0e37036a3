"""Small corpora for the tests of this room."""

import pytest

from microgpt.tokenizer import train
from tests.corpus.lines import chat_line


@pytest.fixture(scope="session")
def other_tokenizer():
    return train(["quite another text about nothing at all, all of it"] * 3, n_merges=10)


@pytest.fixture
def chats(write):
    lines = [chat_line(f"question {i}?", f"answer {i * 7} it is") for i in range(3000)]
    return write("chats.jsonl", "".join(lines))
