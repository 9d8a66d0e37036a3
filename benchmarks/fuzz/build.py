"""A copy of the tokenizer's C half that stops at the first bad access or undefined step, for fuzzing."""

import importlib
import os
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from microgpt.common.errors import MicrogptError

ROOT = Path(__file__).resolve().parents[2]
CHECKS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
FLAGS = ["-std=c11", "-g", "-O1", "-fPIC", "-shared", *CHECKS]
RUNTIMES = ["libasan.so", "libubsan.so"]

ASAN_OPTIONS = {
    "detect_leaks": 0,  # the interpreter keeps much at its end; tests/tokenizer/no_memory.c looks for leaks
    "allocator_may_return_null": 1,  # as malloc does, so that it ends in a MemoryError
    "max_allocation_size_mb": 2048,
    "hard_rss_limit_mb": 4096,
    "quarantine_size_mb": 32,
    "detect_stack_use_after_return": 1,
    "strict_string_checks": 1,
}


def build(folder: Path, csrc: Path = ROOT / "csrc" / "tokenizer") -> Path:
    """Compile the extension into `folder`; returns it."""
    if not sys.platform.startswith("linux"):
        raise MicrogptError(f"fuzzing needs Linux, this is {sys.platform}")
    source, library = folder / "_bpe.c", folder / "_bpe.so"
    recipe = importlib.import_module("csrc.build")
    with redirect_stdout(StringIO()):  # it says that it works
        recipe.tokenizer.emit_c_code(str(source))
    headers = [f"-I{csrc}", f"-I{sysconfig.get_paths()['include']}"]
    files = [source, *(csrc / f"{name}.c" for name in recipe.TOKENIZER_SOURCES)]
    done = _cc([*FLAGS, *headers, *map(str, files), "-o", str(library)])
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if "error" in line or "cannot" in line), "")
        raise MicrogptError(f"cannot compile with {CHECKS[0]}: {reason or 'the compiler failed'}")
    return library


def environment() -> dict[str, str]:
    """What a Python process needs around it to load that build.

    Every object gets its own malloc, so that a read beyond one is seen.
    """
    return os.environ | {
        "LD_PRELOAD": " ".join(map(_runtime, RUNTIMES)),
        "ASAN_OPTIONS": ":".join(f"{name}={value}" for name, value in ASAN_OPTIONS.items()),
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONMALLOC": "malloc",
        "OPENBLAS_NUM_THREADS": "1",
    }


def _runtime(name: str) -> str:
    """Path of a runtime library of the compiler."""
    path = _cc([f"-print-file-name={name}"]).stdout.strip()
    if not os.path.isabs(path):  # the bare name comes back where there is none
        raise MicrogptError(f"the compiler has no {name}; install gcc with its sanitizers")
    return path


def _cc(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run the C compiler: $CC, or cc."""
    command = shlex.split(os.environ.get("CC", "cc"))
    try:
        return subprocess.run([*command, *arguments], capture_output=True, text=True)
    except OSError as error:
        raise MicrogptError(f"no C compiler: {command[0]}: {error.strerror}") from error
