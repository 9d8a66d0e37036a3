"""setup.py: what is installed.  bin/setup.sh: what makes it install again, and what does not."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_only_sources_make_it_install_again(tmp_path):
    for name in ("setup.py", "pyproject.toml", "bin/setup.sh", "csrc/pool.c", "csrc/pool.h", "csrc/build.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)

    def fingerprint():
        code = "source bin/setup.sh && fingerprint dev"
        done = subprocess.run(["bash", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=600)
        assert done.stderr == ""
        return done.stdout

    before = fingerprint()
    (tmp_path / "csrc/__pycache__").mkdir()
    (tmp_path / "csrc/pool.o").write_text("built")
    assert fingerprint() == before
    (tmp_path / "csrc/pool.h").write_text("changed")
    assert fingerprint() != before


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
