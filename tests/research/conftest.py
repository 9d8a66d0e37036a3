"""For all tests of what compares runs."""

import pytest


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """Where corpora are prepared, once for all of these tests: toys read the same few texts."""
    return tmp_path_factory.mktemp("prepared")


@pytest.fixture(autouse=True)
def own_data_dir(data_dir, monkeypatch):
    """In the place of one for each test."""
    monkeypatch.setenv("MICROGPT_DATA_DIR", str(data_dir))
