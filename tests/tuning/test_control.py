"""The laws of control on simulated plants: do they overshoot, wind up, keep bounds, settle?"""

from dataclasses import replace

import numpy as np
import pytest

from microgpt.common.errors import ConfigError
from microgpt.tuning.control import GUIDES_OWN, STEADY_STEPS, Control, law_of


class Plant:
    """S goes, over `lag` steps, to where lambda lets it; lambda acts `delay` steps later.

    at_zero: S without a penalty.  gain: how much lambda = 1 takes from it, S = at_zero / (1 + gain lambda).
    """

    def __init__(self, at_zero, gain=4.0, lag=40.0, delay=0, noise=0.0, seed=0):
        self.at_zero, self.gain, self.lag, self.noise = at_zero, gain, lag, noise
        self.s, self.late, self.random = 0.0, [1.0] * delay, np.random.default_rng(seed)

    def step(self, strength):
        self.late.append(strength)
        aim = self.at_zero / (1 + self.gain * self.late.pop(0))
        self.s += (aim - self.s) / self.lag
        return max(0.0, self.s * (1 + self.noise * self.random.standard_normal()))


def simulated(control, plant, steps, law=None):
    law, strength, seen = law or law_of(control), control.lambda_init, []
    for _ in range(steps):
        strength = law.step(plant.step(strength))
        seen.append((plant.s, strength, law.saturated))
    return law, *map(np.array, zip(*seen, strict=True))


PLANTS = [
    {"gain": gain, "lag": lag, "delay": delay, "noise": noise}
    for gain in (1.0, 20.0)
    for lag in (10.0, 100.0)
    for delay, noise in ((0, 0.0), (10, 0.05))
]


@pytest.mark.parametrize("plant", PLANTS, ids=str)
@pytest.mark.parametrize("target", [0.005, 0.03])
def test_the_default_reaches_its_target_without_saturating(target, plant):
    """The target is what lambda = 0.3 would hold."""
    made = Plant(target * (1 + 0.3 * plant["gain"]), **plant)
    law, s, strength, saturated = simulated(Control(target_s=target), made, 5000)
    assert abs(s[-300:] / target - 1).max() < 0.1
    assert s.max() < 1.6 * target, "overshoot"
    assert not saturated.any()
    assert abs(np.log(strength[-300:]) - np.log(0.3)).max() < 0.5
    assert law.is_near


def test_a_step_of_the_target_is_followed():
    control, plant = Control(target_s=0.01), Plant(0.03)
    law, *_ = simulated(control, plant, 2000)
    law.control = replace(control, target_s=0.015)
    _, s, _, saturated = simulated(law.control, plant, 2000, law)
    assert abs(s[-200:] / 0.015 - 1).max() < 0.05 and not saturated.any()
    assert s.max() < 1.2 * 0.015


@pytest.mark.parametrize("bound", [-1, 1])
def test_nothing_winds_up_at_a_bound(bound):
    """However long a target cannot be held, lambda leaves its bound as fast as after a short while."""
    control = Control(target_s=0.01)

    def steps_back(held):
        law = law_of(control)
        for _ in range(held):
            law.step(0.0 if bound < 0 else 0.1)
        assert law.saturated == bound and law.strength == (1e-4 if bound < 0 else 2.0)
        for n in range(10_000):
            law.step(0.012 if bound < 0 else 0.008)
            if not law.saturated:
                return n
        raise AssertionError("it never left")

    assert steps_back(20_000) == steps_back(3_000) < 100


def test_the_deadband_stops_the_integral_alone():
    control = Control(target_s=0.01, deadband=0.02)
    law = law_of(control)
    for _ in range(300):
        law.step(0.01 * 1.015)
    assert law.in_deadband and law.strength == 1.0 and law.integral == 0
    law.step(0.01 * 1.025)
    assert law.in_deadband and law.strength == pytest.approx(np.exp(0.8 * 0.1 * 0.01), rel=1e-9)


def test_standing_still_in_the_deadband_is_no_equilibrium():
    """S drifts through the guide's deadband; its law stands still, and that is not taken for being steady."""
    control = Control(target_s=0.03, scu_law="guide", **GUIDES_OWN)
    law = law_of(control)
    for n in range(STEADY_STEPS + 50):
        law.step(0.0301 + 0.7e-5 * n)
    assert law.in_deadband and law.strength == 1.0 and law.is_near
    assert not law.is_steady
    steady = law_of(replace(control, scu_law="velocity"))
    for _ in range(STEADY_STEPS + 50):
        steady.step(0.03)
    assert steady.is_steady


def test_the_guides_law_swings_about_a_large_target_and_sleeps_beside_a_small_one():
    """Why it is not the default."""
    plant = {"gain": 4.0, "lag": 100.0}
    large = Control(target_s=0.03, scu_law="guide", **GUIDES_OWN)
    _, s, strength, _ = simulated(large, Plant(0.03 * 2.2, **plant), 4000)
    ours = simulated(Control(target_s=0.03), Plant(0.03 * 2.2, **plant), 4000)
    assert np.ptp(np.log(strength[-2000:])) > 20 * np.ptp(np.log(ours[2][-2000:]))
    assert abs(s[-2000:] / 0.03 - 1).max() > 0.1 > abs(ours[1][-2000:] / 0.03 - 1).max()
    small, plant = Control(target_s=0.005, scu_law="guide", **GUIDES_OWN), {"gain": 20.0, "lag": 10.0}
    _, s, strength, _ = simulated(small, Plant(0.005 * 7, **plant), 3000)
    ours = simulated(Control(target_s=0.005), Plant(0.005 * 7, **plant), 3000)
    assert abs(s[-1] / 0.005 - 1) > 0.3 > 0.05 > abs(ours[1][-1] / 0.005 - 1)


@pytest.mark.parametrize("name", ["velocity", "guide", "fixed"])
def test_it_goes_on_from_its_state_to_the_bit(name):
    control = Control(target_s=0.01, scu_law=name)
    law, *_ = simulated(control, Plant(0.03, noise=0.1), 150)
    twin = law_of(control)
    twin.restore(law.state())
    for s in np.random.default_rng(1).uniform(0, 0.02, 200).tolist():
        assert law.step(s) == twin.step(s)
    assert law.state() == twin.state()


def test_settings_that_cannot_be_are_refused():
    for wrong, line in (
        ({"lambda_min": 0.0}, "--lambda-min 0.0: expected above 0"),
        ({"target_s": 0.0}, "--target-s 0.0"),
        ({"lambda_init": 3.0}, "--lambda-init 3: expected 0.0001 to 2"),
        ({"prior_sigma": -1.0}, "--prior-sigma"),
    ):
        with pytest.raises(ConfigError, match=line):
            Control(**wrong)
    assert Control(scu_law="fixed", lambda_init=0.0).lambda_init == 0
