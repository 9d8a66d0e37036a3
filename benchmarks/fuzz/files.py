"""What fuzzing does with the readers of folders: prepared corpora, checkpoints, the configuration of a run.

A case is JSON: the files of a folder by name, their bytes written as the characters U+0000 to U+00FF.  Each
begins as a valid folder and is spoilt in some files; mostly checksums and manifests are mended afterwards, so
that the readers behind them are reached.
"""

import copy
import functools
import hashlib
import itertools
import json
import random
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from microgpt.common.errors import MicrogptError
from microgpt.corpus import token_file
from microgpt.corpus.prepared import folder as prepared
from microgpt.corpus.prepared.config import DataConfig
from microgpt.files.records import read_json
from microgpt.model import GPT, ModelConfig, count_parameters
from microgpt.runs import checkpoint
from microgpt.runs.settings import TrainConfig
from microgpt.runs.spec import Plan
from microgpt.runs.state import TrainState
from microgpt.tokenizer import Tokenizer, TokenizerError
from microgpt.training.adam import Adam

from . import texts
from .bounds import within_bounds
from .json_texts import change_one, change_structure, change_token, splice, written

LIMIT_S = 1.0  # processor time to read a folder
MOST_LAYERS, MOST_PARAMS = 100, 10**6  # of models that are made, rather than compared with their weights
ERRORS = (MicrogptError, TokenizerError)
KEY = "0" * 64
NUMBERS = [
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    255,
    256,
    65_535,
    65_536,
    10**6,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    1 << 40,
    (1 << 61) + 1,
    1 << 62,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
]
WORDS = [
    "",
    "auto",
    "a" * 5000,
    "9" * 5000,
    "9" * 400 + "s",
    "1e9h",
    "\ud800",
    "\n",
    "/",
    "smalltalk",
    "documents",
    "skip",
    "nan",
    "\0",
]
VALUES: list[Any] = [
    *NUMBERS,
    *WORDS,
    -1,
    -(1 << 63),
    10**400,
    -(10**400),
    0.0,
    -0.0,
    1e-300,
    1e300,
    1.5,
    0.5,
    True,
    None,
    [],
    {},
    [[]],
    {"": {}},
]
PARTS = [b"[", b'{"a":', b"[],", b'"a",', b"9", b"\\", b" ", b"\0", b"\xc3\xbc", b'"a":1,', b"\n"]
TOKENS_HEADER = [(8, "<I"), (12, "<I"), (16, "<I"), (24, "<Q"), (32, "<Q"), (40, "<Q"), (80, "<I")]

Files = dict[str, bytes]
Change = Callable[[random.Random, bytes], bytes]


# ---- cases -----------------------------------------------------------------------------------------------


def make_tokens_case(rng: random.Random) -> bytes:
    """A prepared corpus."""
    files = dict(prepared_files(rng.randrange(8)))
    changes: dict[str, Change] = dict.fromkeys(prepared.FILES, change_anything)
    changes |= {"meta.json": change_json, "tokenizer.json": change_tokenizer}
    changes |= dict.fromkeys(("train.tokens", "val.tokens"), change_tokens)
    return packed(spoilt(rng, files, changes))


def make_checkpoint_case(rng: random.Random) -> bytes:
    """A checkpoint, its manifest mended in most cases."""
    files = dict(checkpoint_files(rng.randrange(4)))
    changes: dict[str, Change] = {
        "config.json": change_json,
        "state.json": change_json,
        "tokenizer.json": change_tokenizer,
        "model.safetensors": change_tensors,
        "optimizer.safetensors": change_tensors,
    }
    files = spoilt(rng, files, changes)
    if rng.random() < 0.85:
        files["manifest.json"] = manifest(files)
    if rng.random() < 0.2:
        files = spoilt(rng, files, {"manifest.json": change_json})
    return packed(files)


def make_config_case(rng: random.Random) -> bytes:
    """What a run was told and where it stands, beside its weights."""
    files = checkpoint_files(rng.randrange(4))
    files = {name: files[name] for name in ("config.json", "state.json", "model.safetensors")}
    return packed(spoilt(rng, files, dict.fromkeys(("config.json", "state.json"), change_json)))


def spoilt(rng: random.Random, files: Files, changes: dict[str, Change]) -> Files:
    """The files, some changed, each in its own way or in any; now and then one removed or two exchanged."""
    names = sorted(name for name in changes if name in files)
    for _ in range(rng.choice([0, 1, 1, 1, 2, 4]) if names else 0):
        name = rng.choice(names)
        change = changes[name] if rng.random() < 0.8 else change_anything
        files[name] = change(rng, files[name])
    if rng.random() < 0.05:
        one, other = rng.choices(names, k=2)
        files[one], files[other] = files[other], files[one]
    if rng.random() < 0.05:
        del files[rng.choice(names)]
    return files


def change_anything(rng: random.Random, data: bytes) -> bytes:
    """Change bytes or words of any file."""
    return rng.choice([change_token, texts.spoil, splice, _giant])(rng, data)


def _giant(rng: random.Random, data: bytes) -> bytes:
    """Many small things, alone or behind what is there; as long as files of these kinds may be."""
    part = rng.choice(PARTS)
    n_bytes = rng.choice([10**4, 10**5, (1 << 20) - len(data), 1 << 20, prepared.MAX_META_BYTES])
    start = data[: rng.choice([0, 8, 9, len(data) // 2, len(data)])]
    return start + part * (n_bytes // len(part))


def change_json(rng: random.Random, data: bytes) -> bytes:
    """Change values of a JSON file: mostly one setting to a number or word that is hard to take."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return change_token(rng, data)
    for _ in range(rng.choice([1, 1, 2])):
        parts = [content, *(content.values() if isinstance(content, dict) else [])]
        if rng.random() < 0.3:
            change_one(rng, parts)
            continue
        place = rng.choice([part for part in parts if isinstance(part, dict) and part] or [{"": 0}])
        place[rng.choice(list(place))] = copy.deepcopy(rng.choice(VALUES))
    return written(rng, content)


def change_tokenizer(rng: random.Random, data: bytes) -> bytes:
    """Change a tokenizer.json."""
    try:
        content = json.loads(data)
        change_structure(rng, content)
    except (ValueError, RecursionError, AttributeError):
        return change_token(rng, data)
    return written(rng, content)


def change_tokens(rng: random.Random, data: bytes) -> bytes:
    """Change numbers of a token file, in header, ids or offsets; mend its checksums most times."""
    made = bytearray(data)
    header = token_file.HEADER_BYTES
    if len(made) < header + 8:
        return data
    for _ in range(rng.choice([1, 1, 2])):
        if rng.random() < 0.6:
            at, kind = rng.choice(TOKENS_HEADER)
        else:
            kind = rng.choice(["<H", "<I", "<Q"])
            at = rng.randrange(header, len(made) - 7)
        struct.pack_into(kind, made, at, rng.choice(NUMBERS) % (1 << 8 * struct.calcsize(kind)))
    if rng.random() < 0.1:
        made += bytes(rng.choice([1, 8, 4096]))
    if rng.random() < 0.8:
        struct.pack_into("<I", made, 20, zlib.crc32(made[header:]))
    if rng.random() < 0.9:
        struct.pack_into("<I", made, header - 4, zlib.crc32(made[: header - 4]))
    return bytes(made)


def change_tensors(rng: random.Random, data: bytes) -> bytes:
    """Change the header of a safetensors file: the length, a name, a shape, a place."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > len(data) - 8 or rng.random() < 0.1:
        return rng.choice(NUMBERS).to_bytes(8, "little") + data[8:]
    try:
        entries = json.loads(data[8 : 8 + length])
        entries.values()
    except (ValueError, RecursionError, AttributeError):
        return change_token(rng, data)
    for _ in range(rng.choice([1, 1, 2, 3])):
        entry = rng.choice([value for value in entries.values() if isinstance(value, dict)] or [entries])
        numbers = entry.get(rng.choice(["shape", "data_offsets"]))
        if isinstance(numbers, list) and numbers and rng.random() < 0.6:
            numbers[rng.randrange(len(numbers))] = copy.deepcopy(rng.choice(VALUES))
        else:
            change_one(rng, [entries, entry])
    header = written(rng, entries)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def packed(files: Files) -> bytes:
    return json.dumps({name: data.decode("latin-1") for name, data in files.items()}).encode()


def _unpacked(case: bytes, folder: Path) -> int:
    """Write the files of a case into a folder; their length in all."""
    n_bytes = 0
    for name, text in json.loads(case).items():
        n_bytes += (folder / name).write_bytes(text.encode("latin-1"))
    return n_bytes


# ---- valid folders ---------------------------------------------------------------------------------------


@functools.cache
def _tokenizer(variant: int) -> Tokenizer:
    merges = [(97 + i, 98 + i) for i in range(variant % 5)]
    return Tokenizer(merges)


@functools.cache
def prepared_files(variant: int) -> Files:
    """A small prepared corpus."""
    tokenizer, rng = _tokenizer(variant), np.random.default_rng(variant)
    meta = {
        "key": KEY,
        "merges": len(tokenizer.merges),
        "split": {"low": 0, "high": 1 << 60, "tail": False},
        "sources": ["/a.txt"],
        "tokenizer": tokenizer.sha256,
        "files_read": 1,
        "skipped": {"lines": variant % 2, "examples": ["a"] * (variant % 2), "files": 0},
    }
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        tokenizer.save(folder / "tokenizer.json")
        (folder / "meta.json").write_text(json.dumps(meta))
        for side in prepared.SIDES:
            lengths = rng.integers(1, 9, variant + 1)
            documents = [rng.integers(0, tokenizer.vocab_size, n).astype(np.int32) for n in lengths]
            token_file.write_token_file(prepared.tokens_path(folder, side), documents, tokenizer)
        return _files_in(folder)


@functools.cache
def checkpoint_files(variant: int) -> Files:
    """A small checkpoint."""
    tokenizer = _tokenizer(variant)
    config = ModelConfig(
        n_layer=1 + variant % 2, n_head=2, n_embd=4, seq_len=8, vocab_size=tokenizer.vocab_size
    )
    train = TrainConfig(max_time="10m" if variant % 2 else None)
    model = GPT(config).init(variant)
    state = TrainState(step=variant, metrics={"val_loss": 2.5, "val_bpb": "nan"}).to_dict()
    document = Plan(config, train, DataConfig()).to_dict()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        adam, state["corpus"] = Adam(model, train), KEY
        snapshot = checkpoint.Snapshot(model, adam, tokenizer).fill(document, state)
        return _files_in(checkpoint.persist(snapshot, Path(name), 1))


def _files_in(folder: Path) -> Files:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def manifest(files: Files) -> bytes:
    """The manifest of a checkpoint of these files."""
    listed = {
        name: {"size": len(files[name]), "sha256": hashlib.sha256(files[name]).hexdigest()}
        for name in checkpoint.ALL_FILES
        if name in files
    }
    return json.dumps({"format": checkpoint.FORMAT, "files": listed}).encode()


# ---- what must hold --------------------------------------------------------------------------------------


def check_tokens(case: bytes) -> None:
    """A prepared corpus is refused, or every id and offset in it can be used."""
    with tempfile.TemporaryDirectory(prefix="fuzz-tokens-") as name:
        folder = Path(name)
        n_bytes = _unpacked(case, folder)
        prepared.is_prepared(folder)
        for read in (prepared.open_prepared, functools.partial(prepared.find_prepared, key=KEY)):
            made = within_bounds(functools.partial(read, folder), n_bytes, ERRORS, LIMIT_S)
            if made is not None:
                _check_corpus(made)


def _check_corpus(made: prepared.Prepared) -> None:
    for tokens in made.sides.values():
        starts = tokens.offsets.tolist()
        assert int(tokens.ids.max()) < tokens.vocab_size, "an id outside the vocabulary"
        assert tokens.tokenizer_sha256 == made.tokenizer.sha256, "of another tokenizer"
        assert starts[0] == 0 and starts[-1] < tokens.n_tokens, "documents outside the tokens"
        assert all(start < stop for start, stop in itertools.pairwise(starts)), "no order"
    assert all(isinstance(source, str) for source in made.meta["sources"])


def check_checkpoint(case: bytes) -> None:
    """A checkpoint is refused, or gives a model that computes and a state to go on from."""
    with tempfile.TemporaryDirectory(prefix="fuzz-checkpoint-") as name:
        folder = Path(name) / "step_00000001"
        folder.mkdir()
        n_bytes = _unpacked(case, folder)
        said: list[str] = []
        for place in (folder, folder.parent):
            read = functools.partial(checkpoint.load_model, place, said.append)
            loaded = within_bounds(read, n_bytes, ERRORS, LIMIT_S)
            if loaded is not None:
                assert loaded[0].params.flat.nbytes <= n_bytes, "more weights than the file holds"
        within_bounds(lambda: _resumed(folder), n_bytes, ERRORS, LIMIT_S)
        assert all("\n" not in line for line in said), "more than one line"


def _resumed(folder: Path) -> TrainState:
    """What a resume reads of a checkpoint, in its order."""
    source = checkpoint.find_checkpoint(folder, say=lambda line: None)
    plan, state = _read_run(source)
    checkpoint.check_fit(source, plan.model)
    model = GPT(plan.model)
    checkpoint.load_weights(source, model)
    checkpoint.load_moments(source, Adam(model, plan.train))
    return state


def check_config(case: bytes) -> None:
    """The configuration of a run is refused, or describes a run that can be made and written again."""
    with tempfile.TemporaryDirectory(prefix="fuzz-config-") as name:
        folder = Path(name)
        n_bytes = _unpacked(case, folder)
        read = within_bounds(lambda: _read_run(folder), n_bytes, ERRORS, LIMIT_S)
        if read is not None:
            plan, state = read
            assert Plan.from_dict(plan.to_dict()) == plan, "not the same when it is written again"
            assert TrainState.from_dict(state.to_dict()) == state, "not the same when it is written again"
            if plan.model.n_layer < MOST_LAYERS and count_parameters(plan.model) < MOST_PARAMS:
                within_bounds(lambda: GPT(plan.model), n_bytes, ERRORS, LIMIT_S)


def _read_run(folder: Path) -> tuple[Plan, TrainState]:
    plan = Plan.from_dict(checkpoint.read_config(folder))
    return plan, TrainState.from_dict(read_json(folder / checkpoint.STATE))
