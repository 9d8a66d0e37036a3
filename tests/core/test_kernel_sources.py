"""The kernels' C sources themselves: every level, whichever compiler, without a warning."""

import shutil
import subprocess
from pathlib import Path

import pytest

from csrc.build import FLAGS, LEVELS, SOURCES

CSRC = Path(__file__).parents[2] / "csrc" / "kernels"


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_no_warnings(compiler, level):
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    sources = [f"{name}.c" for name in SOURCES]
    command = [compiler, *FLAGS, *LEVELS[level], "-Werror", "-fsyntax-only", *sources]
    done = subprocess.run(command, cwd=CSRC, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
