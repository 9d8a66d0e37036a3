"""The front of several objectives: what no other is better than in one and at least as good in all others."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def on_front(costs: np.ndarray) -> np.ndarray:
    """Which rows no other row is below in one column and not above in any.  costs: (n, objectives).

    Of rows that are equal all are.  Returns: bool (n,).
    """
    below = (costs[:, None] <= costs).all(-1) & (costs[:, None] < costs).any(-1)  # row by the column's row
    return np.logical_not(below.any(0))


def hypervolume(costs: np.ndarray, reference: np.ndarray) -> float:
    """The volume that lies above a front and below a reference point: what its rows are at least as good as.

    By slices of the last objective, each an area of one dimension less (While et al. 2006).
    """
    costs = costs[(costs < reference).all(1)]
    if not len(costs):
        return 0.0
    if costs.shape[1] == 1:
        return float(reference[0] - costs.min())
    costs = costs[np.argsort(costs[:, -1], kind="stable")]
    ends = np.append(costs[1:, -1], reference[-1])
    slices = ends - costs[:, -1]
    return sum(
        float(height) * hypervolume(costs[: i + 1, :-1], reference[:-1])
        for i, height in enumerate(slices)
        if height
    )


def apart(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """How far settings are from each other: one for each that differs, and of numbers less, the nearer they
    are."""
    return sum(_part(one.get(name), other.get(name)) for name in {*one, *other})


def _part(a: Any, b: Any) -> float:
    if a == b:
        return 0.0
    if any(type(value) not in (int, float) for value in (a, b)):
        return 1.0
    return abs(a - b) / (abs(a) + abs(b))


def origin(
    number: int, settings: Mapping[str, Any], fronts: Sequence[tuple[int, Mapping[str, Any]]]
) -> int | None:
    """Which of earlier candidates settings are nearest to, the first of several.  fronts: those by number."""
    before = [(apart(settings, other), earlier) for earlier, other in fronts if earlier < number]
    return min(before)[1] if before else None
