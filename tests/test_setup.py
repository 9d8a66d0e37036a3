"""setup.py: what is installed.  bin/setup.sh: what makes it install again, and what does not."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
POOL = "csrc/kernels/pool.h"


PYTHON = """#!/bin/sh
if [ "$1" = --version ]; then echo Python 3.99; exit; fi
echo "${CC:-} $0 $*" >>installs
touch microgpt/core/_kernels_new.so
"""


def bash(tree, code, **environment):
    words, env = ["bash", "-c", f"source bin/setup.sh && {code}"], {"PATH": os.environ["PATH"]} | environment
    return subprocess.run(words, cwd=tree, capture_output=True, text=True, timeout=600, env=env)


@pytest.fixture
def tree(tmp_path):
    """A few sources and two venvs whose Python only writes down what it is asked for."""
    for name in ("setup.py", "pyproject.toml", "bin/setup.sh", "csrc/kernels/pool.c", POOL, "csrc/build.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for venv in (".venv", ".venv-2"):
        python = tmp_path / venv / "bin/python"
        python.parent.mkdir(parents=True)
        python.write_text(PYTHON)
        python.chmod(0o755)
    (tmp_path / "microgpt/core").mkdir(parents=True)
    return tmp_path


def test_only_sources_make_it_install_again(tree):
    def fingerprint():
        done = bash(tree, "fingerprint dev")
        assert done.stderr == ""
        return done.stdout

    before = fingerprint()
    (tree / "csrc/__pycache__").mkdir()
    (tree / "csrc/pool.o").write_text("built")
    assert fingerprint() == before
    (tree / POOL).write_text("changed")
    assert fingerprint() != before


def test_kernels_of_another_compiler_are_replaced_whatever_venv_had_them_built(tree):
    def installs(extra="dev", **environment):
        done = bash(tree, f'install "{extra}"', **environment)
        assert done.returncode == 0, done.stderr
        log = tree / "installs"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return [" ".join(line.split()[:2]) for line in lines]

    assert installs() == [".venv/bin/python -m"] and installs() == []
    assert installs(extra="") == [".venv/bin/python -m"] and installs() == installs(extra="") == []
    stale = tree / "microgpt/core/_kernels_old.cpython-399.so"
    stale.touch()
    other = {"CC": sys.executable, "VENV": ".venv-2"}
    assert installs(**other) == [f"{sys.executable} .venv-2/bin/python"] and installs(**other) == []
    assert [path.name for path in stale.parent.iterdir()] == ["_kernels_new.so"]
    assert installs() == [".venv/bin/python -m"] and installs() == []


def test_a_compiler_that_is_not_there_is_named_before_anything_is_removed(tree):
    kernel = tree / "microgpt/core/_kernels_old.so"
    kernel.touch()
    done = bash(tree, "install dev", CC="icc-99")
    assert done.returncode == 1 and kernel.exists() and not (tree / "installs").exists()
    assert done.stderr == "microgpt: CC=icc-99: there is no such compiler; install it or leave CC out\n"


def test_only_microgpt_is_installed_and_an_editable_install_is_a_path():
    """A finder, which setuptools makes without package_dir, comes after a folder that is named microgpt."""
    pytest.importorskip("setuptools")
    code = (
        "import json, setuptools, distutils.core as core\n"
        "d = core.run_setup('setup.py', stop_after='init')\n"
        "print(json.dumps([d.get_name(), d.package_dir, d.packages]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    name, package_dir, packages = json.loads(done.stdout)
    assert name == "microgpt-cpu" and package_dir == {"": "."}
    assert "microgpt.tokenizer" in packages and {name.split(".")[0] for name in packages} == {"microgpt"}
