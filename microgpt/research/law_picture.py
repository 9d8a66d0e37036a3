"""A law in a picture: what runs showed and what it says of others, and by how much it is off."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from microgpt.common.errors import ConfigError
from microgpt.evaluation.forecast import Forecast, Forecaster
from microgpt.evaluation.laws import FLOP_OF_TOKEN
from microgpt.files.written import kind_of_picture, put_picture

N_PLACES = 60  # of a curve


def draw(forecaster: Forecaster, models: Sequence[Forecast], path: Path) -> None:
    """Write a picture: loss by work, with the law where work is spent best; below it the residuals.

    Raises: ConfigError: matplotlib is not installed, the name is no picture's, or something else is there.
    """
    kind_of_picture(path, "--plot")
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        raise ConfigError("--plot needs matplotlib: pip install microgpt-cpu[plot]") from None
    found = forecaster.found
    work = FLOP_OF_TOKEN * found.points.n_params * found.points.tokens
    most = max([work.max(), *(model.flop for model in models)])
    curve = np.geomspace(work.min(), 2 * most, N_PLACES)
    ends = np.array([forecaster.interval(forecaster.drawn.least_loss(flop)) for flop in curve])
    figure, (above, below) = pyplot.subplots(
        2, 1, sharex=True, figsize=(7, 7), height_ratios=(3, 1), layout="constrained"
    )
    above.fill_between(curve, *ends.T, alpha=0.2)
    above.plot(curve, forecaster.law.least_loss(curve), label="law, work spent best")
    for number in range(found.points.sizes.max() + 1):
        here = found.points.sizes == number
        above.plot(work[here], found.points.loss[here], "o", ms=4)
        below.plot(work[here], 100 * found.residuals[here], "o", ms=4)
    for model in models:
        half = [[model.loss - model.low], [model.high - model.loss]]
        above.errorbar(model.flop, model.loss, np.maximum(half, 0), fmt="s", color="black", mfc="white")
    above.set(xscale="log", yscale="log", ylabel="loss")
    above.legend()
    below.axhline(0, lw=0.5, color="black")
    below.set(xlabel="C = 6 N D, FLOP", ylabel="residual, %")
    pyplot.close(figure)
    put_picture(path, figure, "--plot")
