"""The kernels' C sources themselves: every level, whichever compiler, without a warning."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from csrc.build import FLAGS, LEVELS, SOURCES

CSRC = Path(__file__).parents[2] / "csrc" / "kernels"
INTRINSICS = "#ifdef __AVX512F__\n#include <immintrin.h>\n#endif\n"


def reads(name, word):
    """Whether a source has a word, itself or in what it includes."""
    text = (CSRC / name).read_text()
    return word in text or any(reads(other, word) for other in re.findall('#include "(.*)"', text))


def differing(level):
    """The sources that are not, word by word, those of another level."""
    names = [f"{name}.c" for name in SOURCES]
    return [name for name in names if reads(name, "__AVX512BF16__")] if level == "avx512" else names


def test_sources_that_differ_between_the_two_widest_levels_are_found():
    assert "gemm.c" in differing("avx512") and "gelu.c" not in differing("avx512")


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_no_warnings(compiler, level, tmp_path):
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")

    def checked(*words):
        command = [compiler, *FLAGS, *LEVELS[level], "-Werror", "-Winvalid-pch", *words]
        done = subprocess.run(command, cwd=CSRC, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    # The compiler's own header is twenty times as long as a kernel: read once, not for each of them.
    header = tmp_path / "intrinsics.h"
    header.write_text(INTRINSICS)
    checked("-x", "c-header", header, "-o", f"{header}.gch")
    checked("-fsyntax-only", "-include", header, *differing(level))
