"""How long a run is, where that is said as passes over the corpus or as tokens: the steps that it takes."""

import math
from collections.abc import Callable

from microgpt.corpus.prepared.folder import Prepared
from microgpt.model import count_parameters
from microgpt.runs.settings import TrainConfig
from microgpt.runs.spec import Plan

from .assemble import batches_of


def with_steps(plan: Plan, corpus: Callable[[], Prepared]) -> Plan:
    """The plan with the number of steps that its length comes to; as it is where that was given in steps, or
    as a time.

    Args: corpus: opens the corpus, which is asked for where passes over it are to be counted.
    """
    config = plan.train
    if not config.has_other_length:
        return plan
    if config.epochs is not None:
        windows = batches_of(plan, corpus()).n_windows / plan.data.all_shares[0]  # others come in between
        steps = config.epochs * windows / config.windows_per_step
    else:
        steps = wanted_tokens(plan) / plan.tokens_per_step
    # 2.9999999 and 3.0000001 are meant to be 3.
    whole = max(1, config.fewest_steps, math.ceil(steps * (1 - 1e-9)))
    return plan.with_train(max_steps=whole, epochs=None, tokens=None, tokens_per_param=None)


def wanted_tokens(plan: Plan) -> float:
    """Of a length in tokens."""
    config: TrainConfig = plan.train
    if config.n_tokens is not None:
        return config.n_tokens
    return (config.tokens_per_param or 0.0) * count_parameters(plan.model)
