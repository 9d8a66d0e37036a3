"""How often intervals of laws hold the truth: of many ladders of runs that a known law made, with noise.

    python -m benchmarks.laws [--ladders 500] [--draws 200]

Told is of each kind of ladder in how many its 90 % intervals hold E, alpha, and the loss of a model of twice
the largest size.  A line each 100 ladders.
"""

import argparse

import numpy as np

from microgpt.evaluation.laws import COVERED, Fit, Law, Points, draws, interval, refit

NOISE = 0.004  # of log loss, as seeds make it
RAY = Law(0.6, 20.0, 0.25, ratio=4.0)
TWO = Law(0.6, 60.0, 0.32, 150.0, 0.35)
SIZES = (0.5e6, 1e6, 2e6, 4e6)


def ladders() -> dict[str, tuple[Law, np.ndarray, np.ndarray]]:
    """By name the law, parameters and tokens of the runs."""
    twice, thrice = np.repeat(SIZES, 2), np.repeat(SIZES, 3)
    of_grid = np.repeat(SIZES, 4), np.tile(np.geomspace(2e6, 6e7, 4), 4)
    of_many = np.repeat(SIZES, 12), np.tile(np.geomspace(2e6, 2e8, 12), 4)
    return {
        "ray, 4 sizes, 2 seeds": (RAY, twice, 4 * twice),
        "ray, 4 sizes, 3 seeds": (RAY, thrice, 4 * thrice),
        "4 sizes, 4 lengths": (TWO, *of_grid),
        "4 sizes, 12 lengths": (TWO, *of_many),
    }


def main() -> None:
    """Print how often the truth is held."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--ladders", type=int, default=500)
    flags.add_argument("--draws", type=int, default=200)
    args = flags.parse_args()
    print(f"intervals of {COVERED:.0%}, noise {NOISE}, {args.draws} draws each")
    for name, (law, n_params, tokens) in ladders().items():
        held = np.zeros(3)
        for number in range(args.ladders):
            held += is_held(law, n_params, tokens, number, args.draws)
            if (number + 1) % 100 == 0 or number + 1 == args.ladders:
                E, alpha, larger = held / (number + 1)
                print(
                    f"{name:24} {number + 1:4} E {E:.1%}  alpha {alpha:.1%}  larger {larger:.1%}", flush=True
                )


def is_held(law: Law, n_params: np.ndarray, tokens: np.ndarray, seed: int, n_draws: int) -> list[bool]:
    """Whether the intervals that one ladder shows hold the truth."""
    rng = np.random.default_rng(seed)
    losses = law.loss(n_params, tokens) * np.exp(NOISE * rng.standard_normal(len(tokens)))
    points = Points.of(n_params, tokens, losses)
    start = Fit(law._replace(ratio=points.ratio if law.ratio else 0.0), points, 1e-3, 0.0)
    found = start._replace(law=refit(start, losses[None]).at(0))
    drawn, size = draws(found, n_draws, seed), 2 * n_params.max()
    tested = [
        (drawn.E, law.E),
        (drawn.alpha, law.alpha),
        (drawn.loss(size, 2 * tokens.max()), law.loss(size, 2 * tokens.max())),
    ]
    ends = [(interval(values, found.n_free), truth) for values, truth in tested]
    return [low <= truth <= high for (low, high), truth in ends]


if __name__ == "__main__":
    main()
