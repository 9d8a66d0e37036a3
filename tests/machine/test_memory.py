"""The memory that a process may take, from files such as Linux has them."""

import pytest

from microgpt.machine.memory import available_memory


@pytest.fixture
def machine(tmp_path):
    """A machine with 8 GB free; (meminfo, cgroup, mount) and a way to write files of control groups."""

    def files(**contents):
        (tmp_path / "meminfo").write_text("MemTotal: 16000000 kB\nMemAvailable: 8000000 kB\n")
        (tmp_path / "cgroup").write_text(contents.pop("cgroup", ""))
        for path, text in contents.items():
            place = tmp_path / "mount" / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        return available_memory(tmp_path / "meminfo", tmp_path / "cgroup", tmp_path / "mount")

    return files


V2 = "0::/a/b\n"
V1 = "4:memory:/c\n3:cpu:/other\n"


@pytest.mark.parametrize(
    "files, expected",
    [
        ({}, 8_192e6),
        ({"cgroup": V2, "a/b/memory.max": "max", "a/b/memory.current": "5"}, 8_192e6),
        ({"cgroup": V2, "a/b/memory.max": "3000", "a/b/memory.current": "1000"}, 2000),
        (
            {
                "cgroup": V2,
                "a/b/memory.max": "3000",
                "a/b/memory.current": "1000",
                "a/b/memory.stat": "anon 600\nfile 400\n",
            },
            2400,
        ),
        (
            {
                "cgroup": V2,
                "a/memory.max": "700",
                "a/memory.current": "0",
                "a/b/memory.max": "3000",
                "a/b/memory.current": "1000",
            },
            700,
        ),
        (
            {
                "cgroup": V1,
                "memory/c/memory.limit_in_bytes": "900",
                "memory/c/memory.usage_in_bytes": "100",
                "memory/c/memory.stat": "cache 50\n",
            },
            850,
        ),
        (
            {"cgroup": V1, "cpu/other/memory.limit_in_bytes": "9", "cpu/other/memory.usage_in_bytes": "0"},
            8_192e6,
        ),
        ({"cgroup": "nonsense", "memory.max": "x y"}, 8_192e6),
    ],
)
def test_the_tightest_limit_counts(files, expected, machine):
    assert machine(**files) == expected


def test_without_such_files_it_is_what_the_machine_has(tmp_path):
    assert 1e8 < available_memory(tmp_path, tmp_path, tmp_path) < 1e15
