"""Numbers of a plan are counted, and add up."""

import pytest

from microgpt.model import count_parameters
from microgpt.model.presets import PRESETS
from microgpt.planning.facts import facts_of, parts_of
from microgpt.runs.spec import Spec
from microgpt.training.needs import checkpoint_bytes, memory_estimate


@pytest.mark.parametrize("name", PRESETS)
def test_parts_add_up_to_all_parameters(name):
    plan = Spec.of(name).plan()
    parts = parts_of(plan.model)
    assert sum(parts.values()) == count_parameters(plan.model)
    assert parts["embedding"] == plan.model.vocab_size * plan.model.n_embd


def test_parts_have_the_names_of_what_they_are():
    assert list(parts_of(Spec.of("tiny").plan().model)) == ["embedding", "norms", "attention", "mlp"]
    untied = Spec.of("tiny", tied=False, positions="learned").plan().model
    assert {"head", "positions"} <= set(parts_of(untied))


def test_memory_and_disk_are_those_that_training_is_refused_by():
    plan = Spec.of("10m", recipe="road", batch_size=3, keep=4).plan()
    facts = facts_of(plan)
    assert facts.needs.total == memory_estimate(plan.model, plan.train)
    assert facts.needs.slots == 2 * facts.needs.weights == 8 * facts.params
    assert facts.disk == 6 * checkpoint_bytes(plan.model, plan.train)


def test_tokens_are_steps_of_all_micro_batches_and_epochs_their_windows():
    plan = Spec.of("tiny", batch_size=3, grad_accum=2, max_steps=10).plan()
    facts = facts_of(plan, n_windows=24)
    assert (facts.tokens_per_step, facts.tokens, facts.epochs) == (6 * 64, 60 * 64, 2.5)
    values = facts.to_dict()
    assert values["memory_bytes"]["total"] == round(facts.needs.total) and values["epochs"] == 2.5


def test_what_is_counted_for_the_published_optima():
    facts = facts_of(Spec.of("tiny", merges=39).plan())
    assert facts.params - facts.in_layers == 300 * 32 == facts.in_products - facts.in_layers
