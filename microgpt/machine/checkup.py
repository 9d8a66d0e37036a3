"""All that a bug report about speed, memory or numbers needs to say of a computer: read, and measured."""

import contextlib
import importlib.metadata
import math
import os
import platform
import re
from pathlib import Path
from typing import Any

import microgpt
from microgpt.core import native

from .cgroups import folders
from .cpus import available_cpus, granted_cpus
from .memory import available_memory, group_limit
from .rates import bandwidth_bytes_per_s, cpu_name, product_flop_per_s

CPU, PAGES = Path("/sys/devices/system/cpu"), Path("/sys/kernel/mm/transparent_hugepage/enabled")
PACKAGE, DEVELOPMENT = "microgpt-cpu", re.compile(r"extra == .(dev|oracles)")
# Variables that change how fast this computer trains, or in what bits, and how.
VARIABLES = {
    "MICROGPT_ISA": "forces an instruction set",
    "MICROGPT_GEMM": "chooses who multiplies matrices; blas is slower where there is AVX2",
    "MICROGPT_BLAS": "takes another BLAS",
    "MICROGPT_THREADS": "fixes the number of threads",
    "OPENBLAS_CORETYPE": "forces kernels of OpenBLAS, maybe half as fast as those it would choose",
    "OPENBLAS_NUM_THREADS": "is not needed: microgpt has its own threads",
    "LD_PRELOAD": "puts a library before all others",
    "MALLOC_PERTURB_": "fills memory that is given back: slow",
    "PYTHONMALLOC": "may check each allocation of Python: slow",
    "PYTHONDEVMODE": "checks at each step of Python: slow",
}


def checkup() -> dict[str, Any]:
    """What there is, in sections of plain values; measuring takes some seconds."""
    return {"versions": versions(), "system": system(), "kernels": kernels(), "measured": measured()}


def versions() -> dict[str, str]:
    """Of everything that computes."""
    found = {"microgpt": microgpt.__version__, "python": platform.python_version()}
    for name in dependencies():
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def dependencies() -> list[str]:
    """Packages that microgpt names, but for development; NumPy alone where microgpt is not installed."""
    try:
        named = importlib.metadata.requires(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        named = []
    names = [re.split(r"[^\w.-]", line)[0] for line in named if not DEVELOPMENT.search(line)]
    return list(dict.fromkeys(["numpy", *names]))


def system() -> dict[str, Any]:
    """CPU, memory, limits, and variables that matter."""
    granted = granted_cpus()
    return {
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cpus": os.cpu_count(),
        "cpus_usable": available_cpus(),
        "cpus_granted_by_group": granted if math.isfinite(granted) else None,
        "threads_per_core": threads_per_core(),
        "load": load(),
        "caches": caches(),
        "governor": _first_line(CPU / "cpu0/cpufreq/scaling_governor"),
        "huge_pages": _chosen(_first_line(PAGES)),
        "memory_free_bytes": round(available_memory()),
        "memory_limit_of_group_bytes": group_limit(),
        "group": next((str(folder) for folder in reversed([*folders("memory")]) if folder.is_dir()), None),
        "variables": {name: os.environ[name] for name in VARIABLES if os.environ.get(name)},
    }


def load() -> list[float] | None:
    """Processes that wanted a CPU, mean of the last 1, 5 and 15 minutes."""
    try:
        return [round(number, 2) for number in os.getloadavg()]
    except OSError:
        return None


def kernels() -> dict[str, Any]:
    """Which of our kernels run here, and who multiplies."""
    found = {"isa": native.info()["isa"], "isa_supported": native.supported_levels()}
    return found | {name: native.info()[name] for name in ("gemm", "blas_core", "blas")} | _precisions()


def _precisions() -> dict[str, Any]:
    has_bf16 = native.choose_precision("auto") == "bf16"
    return {"bf16": has_bf16, "warning": native.warning("bf16" if has_bf16 else "fp32") or None}


def measured() -> dict[str, Any]:
    """FLOP and bytes that this computer does in a second now, by number of threads."""
    precisions = ["fp32", *(["bf16"] if native.choose_precision("auto") == "bf16" else [])]
    n = available_cpus()
    counts = sorted({2**i for i in range(n.bit_length()) if 2**i < n} | {n})
    return {
        **{
            f"{precision}_flop_per_s": {k: round(product_flop_per_s(precision, k)) for k in counts}
            for precision in precisions
        },
        "bytes_per_s": {k: round(bandwidth_bytes_per_s(k)) for k in counts},
    }


def caches(cpu: Path = CPU / "cpu0/cache") -> dict[str, str]:
    """Sizes of a CPU's caches of data, by level."""
    found = {}
    for folder in sorted(cpu.glob("index*")):
        kind, level, size = (_first_line(folder / name) for name in ("type", "level", "size"))
        if kind in ("Data", "Unified") and level and size:
            found[f"L{level}"] = size
    return found


def threads_per_core(cpu: Path = CPU / "cpu0/topology/thread_siblings_list") -> int | None:
    """How many CPUs share a core; None where that is not told."""
    listed = _first_line(cpu)
    if not listed:
        return None
    spans = (part.split("-") for part in listed.split(","))
    return sum(int(span[-1]) - int(span[0]) + 1 for span in spans)


def _first_line(path: Path) -> str | None:
    try:
        return path.read_text().strip().split("\n")[0]
    except (OSError, UnicodeDecodeError):
        return None


def _chosen(line: str | None) -> str | None:
    """`always [madvise] never` -> `madvise`."""
    return line.partition("[")[2].partition("]")[0] or line if line else None
