"""A little of benchmarks/torture/__main__.py; the long form takes half an hour."""

import sys

import pytest

from benchmarks.torture import __main__
from benchmarks.torture.lost import Call, Disk, File, names_of, states

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the shim is for Linux")
DEFAULT = ("kills", "errors")  # each of the others takes about as long as these two


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[] if kind in DEFAULT else pytest.mark.slow) for kind in __main__.KINDS],
)
def test_nothing_is_lost(kind, capfd):
    code = __main__.main([kind, "--short", "--seed", "1"])
    words = capfd.readouterr()
    assert code == 0, words.out + words.err
    assert f"{kind}: " in words.out and ", 0 failures" in words.out


def test_a_failure_is_told_and_counted(capsys):
    verdict = __main__.judge("kills", [(None, "kill at 1"), ("resumes at 0", "kill at 2")], seed=7)
    assert verdict.failures == ["kill at 2: resumes at 0"]
    assert capsys.readouterr().out.splitlines()[0] == "kills: FAILED: kill at 2: resumes at 0"


def disk_after(tmp_path, *calls):
    disk = Disk(tmp_path).load(tmp_path)
    for call in calls:
        disk.apply(Call(call[0], f"{tmp_path}/{call[1]}" if call[1] else str(tmp_path), *call[2:]))
    return disk


def test_the_modelled_disk_forgets_what_was_not_synced(tmp_path):
    made = [("mkdir", "a", "", b""), ("open", "a/x", "", b""), ("write", "a/x", "", b"1234")]
    disk = disk_after(tmp_path, *made)
    assert len(disk.changes) == 2 and not disk.root.safe
    assert len(list(states(disk))) == 4 * 4  # each name there or not, times what became of the data
    disk = disk_after(tmp_path, *made, ("fsync", "a/x", "", b""), ("fsync", "a", "", b""))
    assert not disk.root.safe, "the name of the directory is not safe before its parent was synced"
    inside = names_of(names_of(disk.root, disk.changes)["a"], [])["x"]
    assert isinstance(inside, File) and inside.safe == b"1234"


def test_the_modelled_disk_renames_at_once(tmp_path):
    disk = disk_after(
        tmp_path, ("mkdir", "a", "", b""), ("fsync", "", "", b""), ("rename", "a", f"{tmp_path}/b", b"")
    )
    assert [set(names_of(disk.root, survived)) for survived, _ in states(disk)] == [{"a"}] * 4 + [{"b"}] * 4
