"""The plan of the house holds: rooms import only from rooms above them, and two doors lead to C."""

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = [  # from top to bottom; a room below may import from one above
    "tokenizer",
    "microgpt.common",
    "microgpt.files",
    "microgpt.core",
    "microgpt.machine",
    "microgpt.model",
    "microgpt.corpus",  # its own files know none of its sub-rooms
    "microgpt.corpus.reading",
    "microgpt.corpus.smalltalk",
    "microgpt.corpus.prepared",
    "microgpt.batches",
    "microgpt.runs",
    "microgpt.decoding",
    "microgpt.evaluation",
    "microgpt.training",
    "microgpt.chat",
    "microgpt.planning",
    "microgpt.tuning",
    "microgpt.research",
    "microgpt.reporting",
    "microgpt.commands",
]
VERSION = {"microgpt", "microgpt.__version__"}  # what lies above all rooms
LEAVES = {  # no room but the commands imports them
    "microgpt.chat",
    "microgpt.planning",
    "microgpt.tuning",
    "microgpt.research",
    "microgpt.reporting",
}
DOORS = {"microgpt/core/native.py": "_kernels_", "tokenizer/native.py": "_bpe"}
FILES = sorted({p for room in ROOMS for p in (ROOT / room.replace(".", "/")).rglob("*.py")})


def name_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@functools.cache
def imported(path):
    """Absolute names of the modules that a file imports."""
    return tuple(_imported(path))


def _imported(path):
    name = name_of(path)
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*base, node.module] if node.module else base)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def room(name):
    name = re.sub(r"^microgpt\.tokenizer\b", "tokenizer", name)
    return max((r for r in ROOMS if name == r or name.startswith(r + ".")), key=len, default=None)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_import_only_rooms_above_them(path):
    here = room(name_of(path))
    assert here, f"{path}: a file of no room"
    for name in imported(path):
        there = room(name)
        if here == "tokenizer":
            assert there in (None, "tokenizer") and name.split(".")[0] != "benchmarks", name
            assert not name.startswith("microgpt") or there == "tokenizer", "the tokenizer knows no microgpt"
        elif there:
            assert ROOMS.index(there) <= ROOMS.index(here), f"{name} is below {here}"
            assert there not in LEAVES or here in (there, "microgpt.commands"), f"{name} is a leaf"
        else:
            assert name.split(".")[0] not in ("microgpt", "benchmarks") or name in VERSION, name


def test_no_circle_of_files():
    found = {name_of(path): [*imported(path)] for path in FILES}
    found = {name: {*names, *(full.rpartition(".")[0] for full in names)} for name, names in found.items()}
    edges = {name: {n for n in names if n in found} - {name} for name, names in found.items()}
    done, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            path.append(name)
            for other in sorted(edges[name]):
                if not name.startswith(other + "."):  # a package is there before its files
                    visit(other)
            done.add(path.pop())

    for name in edges:
        visit(name)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_doors_touch_c(path):
    mine = DOORS.get(path.relative_to(ROOT).as_posix(), "")
    text = path.read_text(encoding="utf-8")
    for word in ("_kernels_", "ctypes", "import _bpe", "cffi"):
        assert mine or word not in text.replace("ctypes.util", ""), word


def test_commands_and_readme_agree_with_the_house():
    table = re.findall(r"^\| `(?:microgpt/)?(\w+)/`", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    rooms = [name.removeprefix("microgpt.") for name in ROOMS if name.count(".") < 2]
    assert [name for name in table if name in rooms] == rooms


def test_the_top_level_is_fixed():
    rooms = {"microgpt", "csrc", "tokenizer", "bin", "benchmarks", "tests", "data"}
    tracked = {path.name for path in ROOT.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    assert all((ROOT / name).is_dir() for name in rooms) and tracked <= rooms
