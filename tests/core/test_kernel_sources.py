"""The kernels' C sources themselves: every level, whichever compiler, without a warning."""

import shutil
import subprocess
from pathlib import Path

import pytest

from csrc.build import FLAGS, LEVELS, SOURCES

CSRC = Path(__file__).parents[2] / "csrc" / "kernels"
INTRINSICS = "#ifdef __AVX512F__\n#include <immintrin.h>\n#endif\n"


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
    checked("-fsyntax-only", "-include", header, *(f"{name}.c" for name in SOURCES))
