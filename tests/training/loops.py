"""Runs of the fake model: made, resumed, and what is compared of them."""

import hashlib

from microgpt.runs import checkpoint
from microgpt.runs.layout import METRICS
from microgpt.runs.metrics import read_metrics
from microgpt.runs.state import TrainState
from tests.training.fakes import make_config, make_job

TIMES = ("dt_s", "tok_per_s", "elapsed_s", "left_s")


def digest(job):
    """SHA-256 of all weights and moments."""
    arenas = (job.model.params, *job.optimizer.slots.values())
    return hashlib.sha256(b"".join(arena.flat.tobytes() for arena in arenas)).hexdigest()


def events(run):
    """metrics.jsonl without what a clock measured."""
    lines = read_metrics(run / METRICS)
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def new_run(tmp_path, name, **changes):
    run = tmp_path / name
    run.mkdir()
    return make_job(run, make_config(**changes))


def make_slow(job, time, seconds):
    """Have a step take `seconds(index of its batch)`."""
    batch = job.source.batch

    def slow(index):
        time.s += seconds(index)
        return batch(index)

    job.source.batch = slow


def resumed(run, **changes):
    """A job and state from the newest checkpoint of a run, on a model with other weights before."""
    source = checkpoint.find_checkpoint(run)
    state = TrainState.from_dict(checkpoint.read_json(source / checkpoint.STATE))
    job = make_job(run, make_config(**changes), metrics_bytes=state.metrics_bytes)
    job.model.params.flat[:] = 7.0
    checkpoint.load_weights(source, job.model)
    checkpoint.load_moments(source, job.optimizer)
    job.optimizer.updates = state.updates
    job.origin, job.saver.saved_at = source, state.step
    return job, state
