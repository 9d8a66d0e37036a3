"""bin/setup.sh: what makes it install again, and what does not."""

import shutil
import subprocess
from pathlib import Path

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
