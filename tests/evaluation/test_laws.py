"""Laws of loss: published fits to the digit, intervals that hold what they say, refusals line by line."""

from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize

from microgpt.evaluation import power_sums
from microgpt.evaluation.forecast import Forecaster
from microgpt.evaluation.isoflop import frontier
from microgpt.evaluation.law_runs import Showed, points_of, refusals
from microgpt.evaluation.laws import Fit, Law, Points, draws, fit, interval, left_out, objective, refit
from microgpt.evaluation.power_sums import least

TABLES = Path(__file__).parent / "tables"
HOFFMANN = Law(1.69, 406.4, 0.34, 410.7, 0.28)
TWO = Law(0.6, 60.0, 0.32, 150.0, 0.35)
RAY = Law(0.6, 20.0, 0.25, ratio=4.0)


def table(name, *columns):
    rows = [line.split(",") for line in (TABLES / name).read_text().splitlines()]
    chosen = [rows[0].index(column) for column in columns]
    return [[row[i] for i in chosen] for row in rows[1:]]


@pytest.fixture(scope="module")
def chinchilla():
    return Points.of(*np.array(table("chinchilla.csv", "params", "tokens", "loss"), float).T)


@pytest.fixture(scope="module")
def best(chinchilla):
    return fit(chinchilla)


def made(law, n_params, tokens, noise=0.0, seed=0):
    n_params, tokens = np.asarray(n_params, float), np.asarray(tokens, float)
    rng = np.random.default_rng(seed)
    return Points.of(
        n_params, tokens, law.loss(n_params, tokens) * np.exp(noise * rng.normal(size=len(tokens)))
    )


def grid(law=TWO, noise=0.0, seed=0):
    n_params, tokens = np.meshgrid([0.5e6, 1e6, 2e6, 4e6], [2e6, 6e6, 2e7, 6e7])
    return made(law, n_params.ravel(), tokens.ravel(), noise, seed)


def ray(noise=0.0, seed=0, seeds=2):
    n_params = np.repeat([0.5e6, 1e6, 2e6, 3.5e6], seeds)
    return made(RAY, n_params, 4 * n_params, noise, seed)


# ------------------------------------------------------------------------------------------ published fits


def test_the_objective_at_the_published_point(chinchilla):
    assert objective(HOFFMANN, chinchilla) == pytest.approx(0.004121009136, rel=1e-9)


def test_the_least_of_all_fits(best):
    law = best.law
    assert abs(law.E - 1.81722) < 2e-4 and abs(law.alpha - 0.34731) < 2e-4 and abs(law.beta - 0.36717) < 3e-4
    assert abs(law.A - 477.83) < 0.5 and abs(law.B - 2143.4) < 3
    assert best.objective <= 0.00101827405
    assert best.objective == pytest.approx(objective(law, best.points), rel=1e-9)


def test_least_absolute_deviations_give_the_published_row(chinchilla, best):
    law = refit(best._replace(delta=1e-8), chinchilla.loss[None]).at(0)
    published = Law(1.81686, 482.00572, 0.34781, 2085.43420, 0.36585)
    assert law[:5] == pytest.approx(published[:5], rel=1e-4)


def test_a_published_ladder():
    rows = table("olmo_ladder.csv", "mode", "params", "tokens", "loss")
    numbers = np.array([row[1:] for row in rows], float)
    is_run = np.array([row[0] == "train" for row in rows])
    law = fit(Points.of(*numbers[is_run].T)).law
    small, large = numbers[~is_run]
    assert law.loss(*large[:2]) == pytest.approx(2.3443873, abs=1e-6)
    assert law.loss(*small[:2]) == pytest.approx(2.43372758, abs=1e-6)


def test_published_draws_one_by_one(chinchilla, best):
    """Epoch's bootstrap, as its notebook draws: rows 0 to 4 of the fits."""
    random = np.random.RandomState(42)
    counts = [np.bincount(random.choice(np.arange(240), 240), minlength=240) for _ in range(5)]
    law = refit(best, np.tile(chinchilla.loss, (5, 1)), np.array(counts, float))
    for found, published, near in (
        (law.E, [1.793330, 1.803583, 1.861662, 1.786643, 1.798076], 2e-5),
        (law.A / 1e3, [0.3495564, 0.4878363, 0.7284106, 0.3178329, 0.3199828], 1e-5),
        (law.alpha, [0.328633, 0.348965, 0.372424, 0.323206, 0.323745], 1e-5),
        (law.B / 1e4, [0.23562483, 0.15099482, 0.25070105, 0.23288004, 0.28776105], 1e-4),
        (law.beta, [0.371855, 0.349989, 0.375040, 0.371303, 0.381286], 3e-5),
    ):
        assert found == pytest.approx(published, abs=near)


def test_ends_of_published_intervals(best):
    drawn = draws(best, 500)
    for values, ends, tolerance in (
        (drawn.E, (1.7697, 1.8717), 0.006),
        (drawn.alpha, (0.3184, 0.3736), 0.006),
        (drawn.beta, (0.3306, 0.4167), 0.008),
    ):
        assert interval(values, best.n_free, covered=0.95) == pytest.approx(ends, abs=tolerance)


def test_the_best_for_a_budget():
    """Numbers of Besiroglu et al.: of their fit, and of the one that they corrected."""
    fitted = Law(1.8169, 482.01, 0.3478, 2085.43, 0.3658)
    assert fitted.best_size(5.76e23) == pytest.approx(7.235e10, rel=5e-3)
    assert HOFFMANN.best_tokens(5.76e23) / HOFFMANN.best_size(5.76e23) == pytest.approx(92.65, rel=1e-3)
    around = [
        HOFFMANN.loss(HOFFMANN.best_size(1e20) * x, 1e20 / 6 / HOFFMANN.best_size(1e20) / x)
        for x in (0.9, 1, 1.1)
    ]
    assert around[1] < min(around[0], around[2])
    assert HOFFMANN.flop_for(HOFFMANN.least_loss(1e20)) == pytest.approx(1e20, rel=1e-6)
    assert HOFFMANN.flop_for(1.6) == np.inf


# ------------------------------------------------------------------------------------------ the fit itself


def test_steps_follow_the_sum_that_they_lower(chinchilla):
    rng = np.random.default_rng(0)
    x = np.log(np.stack([chinchilla.n_params, chinchilla.tokens], -1))
    x, y = x - x.mean(0), np.log(chinchilla.loss)[None] - np.log(chinchilla.loss).mean()
    theta = np.array([[-0.5, -1.2, 0.3, -1.4, 0.4]])
    weights = rng.uniform(0.5, 2, y.shape)

    def value(at):
        return power_sums._value(x, y, at, 1e-2, weights)[0]

    def slope(at):
        return power_sums._step(x, y, at, 1e-2, weights, np.ones(1))[1][0]

    small = 1e-6 * np.eye(5)[:, None]
    numeric = [(value(theta + one) - value(theta - one)) / 2e-6 for one in small]
    assert slope(theta) == pytest.approx(numeric, rel=1e-5)
    # without damping a step is Newton's: from nearby two of them leave next to nothing of the gradient
    near = least(x, y, theta, 10.0, weights)[0] + 1e-3
    before = np.abs(power_sums._step(x, y, near, 10.0, weights, np.zeros(1))[1]).max()
    for _ in range(2):
        near = near + power_sums._step(x, y, near, 10.0, weights, np.zeros(1))[0]
    assert np.abs(power_sums._step(x, y, near, 10.0, weights, np.zeros(1))[1]).max() < 1e-5 * before


def test_no_other_minimizer_finds_less():
    points = grid(noise=0.004)
    x = np.log(np.stack([points.n_params, points.tokens], -1))
    x, y = x - x.mean(0), np.log(points.loss)[None]
    starts = np.array([[0.0, -0.5, 0.3, -0.5, 0.3], [-1.0, 0.0, 0.6, 0.0, 0.6]])
    _, values = least(x, y, starts, 1e-3)
    one, options = np.ones((1, len(points.loss))), {"maxiter": 2000, "ftol": 1e-15, "gtol": 1e-12}

    def value_and_slope(t):
        value = power_sums._value(x, y, t[None], 1e-3, one)[0]
        return float(value), power_sums._step(x, y, t[None], 1e-3, one, np.ones(1))[1][0]

    for start in starts:
        other = minimize(value_and_slope, start, jac=True, method="L-BFGS-B", options=options)
        assert values.min() <= other.fun * (1 + 1e-6)


def test_a_law_comes_back_from_its_own_numbers():
    assert fit(grid()).law[:5] == pytest.approx(TWO[:5], rel=1e-5)
    found = fit(ray())
    assert found.law[:3] == pytest.approx(RAY[:3], rel=1e-5) and found.law.ratio == pytest.approx(4)
    assert found.r_squared == pytest.approx(1) and max(map(abs, left_out(found).values())) < 1e-6


def test_one_run_that_went_wrong_moves_little():
    points = grid()
    points.loss[5] *= 1.3
    assert fit(points).law.loss(16e6, 2e8) == pytest.approx(TWO.loss(16e6, 2e8), rel=2e-3)


def test_left_out_sizes_are_foretold_by_the_others():
    points = ray(seeds=1)
    points.loss[-1] *= 1.02
    errors = left_out(fit(points, is_ray=True))
    assert errors == {}  # three sizes and three numbers: nothing is left to tell
    points = ray(seeds=2)
    points.loss[-2:] *= 1.02
    assert left_out(fit(points))[3] == pytest.approx(np.log(1.02), rel=1e-3)


# ------------------------------------------------------------------------------------------ how sure


@pytest.mark.parametrize("make, truth, n_numbers", [(ray, RAY, 3), (grid, TWO, 5)])
def test_intervals_hold_the_truth_as_often_as_they_say(make, truth, n_numbers):
    """Of 60 ladders; `benchmarks.laws` has more of them, and with the delta that fits have."""
    n, held = 60, np.zeros(2)
    for seed in range(n):
        points = make(noise=0.002, seed=seed)
        start = Fit(truth._replace(ratio=points.ratio if n_numbers == 3 else 0.0), points, 1.0, 0.0)
        law = refit(start, points.loss[None]).at(0)
        drawn = draws(start._replace(law=law), 150, seed)
        for i, (size, tokens) in enumerate([(1.5e6, 6e6), (8e6, 32e6)]):
            low, high = interval(drawn.loss(size, tokens), len(points.loss) - n_numbers)
            held[i] += low <= truth.loss(size, tokens) <= high
    assert (held / n > 0.78).all() and (held / n < 0.99).all(), held / n


def test_many_runs_are_drawn_among_their_own_size():
    n_params = np.repeat([1e6, 2e6, 4e6, 8e6], 12)
    points = made(TWO, n_params, np.tile(np.geomspace(1e6, 1e8, 12), 4))
    points.loss[:12] *= np.exp(0.02 * np.random.default_rng(0).normal(size=12))  # the smallest is noisy
    drawn = draws(fit(points), 100)
    assert drawn.loss(1e6, 1e7).std() > 5 * drawn.loss(8e6, 1e7).std()


def test_the_same_seed_draws_the_same(best):
    found = fit(ray(noise=0.004))
    assert (draws(found, 20, 1).E == draws(found, 20, 1).E).all()
    assert (draws(found, 20, 1).E != draws(found, 20, 2).E).any()


# ------------------------------------------------------------------------------------------ forecasts


def runs_of(points, **others):
    return [
        Showed(**{"name": f"r{i}", "n_params": N, "tokens": D, "loss": L} | others)
        for i, (N, D, L) in enumerate(zip(*points, strict=True))
    ]


def test_what_a_law_foretells():
    points = grid(noise=0.002)
    runs = [run._replace(tok_per_s=1e10 / run.n_params, machine="avx2") for run in runs_of(points)]
    forecaster = Forecaster(fit(points), runs, 100, 0)
    model = forecaster.of(8e6, 1e8)
    assert model.low < TWO.loss(8e6, 1e8) < model.high and model.flop == 6 * 8e14
    assert model.run_high - model.run_low > model.high - model.low
    assert model.hours == pytest.approx(1e8 / (1e10 / 8e6) / 3600)
    target = forecaster.reaching(1.2)
    assert target.loss == pytest.approx(1.2, abs=1e-6)
    assert target.n_params == pytest.approx(forecaster.law.best_size(target.flop))
    assert forecaster.tokens_for(target.n_params) == pytest.approx(target.tokens, rel=1e-6)
    assert forecaster.reaching(0.1) is None
    first, second = forecaster.doublings()[:2]
    assert first.saved == 0 and second.saved == pytest.approx(first.loss - second.loss)
    assert first.gain_per_pflop > second.gain_per_pflop > 0


def test_runs_on_two_machines_tell_no_time():
    runs = [run._replace(tok_per_s=1e4, machine=run.name) for run in runs_of(grid())]
    assert Forecaster(fit(grid()), runs, 100, 0).of(8e6, 1e8).hours is None


def test_parabolas_find_the_best_of_each_budget():
    flop = np.repeat(np.geomspace(1e13, 1e16, 5), 7)
    n_params = np.concatenate(
        [TWO.best_size(C) * np.geomspace(0.4, 2.5, 7) for C in np.geomspace(1e13, 1e16, 5)]
    )
    found = frontier(made(TWO, n_params, flop / 6 / n_params))
    assert found.exponent == pytest.approx(TWO.beta / (TWO.alpha + TWO.beta), abs=0.01)
    assert [one.n_params for one in found.budgets] == pytest.approx(
        [TWO.best_size(C) for C in np.geomspace(1e13, 1e16, 5)], rel=0.05
    )
    assert found.law.loss(1e15, 1e15) == pytest.approx(TWO.least_loss(1e15), rel=5e-3)
    assert frontier(grid()) is None


# ------------------------------------------------------------------------------------------ refusals

LADDER = runs_of(ray(), step=100, max_steps=100, rate=0.1, passes=2.0, corpus="c" * 64, tokenizer="t" * 64)


@pytest.mark.parametrize(
    "runs, is_ray, told",
    [
        (LADDER[:4], None, "2 of the 3 sizes that a law takes"),
        (runs_of(made(TWO, [1e6] * 6, np.geomspace(1e6, 1e8, 6))), None, "one size, 1M parameters, with 6"),
        ([run._replace(n_params=1e3 * run.n_params**0.5) for run in LADDER], None, "is 2.6 times the"),
        (LADDER, False, "about 4 tokens for each parameter: along such a ray"),
        ([*LADDER[:7], LADDER[7]._replace(step=60)], None, "in mid-schedule: r7 (step 60 of 100)"),
        (
            [*LADDER[:7], LADDER[7]._replace(step=20, max_steps=20, rate=1.0)],
            None,
            "too short for its schedule: r7 (20 steps, the last at 100% of its peak rate)",
        ),
        ([*LADDER[:7], LADDER[7]._replace(tokens=0)], None, "no step done: r7; go on with train --resume r7"),
        ([*LADDER[:7], LADDER[7]._replace(shallow=True)], None, "beginnings differ: r7 trained its first"),
        ([*LADDER[:7], LADDER[7]._replace(counts=True)], None, "beginnings differ: r7 began with the counts"),
        (
            [*LADDER[:7], LADDER[7]._replace(tokenizer="u")],
            None,
            "tokenizers differ: r0 has tttttttttttt, r7 u",
        ),
        ([*LADDER[:7], LADDER[7]._replace(corpus="d")], None, "corpora differ: r0 has cccccccccccc, r7 d"),
        ([*LADDER[:7], LADDER[7]._replace(passes=10.0)], None, "text that comes too often: r7 (10.0 passes"),
        (
            [*LADDER[:6], LADDER[6]._replace(passes=5.0), LADDER[7]._replace(passes=10.0)],
            None,
            "text that comes too often: r7 and 1 more (10.0 passes",
        ),
    ],
)
@pytest.mark.filterwarnings("error")
def test_each_refusal_has_its_line(runs, is_ray, told):
    lines = refusals(runs, is_ray)
    assert len(lines) == 1 and told in lines[0], lines


def test_what_can_show_a_law_is_not_refused():
    assert refusals(LADDER) == [] and refusals(LADDER, is_ray=True) == []
    assert refusals(runs_of(grid())) == [] and refusals(runs_of(grid()), is_ray=False) == []


def test_a_refusal_names_runs_that_cure_it():
    assert "train 2M parameters on 8M tokens" in refusals(LADDER[:4])[0]
    cured = LADDER[:5]
    assert refusals(cured) == []
    two = refusals(LADDER, is_ray=False)[0]
    assert "--law ray" in two and "2M parameters on 4M and on 16M tokens" in two
    more = [LADDER[4]._replace(tokens=tokens) for tokens in (4e6, 16e6)]
    assert refusals(LADDER + more, is_ray=False) == []


def test_points_are_what_runs_showed():
    assert points_of(LADDER).sizes.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
