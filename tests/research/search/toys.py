"""Small searches, and what stands in the place of training."""

import dataclasses
import math

from microgpt.files import durable
from microgpt.research.search import Measured

TEXT = "".join(f"The {thing} of number {n} is red.\n\n" for n in range(90) for thing in ("hat", "boat"))
RUN = {
    "preset": "tiny",
    "n_layer": 1,
    "n_embd": 32,
    "seq_len": 32,
    "merges": 30,
    "batch_size": 8,
    "eval_tokens": 512,
    "threads": "1",
    "dropout": 0.1,
}
SPACE = {"n_layer": [1, 2, 3], "n_inner": [32, 64, 128], "lr": {"low": 1e-3, "high": 1e-2, "log": True}}
STEP = 8 * 32  # tokens


def document(write, space=SPACE, run=None, **settings):
    """A search as a file has it."""
    text = str(write("text.txt", TEXT))
    return {
        "candidates": 9,
        "startup": 4,
        "population": 4,
        "tokens": 10 * STEP,
        "finalists": 0,
        **settings,
        "run": {**RUN, "data": text, **(run or {})},
        "space": dict(space),
    }


class Fake:
    """Measures by a formula, and remembers what it was asked to train."""

    def __init__(self, killed_at=()):
        self.calls, self.killed_at, self.n = [], list(killed_at), 0

    def __call__(self, number, plan, steps):
        self.n += 1
        if self.n in self.killed_at:
            raise KeyboardInterrupt
        self.calls.append((number, steps))
        inner = plan.model.n_inner or 4 * plan.model.n_embd
        worse = abs(math.log(plan.train.lr / 4e-3)) + 3 / plan.model.n_layer + 10 / inner
        return Measured(worse + 20 / steps, 1000.0)


class Kept:
    """In the place of what Optuna keeps in a file, which takes long and has tests of its own."""

    def __init__(self, known):
        self.trials, self.add = known.copy, known.append

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def found(trials):
    return [dataclasses.astuple(one) for one in trials]


def apart_from_speed(trials):
    return [dataclasses.replace(one, tok_per_s=0) for one in trials]


def sha_of(run, step=5):
    return durable.sha256_of(run / f"step_{step:08d}" / "model.safetensors")
