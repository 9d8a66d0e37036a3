"""What the law of the rungs below says of a rung before it is trained, and the law of all so far."""

from collections.abc import Sequence
from typing import Any

from microgpt.common.errors import ConfigError
from microgpt.evaluation.forecast import Forecaster
from microgpt.evaluation.law_runs import MOST_PASSES, Showed, points_of, refusals
from microgpt.evaluation.laws import N_DRAWS, fit


def foretold(below: Sequence[Showed], n_params: int, tokens: int, text_tokens: int) -> dict[str, Any]:
    """Loss, intervals and hours of a model that nobody has trained.

    Args:    below: runs of all smaller sizes.  tokens: that it will be trained on.  text_tokens: of its text.
    Returns: {"why_not": ...} where they show no law.
    """
    passes = tokens / text_tokens
    about = {"n_params": n_params, "tokens": tokens, "passes": passes, "from": [one.name for one in below]}
    why_not = why_no_law(below)
    if not why_not and passes > MOST_PASSES:
        why_not = f"{passes:.1f} passes over the text, the law holds for up to {MOST_PASSES}"
    if why_not:
        return about | {"why_not": why_not}
    forecaster = Forecaster(fit(points_of(below)), below, N_DRAWS, 0)
    try:
        found = forecaster.of(n_params, tokens)
    except ConfigError as error:
        return about | {"why_not": str(error)}
    return about | found._asdict() | {"law": forecaster.law._asdict()}


def why_no_law(runs: Sequence[Showed]) -> str:
    """Why runs show no law; "": they do."""
    if not runs:
        return "no rung is below"
    lines = refusals(runs)
    return lines[0] if lines else ""


def law_of(runs: Sequence[Showed]) -> dict[str, Any]:
    """The law of runs and how well it holds, with a curve to draw; {"why_not": ...}: they show none."""
    if why_not := why_no_law(runs):
        return {"why_not": why_not}
    found = fit(points_of(runs))
    return {
        "r_squared": found.r_squared,
        "spread": found.spread,
        "n_runs": len(runs),
        "n_sizes": int(found.points.sizes.max()) + 1,
        "law": found.law._asdict(),
    }


def showed_of(evidence: dict[str, Any]) -> Showed:
    """The point of a run as it was measured."""
    return Showed(**evidence["showed"])
