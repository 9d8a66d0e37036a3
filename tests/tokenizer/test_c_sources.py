"""The C sources themselves: no warnings, and a status where memory ends."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "csrc" / "tokenizer"
SOURCES = sorted(CSRC.glob("*.c"))
COMPILER = shutil.which(os.environ.get("CC", "cc"))

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler")


def cc(*arguments):
    return subprocess.run([COMPILER, "-std=c11", *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_no_warnings(source):
    done = cc("-O2", "-fsyntax-only", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror", source)
    assert done.returncode == 0, done.stderr


def test_every_failing_allocation_is_a_status(tmp_path):
    names = ("malloc", "calloc", "realloc", "aligned_alloc")
    renamed = [f"-D{name}=failing_{name}" for name in names]
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    (tmp_path / "probe.c").write_text("int main(void) { return 0; }")
    if cc(tmp_path / "probe.c", *sanitizers, "-o", tmp_path / "probe").returncode:
        sanitizers = []
    objects = []
    for source in SOURCES:
        objects.append(tmp_path / f"{source.stem}.o")
        done = cc("-O1", "-g", *sanitizers, *renamed, "-c", source, "-o", objects[-1])
        assert done.returncode == 0, done.stderr
    main = Path(__file__).with_name("no_memory.c")
    done = cc("-O1", "-g", *sanitizers, f"-I{CSRC}", main, *objects, "-o", tmp_path / "no_memory")
    assert done.returncode == 0, done.stderr
    done = subprocess.run([tmp_path / "no_memory"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 40
