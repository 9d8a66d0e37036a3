"""What finished runs showed, read from their newest checkpoints and their logs, for laws."""

from functools import cache
from pathlib import Path
from statistics import median

from microgpt.common.errors import CheckpointError, ConfigError
from microgpt.corpus.prepared.folder import Prepared, description, is_prepared, open_prepared
from microgpt.corpus.prepared.make import find_kept
from microgpt.evaluation.law_runs import Showed
from microgpt.files.records import read_json
from microgpt.model import count_parameters
from microgpt.runs.checkpoint import corpus_key, load_tokenizer, read_config
from microgpt.runs.kept import STATE, find_checkpoint
from microgpt.runs.layout import METRICS
from microgpt.runs.metrics import read_metrics
from microgpt.runs.spec import Plan
from microgpt.runs.state import TrainState
from microgpt.training.schedule import learning_rate


def showed(name: str | Path) -> Showed:
    """What a run showed on held-out text at its newest checkpoint.

    Raises: CheckpointError: there is none, or it was not measured there.
    """
    checkpoint = find_checkpoint(name, (STATE,))
    plan = Plan.from_dict(read_config(checkpoint))
    state = TrainState.from_dict(read_json(checkpoint / STATE))
    bpb = state.metrics.get("val_bpb")
    if not isinstance(bpb, float) or state.metrics.get("val_step") != state.step:
        raise CheckpointError(
            f"{checkpoint}: not measured on held-out text at its step; train with --eval-every, and let the "
            "run come to its end"
        )
    config, key = plan.train, corpus_key(checkpoint)
    corpus = corpus_of(key, plan.data.data)
    speed, machine = speed_of(checkpoint.parent / METRICS)
    return Showed(
        str(name),
        count_parameters(plan.model),
        state.tokens,
        bpb,
        state.step,
        config.decay_steps or config.max_steps,  # where the rate should have come down
        learning_rate(max(0, state.step - 1), config) / config.lr,
        None if corpus is None else state.tokens / corpus.train.n_tokens,
        key,
        load_tokenizer(checkpoint).sha256,
        speed,
        machine,
        plan.parent.place if plan.parent else "",
        config.bigram_passes > 0,
        config.shallow_blocks > 0,
    )


@cache
def corpus_of(key: str, places: tuple[str, ...]) -> Prepared | None:
    """What was prepared of a run's corpus; None: it is not there any more."""
    for place in map(Path, places):
        if is_prepared(place) and description(place)["key"] == key:
            return open_prepared(place)
    return find_kept(key)


def speed_of(log: Path) -> tuple[float, str]:
    """Tokens a second of a run by its log, the median of its steps; and what it ran on.  0: not known."""
    if not log.is_file():
        return 0.0, ""
    events = read_metrics(log)
    machines = [f"{e['isa']}, {e['threads']} threads" for e in events if {"isa", "threads"} <= set(e)]
    speeds = [event["tok_per_s"] for event in events if event["event"] == "train"]
    return (median(speeds), machines[-1]) if speeds and machines else (0.0, "")


def all_showed(names: list[str]) -> list[Showed]:
    """The same of several.  Raises: ConfigError: one is named twice."""
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{name} is named twice; a run is one point")
    return [showed(name) for name in names]
