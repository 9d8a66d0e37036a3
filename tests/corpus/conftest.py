"""Small corpora and a tokenizer for the tests of this room."""

import pytest
from corpus_lines import chat_line

from microgpt.tokenizer import train


@pytest.fixture(scope="session")
def tokenizer():
    return train(["hello there, how are you today? I am fine, thank you. "] * 3, n_merges=20)


@pytest.fixture(scope="session")
def other_tokenizer():
    return train(["quite another text about nothing at all, all of it"] * 3, n_merges=10)


@pytest.fixture
def write(tmp_path):
    """Write text or bytes to a file of the test's folder; its path."""

    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture(autouse=True)
def own_data_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("MICROGPT_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def chats(write):
    lines = [chat_line(f"question {i}?", f"answer {i * 7} it is") for i in range(3000)]
    return write("chats.jsonl", "".join(lines))
