"""The door to C: what is missing or refused is said when it is needed, in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def python(*words, **environment):
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
    )


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("MICROGPT_ISA", "mmx", "instruction set 'mmx' cannot run here"),
        ("MICROGPT_BLAS", "/none.so", "BLAS library /none.so cannot be loaded"),
    ],
)
def test_what_is_wrong_with_kernels_or_blas_is_one_line(name, value, words, tmp_path):
    done = python("-m", "microgpt.train", "--out-dir", str(tmp_path / "run"), **{name: value})
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1


def test_help_needs_neither_kernels_nor_blas():
    done = python("-m", "microgpt.train", "--help", MICROGPT_ISA="mmx", MICROGPT_BLAS="/none.so")
    assert done.returncode == 0 and "usage: microgpt train" in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_threads_that_cannot_be_had_leave_the_number_as_it_was():
    """Kernels get scratch memory for as many workers as were granted, so no others may stay."""
    code = """
import os, resource, time
from microgpt.common.errors import NativeError
from microgpt.core import native
native.set_threads(2)
before = len(os.listdir("/proc/self/task"))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 100_000_000,) * 2)
try:
    native.set_threads(256)
except NativeError as error:
    for _ in range(30_000):  # a thread that was joined is listed for a moment longer
        more = len(os.listdir("/proc/self/task")) - before
        if more == 0:
            break
        time.sleep(0.01)
    print(error, native.threads(), more)
"""
    done = python("-c", code)
    assert done.stdout.endswith("give 1 to 256 2 0\n"), done


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_all_levels_share_one_pool():
    code = """
import os
from microgpt.core import native
native.set_threads(3)
before = len(os.listdir("/proc/self/task"))
for level in native.supported_levels():
    native.use_level(level)
    print(native.threads(), len(os.listdir("/proc/self/task")) - before)
native.set_threads(2)
native.use_level("baseline")
while len(os.listdir("/proc/self/task")) == before:  # a thread that was joined is listed for a moment longer
    pass
print(native.threads(), len(os.listdir("/proc/self/task")) - before)
"""
    done = python("-c", code)
    *levels, last = done.stdout.splitlines()
    assert levels and set(levels) == {"3 0"} and last == "2 -1", done


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_a_forked_child_keeps_the_number_of_threads_and_computes_the_same():
    code = """
import os
import numpy as np
from microgpt.core import native, ops
native.set_threads(3)
x, weight = np.random.default_rng(0).normal(size=(2, 700, 300)).astype(np.float32)
expected = ops.linear_forward(x, weight)
if os.fork() == 0:
    before = len(os.listdir("/proc/self/task"))
    same = np.array_equal(ops.linear_forward(x, weight), expected)
    print(native.threads(), before, len(os.listdir("/proc/self/task")), same, flush=True)
    os._exit(0)
os.wait()
"""
    done = python("-W", "ignore::DeprecationWarning", "-c", code)
    assert done.stdout == "3 1 3 True\n", done
