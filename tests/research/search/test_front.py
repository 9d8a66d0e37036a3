"""What none is better than, and where it came from."""

import itertools

import numpy as np

from microgpt.research.front import hypervolume, on_front
from microgpt.research.search_table import front_of, lineage, members
from microgpt.research.trials import FINISHED, Trial


def test_the_front_and_its_volume_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    for n_objectives in (1, 2, 3):
        costs = rng.integers(0, 5, (12, n_objectives)).astype(float)
        slow = [not any((other <= one).all() and (other < one).any() for other in costs) for one in costs]
        assert on_front(costs).tolist() == slow
        reference = np.full(n_objectives, 5.0)
        cells = np.stack(np.meshgrid(*[np.arange(5)] * n_objectives), -1).reshape(-1, n_objectives)
        covered = (costs[None] <= cells[:, None]).all(-1).any(1).sum()
        assert hypervolume(costs, reference) == covered
    assert hypervolume(np.array([[1.0, 6.0]]), np.array([5.0, 5.0])) == 0


def test_lineage_leads_to_chance_by_members_of_earlier_fronts():
    objectives, rng = ("bpb", "flop_per_token"), np.random.default_rng(0)
    trials = [
        Trial(number, {"n_layer": int(n), "lr": float(lr)}, FINISHED, bpb=lr + 3 / n, flop_per_token=n)
        for number, (n, lr) in enumerate(zip(rng.integers(1, 5, 30), rng.random(30), strict=True))
    ]
    for member in members(trials, objectives):
        chain = lineage(member.trial, trials, objectives)
        assert chain == sorted(chain, reverse=True) and chain[-1] == 0
        for child, parent in itertools.pairwise(chain):
            assert trials[parent] in front_of(trials[:child], objectives)
        if member.origin is not None:
            before = trials[member.origin].settings
            now = {**before, **{name: after for name, (_, after) in member.changes.items()}}
            assert now == member.trial.settings
