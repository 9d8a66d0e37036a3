"""What every command says in the same way."""

import os
import subprocess
import sys

import pytest

from microgpt.common import words


@pytest.mark.parametrize("n, text", [(0, "0 files"), (1, "1 file"), (1234, "1,234 files")])
def test_one_is_not_several(n, text):
    assert words.counted(n, "file") == text


@pytest.mark.parametrize("on_path", ["microgpt", "python", "another", ""])
def test_a_printed_command_is_the_one_that_runs_here(tmp_path, monkeypatch, on_path):
    scripts = tmp_path / "env dir" / "bin"
    for place, names in ((scripts, ("microgpt", "python")), (tmp_path / "other", ("microgpt", "python"))):
        place.mkdir(parents=True)
        for name in names:
            (place / name).write_text('#!/bin/sh\nprintf "%s|" "$0" "$@"\n')
            (place / name).chmod(0o755)
    if on_path == "python":
        (scripts / "microgpt").unlink()
    path = {"microgpt": scripts, "python": scripts, "another": tmp_path / "other", "": tmp_path}[on_path]
    monkeypatch.setenv("PATH", f"{path}:{os.defpath}")
    monkeypatch.setattr(sys, "executable", str(scripts / "python"))
    monkeypatch.chdir(tmp_path)
    line = words.command_line("chat", "it's mine", 7)
    start = {"microgpt": "microgpt", "python": "python -m microgpt"}.get(
        on_path, "'env dir/bin/python' -m microgpt"
    )
    assert line.startswith(f"{start} chat ")
    said = subprocess.run(line, shell=True, capture_output=True, text=True).stdout
    assert "env dir/bin/" in said and said.endswith("chat|it's mine|7|")


@pytest.mark.parametrize("n, text", {987.4: "987", 1437: "1.4k", 16_572: "17k", 1_234_567: "1.2M"}.items())
def test_speeds_are_short(n, text):
    assert words.short_number(n) == text
