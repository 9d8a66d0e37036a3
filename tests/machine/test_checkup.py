"""What a computer is found to be."""

from microgpt.commands import doctor
from microgpt.machine import checkup
from microgpt.machine.memory import group_limit


def folder(tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_caches_of_data_by_level(tmp_path):
    files = {}
    for i, (kind, level, size) in enumerate(
        [("Data", 1, "48K"), ("Instruction", 1, "32K"), ("Unified", 2, "1M"), ("Unified", 3, "32M")]
    ):
        files |= {f"index{i}/type": kind, f"index{i}/level": f"{level}\n", f"index{i}/size": f"{size}\n"}
    assert checkup.caches(folder(tmp_path, files)) == {"L1": "48K", "L2": "1M", "L3": "32M"}
    assert checkup.caches(tmp_path / "none") == {}


def test_threads_of_a_core(tmp_path):
    for text, n in (("0\n", 1), ("0,8\n", 2), ("0-3", 4)):
        (tmp_path / "list").write_text(text)
        assert checkup.threads_per_core(tmp_path / "list") == n
    assert checkup.threads_per_core(tmp_path / "none") is None


def test_the_tightest_limit_of_the_groups(tmp_path):
    (tmp_path / "proc").write_text("0::/a/b\n")
    mount = folder(
        tmp_path / "mount", {"memory.max": "max\n", "a/memory.max": "7000\n", "a/b/memory.max": "9000"}
    )
    assert group_limit(tmp_path / "proc", mount) == 7000
    folder(mount, {"a/memory.max": str((1 << 63) - 4096), "a/b/memory.max": "max"})
    assert group_limit(tmp_path / "proc", mount) is None


def test_the_screen_fits_80_columns_and_names_what_slows_down(monkeypatch, capsys):
    monkeypatch.setattr(checkup, "product_flop_per_s", lambda precision, n: 123e9 * n)
    monkeypatch.setattr(checkup, "bandwidth_bytes_per_s", lambda n: 20e9)
    monkeypatch.setattr(checkup, "available_cpus", lambda: 6)
    monkeypatch.setattr(checkup, "load", lambda: [5.0, 0.0, 0.0])
    monkeypatch.setenv("PYTHONMALLOC", "debug")
    doctor.main([])
    lines = capsys.readouterr().out.splitlines()
    text = "\n".join(lines)
    assert max(len(line) for line in lines if not line.startswith(("system", "variable", "warning"))) <= 80
    assert "threads           1        2        4        6" in lines and "    738.0 GFLOP/s" in text
    assert "variable  PYTHONMALLOC=debug: may check each allocation of Python: slow" in lines
    assert "warning   5 processes want these CPUs: those rates are too low" in lines
    assert "numpy" in text and "microgpt" in text
