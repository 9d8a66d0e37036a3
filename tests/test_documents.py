"""What the documents say of the code is so."""

import re
from pathlib import Path

import pytest

from microgpt.corpus.prepared.make import data_dir
from microgpt.corpus.reading.formats import read_documents
from microgpt.model import ModelConfig
from microgpt.model.architecture import table
from microgpt.model.mlp import inner_width
from microgpt.runs.spec import Spec
from microgpt.training.schedule import MODERATE
from microgpt.tuning.sft import defaults

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| `([\w.]+)`(, [\w -]+)? \| (\(.*\)) \| ([^|]+) \| (yes|no) \|$", re.M)
BIASED = {"norm": "layernorm", "norm_place": "both", "embedding_norm": True}
CONFIGS = [
    ModelConfig(3, 4, 24, 9, 31),
    ModelConfig(2, 6, 48, 9, 57, look_back=2, n_kv_head=2, init_std=0.3),
    ModelConfig(
        2,
        6,
        48,
        9,
        57,
        **BIASED,
        bias="qkv proj mlp norm head",
        tied=False,
        qk_norm="head",
        positions="learned",
    ),
    ModelConfig(
        2, 6, 48, 9, 57, n_kv_head=2, mlp="swiglu", qk_norm="whole", value_embedding=1, embedding_mix=True
    ),
]


def shape_of(text, config):
    """`((H + 2 K) hs, C)` in numbers: names side by side are multiplied."""
    sizes = {
        "C": config.n_embd,
        "H": config.n_head,
        "K": config.heads.H_kv,
        "hs": config.head_size,
        "F": inner_width(config, config.mlp == "swiglu"),
        "G": inner_width(config, config.mlp == "swiglu") * (2 if config.mlp == "swiglu" else 1),
        "T": config.seq_len,
        "S": min(32, config.n_embd),
        "Q": config.head_size * (config.n_head if config.qk_norm == "whole" else 1),
        "R": config.head_size * (config.heads.H_kv if config.qk_norm == "whole" else 1),
        "V": config.vocab_size,
        "n": config.look_back,
    }
    spelled = re.sub(r"(?<=[\w)]) (?=[\w(])", " * ", text)
    return eval(spelled, {"__builtins__": {}}, sizes)


def begins(text, config):
    """How a parameter is drawn, and its deviation, of what the table tells."""
    std = config.init_std
    named = {"ones": 0, "zeros": 0, "normal, std": std, "normal, 0.7": 0.7}
    named |= {"normal, embedding std": std, "normal, head std": std}
    return text == "zeros", named.get(text, std / (2 * config.n_layer) ** 0.5)


def told():
    """Rows of the table of tensors by name."""
    rows = ROW.findall((ROOT / "MODEL.md").read_text(encoding="utf-8"))
    return {name: row for name, *row in rows}


def nameless(parameter):
    return re.sub(r"^h\.\d+\.", "h.i.", parameter.name)


@pytest.mark.parametrize("config", CONFIGS, ids=["plain", "look back, shared keys", "biased", "gated"])
def test_the_tensors_of_the_model_are_those_of_its_document(config):
    rows, parameters = told(), table(config)
    if config == CONFIGS[0]:
        assert {nameless(p) for p in parameters} == {name for name, row in rows.items() if not row[0]}
    for parameter in parameters:
        _, shape, text, decays = rows[nameless(parameter)]
        assert (parameter.shape, parameter.decay) == (shape_of(shape, config), decays == "yes"), (
            parameter.name
        )
        is_zero, std = begins(text, config)
        assert (parameter.init == "zeros") == is_zero, parameter.name
        assert parameter.init_std == pytest.approx(std), parameter.name


def test_every_tensor_of_the_document_is_one_of_a_model():
    assert set(told()) == {nameless(parameter) for config in CONFIGS for parameter in table(config)}


def test_the_tensors_of_recurrent_layers_are_those_of_the_document():
    text = (ROOT / "MODEL.md").read_text(encoding="utf-8")
    (rows,) = re.findall(r"^\| tensor of h.i .*?\n\n", text, re.M | re.S)
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 8, "seq_len": 9, "vocab_size": 31, "recurrent_head": 4}
    kinds = [
        {"mixer": kind, "mlp": mlp}
        for kind, mlp in (("rwkv7", "rwkv7"), ("rwkv6", "rwkv6"), ("mamba2", "gelu"))
    ]
    kinds += [{"mixer": "rwkv7+mamba2", "fusion": fusion} for fusion in ("scalar", "gate", "concat")]
    built = {
        p.name.split(".", 2)[2]
        for kind in kinds
        for p in table(ModelConfig(**shape, **kind))
        if p.name[:2] == "h."
    }
    elsewhere = {"ln_1.weight", "ln_2.weight", "mlp.fc.weight", "mlp.proj.weight"}
    assert set(re.findall(r"`([\w.]+)`", rows)) == built - elsewhere


def test_what_the_readme_says_of_fine_tuning_is_so(write):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (line,) = re.findall(r'^    (\{"messages".*\})$', text, re.M)
    (talk,) = read_documents(write("mine.jsonl", line))
    assert [message.role for message in talk] == ["user", "assistant"]
    plan = Spec.of("tiny", recipe="fast").plan()
    assert f"by the recipe `{defaults(plan)['recipe']}` (below), whichever" in text
    assert plan.train.schedule == "wsd" and f"{10 * MODERATE:g}" == "3" and "three tenths of the peak" in text


def test_the_readme_tells_where_prepared_text_is_kept(monkeypatch):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    monkeypatch.delenv("MICROGPT_DATA_DIR")
    assert str(data_dir() / "prepared") == "data/prepared"
    monkeypatch.setenv("MICROGPT_DATA_DIR", "elsewhere")
    assert str(data_dir()) == "elsewhere" and "`MICROGPT_DATA_DIR`" in text and "`data/prepared`" in text


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
