"""What a user says about threads, and what control groups grant."""

import math

import pytest

from microgpt.common.errors import ConfigError
from microgpt.core import native
from microgpt.machine import cpus as threads
from microgpt.machine.cpus import available_cpus, granted_cpus, thread_count, wanted_threads
from microgpt.runs.settings import TrainConfig
from microgpt.training.run import set_up_machine


def test_a_flag_beats_the_variable_and_the_variable_the_default(monkeypatch):
    monkeypatch.setattr(threads, "available_cpus", lambda: 7)
    monkeypatch.delenv("MICROGPT_THREADS", raising=False)
    assert thread_count() == 7
    monkeypatch.setenv("MICROGPT_THREADS", "3")
    assert thread_count() == 3 and thread_count("2") == 2 and thread_count("auto") == 7
    monkeypatch.setenv("MICROGPT_THREADS", "auto")
    assert thread_count() == 7


def test_more_threads_than_cpus_are_told_to_be_slower(monkeypatch, capsys):
    monkeypatch.setattr(threads, "available_cpus", lambda: 2)
    line = "threads: 99 on 2 CPUs; more threads than CPUs are slower, take 2 or auto"
    assert wanted_threads("2") == 2 and thread_count("99") == 99 and capsys.readouterr().err == ""
    assert wanted_threads("99") == 99 and capsys.readouterr().err == f"microgpt: {line}\n"
    said = []
    monkeypatch.setattr(native, "set_threads", lambda n: None)
    for n in ("auto", "2", "99"):
        set_up_machine(TrainConfig(threads=n), said.append)
    assert [text for text in said if text.startswith("threads")] == [line]


@pytest.mark.parametrize("text", ["0", "-1", "many", "257", "9" * 5000, "1.5", "²", "all"])
def test_a_bad_number_is_one_line_that_names_its_source(text, monkeypatch):
    with pytest.raises(ConfigError, match=r"^--threads .*1 to 256, or auto$"):
        thread_count(text)
    monkeypatch.setenv("MICROGPT_THREADS", text)
    with pytest.raises(ConfigError, match=r"^MICROGPT_THREADS .*1 to 256, or auto$"):
        thread_count()


def groups(tmp_path, line, **files):
    (tmp_path / "cgroup").write_text(f"5:memory:/x\n{line}\n")
    for name, text in files.items():
        path = tmp_path / name.replace("__", "/").replace("_max", ".max").replace("cfs", "cpu.cfs")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return granted_cpus(tmp_path / "cgroup", tmp_path)


@pytest.mark.parametrize(
    "line, files, expected",
    [
        (
            "0::/a/b",
            {"a__b__cpu_max": "max 100000", "a__cpu_max": "150000 100000\n"},
            1.5,
        ),  # the tightest around
        ("0::/a/b", {"a__b__cpu_max": "50000 100000", "a__cpu_max": "150000 100000\n"}, 0.5),
        ("0::/../../c", {"cpu_max": "300000 100000"}, 3),
        ("0::/", {}, math.inf),
        ("0::/", {"cpu_max": "nonsense"}, math.inf),
        ("4:cpu,cpuacct:/d", {"cpu__d__cfs_quota_us": "200000", "cpu__d__cfs_period_us": "100000"}, 2),
        ("4:cpu:/d", {"cpu__d__cfs_quota_us": "-1", "cpu__d__cfs_period_us": "100000"}, math.inf),
    ],
)
def test_limits_of_control_groups(line, files, expected, tmp_path):
    assert groups(tmp_path, line, **files) == expected


@pytest.mark.parametrize("granted, cpus", [(math.inf, 6), (1.5, 2), (0.2, 1), (64.0, 6)])
def test_cpus_are_those_of_the_affinity_within_the_grant(granted, cpus, monkeypatch):
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    monkeypatch.setattr(threads, "granted_cpus", lambda: granted)
    assert available_cpus() == cpus
