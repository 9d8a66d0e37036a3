"""How many blocks of a model are trained at a step: the first few alone at first, then all.

A block whose branches begin at zero adds nothing until it is trained.  So a new model is what its first
blocks make of it, and a step that leaves the others out computes the same and costs a part: what little a
short run can learn, a shallow model learns from more tokens in the same time.  When the others join they
change nothing at first (progressive stacking: Gong et al. 2019; staged training: Shen et al. 2022, arXiv
2203.06211).
"""

import dataclasses

from microgpt.model import flop_per_token
from microgpt.runs.settings import TrainConfig
from microgpt.runs.spec import Plan


def with_cost(plan: Plan) -> Plan:
    """The plan of a new run, with what a step of its first blocks costs beside one of all."""
    n = plan.train.shallow_blocks
    if not n:
        return plan
    shallow = dataclasses.replace(plan.model, n_layer=n)
    return plan.with_train(shallow_cost=flop_per_token(shallow) / flop_per_token(plan.model))


def with_steps(plan: Plan) -> Plan:
    """The same once the number of its steps is known: with those of the first blocks alone."""
    config = plan.train
    return plan.with_train(shallow_steps=round(shallow_part(config) * config.max_steps))


def shallow_part(config: TrainConfig) -> float:
    """The share of a new run's steps that the first blocks take alone, so that it is their share of the FLOP:
    part cost / (part cost + 1 - part) = share."""
    if not config.shallow_blocks:
        return 0.0
    share, cost = config.shallow_share, config.shallow_cost
    return share / (share + cost * (1 - share))


def mean_cost(config: TrainConfig) -> float:
    """Of a step of a new run, beside one of all blocks."""
    return 1 - shallow_part(config) * (1 - config.shallow_cost)


def blocks_at(step: int, config: TrainConfig) -> int | None:
    """The blocks that the step behind so many trains; None: all."""
    return config.shallow_blocks if step < config.shallow_steps else None


def whole_steps(first: int, last: int, config: TrainConfig) -> float:
    """As how many steps with all blocks those from `first` to `last` count, by what they cost."""
    shallow = max(0, min(last, config.shallow_steps) - first)
    return last - first - shallow * (1 - config.shallow_cost)
