"""Supervised fine-tuning: a run that begins with trained weights and learns what the assistant says."""

from collections.abc import Sequence
from typing import Any

from microgpt.batches.packing import DOCUMENTS
from microgpt.corpus.prepared.corpus import SMALLTALK
from microgpt.model import count_parameters
from microgpt.runs.lineage import begin_with
from microgpt.runs.settings import LENGTHS
from microgpt.runs.spec import Plan, Spec

GENTLER = 10  # times less than the parent's peak is the learning rate
EPOCHS, EVAL_EVERY, PATIENCE = 3.0, 50, 3
# Of eight questions of a dozen short chats a tiny model answered none after 30 steps, one after 60, six
# after 100.
FEWEST_STEPS = 100
RANKS = ((1e9, 8), (3e9, 16), (7e9, 32))  # up to so many parameters of the base: a rank


def rank_for(n_params: float) -> int:
    """A rank of adapters that suits a model of so many parameters."""
    return next((rank for most, rank in RANKS if n_params < most), RANKS[-1][1])


def sft_spec(
    parent: str, settings: dict[str, Any], replay: Sequence[str] = (), replay_share: float = 0.0
) -> Spec:
    """The spec of a fine-tuning.

    Loss on the assistant's turns alone, whole conversations that do not see each other, Adam of its own, a
    tenth of the parent's peak rate, as many windows in a batch as the parent had, three epochs at most or,
    of little text, a hundred steps, and an end once what is held out no longer gains; unless `settings` say
    otherwise.

    Args: settings: of the run, by name.  replay, replay_share: text that is trained on in between, as it was
          in pre-training, against forgetting; and its share of the windows.
    """
    old = begin_with(parent).plan
    values = defaults(old) | settings | {"answers_only": True}
    if "max_steps" not in settings and not any(name in settings for name in (*LENGTHS, "max_time")):
        values |= {"epochs": EPOCHS, "fewest_steps": FEWEST_STEPS}
    if "lr" in settings and "min_lr" not in settings:
        values["min_lr"] = values["lr"] / GENTLER
    if replay:
        values |= {"replay": list(replay), "replay_share": replay_share}
        if SMALLTALK in replay:  # as much of it as the parent had, which is prepared already
            values.setdefault("smalltalk_bytes", old.data.smalltalk_bytes)
    return Spec.of(parent=parent, **values)


def defaults(parent: Plan) -> dict[str, Any]:
    """What a fine-tuning takes from its parent, or sets itself."""
    lr = parent.train.lr / GENTLER
    return {
        "recipe": "road",
        "lr": lr,
        "min_lr": lr / GENTLER,
        "batch_size": parent.train.batch_size,
        "grad_accum": parent.train.grad_accum,
        "precision": parent.train.precision,
        "packing": DOCUMENTS,
        "eval_every": EVAL_EVERY,
        "stop_after": PATIENCE,
        "probes": False,
    }


def default_rank(parent: str) -> int:
    """The rank of adapters for the model that a name means."""
    return rank_for(count_parameters(begin_with(parent).plan.model))
