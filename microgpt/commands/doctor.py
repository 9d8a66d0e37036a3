"""Tell what this computer is and does: one screen to paste into a bug report.

CPU, instruction sets, caches, who multiplies matrices, what it reaches by number of threads, limits,
variables that change speed or bits, versions.  Measuring takes some seconds.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from microgpt.common.flags import Parser
from microgpt.common.output import json_line, show
from microgpt.machine.checkup import VARIABLES, checkup

BUSY = 0.5  # of its CPUs that other processes want


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt doctor", description=__doc__)
    flags.add_argument("--json", action="store_true", help="print JSON instead")
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = parser().parse_args(argv)
    found = checkup()
    if args.json:
        print(json_line(found))
    else:
        show(*told(found))


def told(found: Mapping[str, Any]) -> list[str]:
    """The check-up in lines of at most 80 columns, but for long names."""
    system, kernels, versions = (found[name] for name in ("system", "kernels", "versions"))
    caches = ", ".join(f"{level} {size}" for level, size in system["caches"].items()) or "not told"
    granted, limit = system["cpus_granted_by_group"], system["memory_limit_of_group_bytes"]
    lines = [
        f"cpu       {system['cpu']}",
        f"          {system['cpus']} CPUs, {system['cpus_usable']} usable, "
        f"{system['threads_per_core'] or 'not told how many'} to a core",
        f"caches    {caches}",
        f"kernels   {kernels['isa']}, of {', '.join(kernels['isa_supported'])}; "
        f"products by {kernels['gemm']}",
        f"blas      {kernels['blas_core']}, {kernels['blas']}",
        *_rates(found["measured"]),
        *_busy(system),
        f"memory    {system['memory_free_bytes'] / 1e9:.1f} GB free",
        f"groups    {'no limit' if limit is None else f'{limit / 1e9:.1f} GB'} of memory, "
        f"{'no limit' if granted is None else f'{granted:g}'} of CPUs",
        f"pages     huge pages {system['huge_pages'] or 'not told'}; "
        f"frequency governor {system['governor'] or 'not told'}",
        f"system    {system['platform']}",
        *_wrapped("versions", [f"{name} {version}" for name, version in versions.items()]),
        *(f"variable  {name}={value}: {VARIABLES[name]}" for name, value in system["variables"].items()),
    ]
    return lines + ([f"warning   {kernels['warning']}"] if kernels["warning"] else [])


def _rates(measured: Mapping[str, Mapping[int, float]]) -> list[str]:
    """What is reached, a column for each number of threads."""
    counts = list(measured["bytes_per_s"])
    lines = ["threads   " + "".join(f"{n:>9}" for n in counts)]
    for name, rates in measured.items():
        what, unit = name.removesuffix("_flop_per_s"), "GFLOP/s"
        if name == "bytes_per_s":
            what, unit = "memory", "GB/s"
        lines.append(f"{what:10}" + "".join(f"{rate / 1e9:9.1f}" for rate in rates.values()) + f" {unit}")
    return lines


def _busy(system: Mapping[str, Any]) -> list[str]:
    """A warning where other work took the CPUs, so that rates are too low."""
    if system["load"] is None or system["load"][0] <= BUSY * system["cpus_usable"]:
        return []
    return [f"warning   {system['load'][0]:g} processes want these CPUs: those rates are too low"]


def _wrapped(title: str, parts: Sequence[str]) -> list[str]:
    """Parts with commas between, on as many lines as they need."""
    lines = [f"{title:10}"]
    for i, part in enumerate(parts):
        word = part + ("," if i < len(parts) - 1 else "")
        if len(lines[-1]) + len(word) > 78:
            lines.append(" " * 10)
        lines[-1] += word + " "
    return [line.rstrip() for line in lines]
