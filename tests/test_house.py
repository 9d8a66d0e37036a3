"""The plan of the house holds: rooms import only from rooms before them, and one door leads to C."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = [
    "microgpt.tokenizer",
    "microgpt.common",
    "microgpt.core",
    "microgpt.model",
    "microgpt.corpus",
    "microgpt.training",
    "microgpt.inference",
]
FILES = sorted([*ROOT.glob("tokenizer/**/*.py"), *ROOT.glob("microgpt/**/*.py")])


def module(path):
    """The name under which a file is imported; the folder tokenizer is the package microgpt.tokenizer."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("microgpt", *parts) if parts[0] == "tokenizer" else parts)


def imported(path):
    """Absolute names of the modules that a file imports."""
    package = module(path).split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*base, node.module] if node.module else base)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def room(name):
    return next((r for r in ROOMS if name == r or name.startswith(r + ".")), None)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_import_only_rooms_before_them(path):
    here = room(module(path))
    for name in imported(path):
        there = room(name)
        assert not name.startswith("tokenizer"), f"{name}: the one name is microgpt.tokenizer"
        if here == "microgpt.tokenizer":
            ours = name.startswith("microgpt") and there != here
            assert not ours, f"{name}: the tokenizer knows nothing of microgpt"
        elif here and there:
            assert ROOMS.index(there) <= ROOMS.index(here), f"{name} is above {here}"
        elif here and name.startswith("microgpt."):
            pytest.fail(f"{name}: a room imports a command")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_doors_touch_c(path):
    if path.relative_to(ROOT).as_posix() == "microgpt/core/native.py":
        return
    text = path.read_text(encoding="utf-8")
    assert "_kernels_" not in text and "ctypes" not in text.replace("ctypes.util", "")


def test_every_python_file_directly_in_microgpt_is_a_command():
    for path in ROOT.glob("microgpt/*.py"):
        if path.name != "__init__.py":
            functions = [n.name for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef)]
            assert "main" in functions, path.name


def test_the_top_level_is_fixed():
    rooms = {"microgpt", "csrc", "tokenizer", "bin", "benchmarks", "tests", "data"}
    ignored = {"build", "dist", "runs", "__pycache__", "microgpt_cpu.egg-info"}
    there = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    assert there - ignored == rooms
