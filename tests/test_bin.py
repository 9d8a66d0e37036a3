"""bin/: what the commands say before they install anything."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("words, code", [([], 2), (["--help"], 0), (["-h"], 0), (["dance"], 2)])
def test_bench_lists_what_there_is(words, code):
    done = subprocess.run([ROOT / "bin" / "bench", *words], capture_output=True, text=True, timeout=600)
    folder = ROOT / "benchmarks"
    files = [*folder.glob("[a-z]*.py"), *(path.parent for path in folder.glob("*/__main__.py"))]
    assert done.returncode == code
    assert done.stderr == ("bin/bench: there is no benchmark dance\n" if words == ["dance"] else "")
    assert done.stdout.split("one of:")[1].split() == sorted(path.stem for path in files)
