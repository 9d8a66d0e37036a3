"""What the documents say of the code is so."""

import re
from pathlib import Path

import pytest

from microgpt.model import ModelConfig
from microgpt.model.architecture import table

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| `([\w.]+)`(?:, [\w -]+)? \| (\(.*\)) \| ([^|]+) \| (yes|no) \|$", re.M)
CONFIGS = [
    ModelConfig(3, 4, 24, 9, 31),
    ModelConfig(2, 6, 48, 9, 57, look_back=2, n_kv_head=2, init_std=0.3),
]


def shape_of(text, config):
    """`((H + 2 K) hs, C)` in numbers: names side by side are multiplied."""
    sizes = {
        "C": config.n_embd,
        "H": config.n_head,
        "K": config.heads.H_kv,
        "hs": config.head_size,
        "F": 4 * config.n_embd,
        "V": config.vocab_size,
        "n": config.look_back,
    }
    spelled = re.sub(r"(?<=[\w)]) (?=[\w(])", " * ", text)
    return eval(spelled, {"__builtins__": {}}, sizes)


def std_of(text, config):
    named = {"ones": 0, "normal, std": config.init_std, "normal, 0.7": 0.7}
    return named.get(text, config.init_std / (2 * config.n_layer) ** 0.5)


@pytest.mark.parametrize("config", CONFIGS, ids=["plain", "look back, shared keys"])
def test_the_tensors_of_the_model_are_those_of_its_document(config):
    rows = ROW.findall((ROOT / "MODEL.md").read_text(encoding="utf-8"))
    told = {name: (shape_of(shape, config), std, decays == "yes") for name, shape, std, decays in rows}
    if not config.look_back:
        del told["wte.back"]
    parameters = table(config)
    assert {re.sub(r"^h\.\d+\.", "h.i.", parameter.name) for parameter in parameters} == set(told)
    for parameter in parameters:
        shape, std, decays = told[re.sub(r"^h\.\d+\.", "h.i.", parameter.name)]
        assert (parameter.shape, parameter.decay) == (shape, decays), parameter.name
        assert parameter.init_std == pytest.approx(std_of(std, config)), parameter.name


def anchor(title):
    """Where a link to a title leads, as GitHub makes it."""
    return "#" + re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def test_the_index_of_the_log_is_that_of_its_titles():
    text = (ROOT / "benchmarks" / "LOG.md").read_text(encoding="utf-8")
    titles = re.findall(r"^## (.*)$", text, re.M)
    expected = ["| date | what | verdict | |", "|---|---|---|---|"]
    for title in titles:
        parts = re.fullmatch(r"(\d{4}-\d\d-\d\d) ([^:|]+): ([^|]+)", title)
        assert parts, f"## {title}: expected DATE WHAT: VERDICT"
        expected.append(f"| {' | '.join(parts.groups())} | [entry]({anchor(title)}) |")
    index = re.search(r"^\| date \|.*?\n\n", text, re.M | re.S)
    assert index and index[0].splitlines()[:-1] == expected
    assert titles == sorted(titles, key=lambda title: title[:10]), "newest last"
    assert len({anchor(title) for title in titles}) == len(titles) > 20
