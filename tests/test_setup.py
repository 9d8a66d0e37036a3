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
if [ "$1" = -c ]; then echo torch==9.1 other==8; exit; fi
case "$*" in *${REFUSED:-nothing}*) exit 1 ;; esac
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


def asked_of_pip(tree, **environment):
    """Return code, what was said last, and what was installed, words from the first that is not pip's own."""
    done = bash(tree, "install_oracles", **environment)
    log = tree / "installs"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    said = (done.stdout + done.stderr).splitlines()
    return done.returncode, said[-1] if said else "", [line.split("-version-check ")[1] for line in lines]


def test_outside_implementations_are_installed_once_with_pytorch_for_cpus(tree):
    expected = ["torch==9.1+cpu", "torch==9.1 other==8"]
    said = "installing torch==9.1, other==8 (log: .venv/oracles.log) ..."
    assert asked_of_pip(tree) == (0, said, expected) and asked_of_pip(tree) == (0, "", [])


def test_pytorch_with_cuda_is_never_what_is_taken_instead(tree):
    from_its_makers = "--index-url https://download.pytorch.org/whl/cpu torch==9.1"
    assert asked_of_pip(tree, REFUSED="+cpu")[2] == [from_its_makers, "torch==9.1 other==8"]
    (tree / ".venv/installed-oracles").unlink()
    refused = "microgpt: outside implementations cannot be installed; the log is in .venv/oracles.log"
    assert asked_of_pip(tree, REFUSED="torch") == (1, refused, [])
    assert asked_of_pip(tree, REFUSED="other") == (1, refused, ["torch==9.1+cpu"])
    assert not (tree / ".venv/installed-oracles").exists()


def test_outside_implementations_are_pinned():
    found = distribution("extras_require")["oracles"]
    assert {name.split("==")[0] for name in found} >= {"torch", "transformers", "tokenizers", "tiktoken"}
    assert all(name.count("==") == 1 for name in found)


def distribution(*names):
    """Attributes of what setup.py describes."""
    code = (
        "import json, setuptools, distutils.core as core\n"
        "d = core.run_setup('setup.py', stop_after='init')\n"
        f"print(json.dumps([getattr(d, name) for name in {names}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    values = json.loads(done.stdout)
    return values if len(names) > 1 else values[0]


def test_only_microgpt_is_installed_and_an_editable_install_is_a_path():
    """A finder, which setuptools makes without package_dir, comes after a folder that is named microgpt."""
    package_dir, packages = distribution("package_dir", "packages")
    assert package_dir == {"": "."}
    assert "microgpt.tokenizer" in packages and {name.split(".")[0] for name in packages} == {"microgpt"}
