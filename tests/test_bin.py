"""bin/: what the commands say before they install anything."""

import os
import shutil
import subprocess
import sys
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


ORACLES = """import pytest

@pytest.mark.oracle("no_such_package")
@pytest.mark.parametrize("i", range(3))
def test_one(i):
    raise AssertionError

@pytest.mark.oracle("pytest")
def test_other():
    pass

@pytest.mark.slow
def test_slow():
    pass
"""


def test_what_is_skipped_for_want_of_outside_implementations_is_one_line(tmp_path):
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_it.py").write_text(ORACLES)

    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, timeout=600, env=env)
    said = "3 tests against outside implementations skipped; bin/test --oracles installs and runs them"
    *lines, last = done.stdout.splitlines()
    assert "1 passed, 3 skipped, 1 deselected" in last
    assert [line for line in lines if "outside" in line] == [said]
    done = subprocess.run(
        [*command, str(tmp_path), "--slow"], capture_output=True, text=True, timeout=600, env=env
    )
    assert "1 passed, 4 deselected" in done.stdout.splitlines()[-1]
