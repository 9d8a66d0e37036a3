"""A model, tokenizer and corpus of a few lines, with the interfaces of the real ones."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from microgpt.core import random
from microgpt.model import Arena, Batch
from microgpt.model.parameters import Parameter
from microgpt.runs.checkpoint import Snapshot
from microgpt.runs.events import Listeners, Started, Told, Trained
from microgpt.runs.kinds import OPTIMIZERS
from microgpt.runs.metrics import MetricsLog
from microgpt.runs.saver import Saver
from microgpt.runs.settings import TrainConfig
from microgpt.runs.state import TrainState
from microgpt.training.clock import Clock
from microgpt.training.console import Console
from microgpt.training.job import Job
from microgpt.training.loop import fit
from microgpt.training.progress import Progress
from microgpt.training.stop import StopFlag

V, T = 11, 6
MACHINE = {"flop_per_token": 100, "peak_flop_per_s": 1e9, "memory_bytes": 1e6}


class FakeTime:
    """A time that stands still, but for what a test adds to `s` and for `tick` seconds at every look."""

    def __init__(self, tick=0.0):
        self.s, self.tick = 0.0, tick

    def __call__(self):
        self.s += self.tick
        return self.s


def arena(shapes):
    """Parameters of these names and shapes; vectors do not decay."""
    return Arena(Parameter(name, shape, 0.0, decay=len(shape) > 1) for name, shape in shapes.items())


class FakeModel:
    """Logits of the next token = a table row plus a bias; dropout zeroes gradients of whole rows."""

    def __init__(self, dropout=0.2):
        self.config = SimpleNamespace(seq_len=T, vocab_size=V, dropout=dropout, drops=bool(dropout))
        self.params = arena({"table.weight": (V, V), "bias.weight": (V,)})
        self.grads = self.params.zeros_like()
        self.poison = {}  # call number -> loss to return instead
        self.calls, self.keys, self.facts, self.depth, self.idle = 0, [], {}, None, set()
        self.precision = "fp32"

    def init(self, seed):
        self.params["bias.weight"][:] = 0
        self.params["table.weight"][:] = random.normal(random.key(seed, "init"), V * V).reshape(V, V)

    def _losses(self, ids, targets):
        logits = (self.params["table.weight"][ids] + self.params["bias.weight"]).astype(np.float64)
        logits -= logits.max(-1, keepdims=True)
        probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        losses = -np.log(np.take_along_axis(probs, np.maximum(targets, 0)[..., None], -1))[..., 0]
        return probs, np.where(targets >= 0, losses, 0)

    def loss_and_grad(self, batch, keys=None, passed=lambda part: None):
        self.keys.append(keys)
        ids, targets = batch.ids, batch.targets
        probs, losses = self._losses(ids, targets)
        dlogits = (probs - np.eye(V)[targets]) * (targets >= 0)[..., None]
        if keys is not None:
            for row, key in enumerate(keys):
                kept = random.keep_factors(int(key), V, self.config.dropout)
                dlogits[row] *= kept[ids[row]][:, None]
        np.add.at(self.grads["table.weight"], ids, dlogits.astype(np.float32))
        self.grads["bias.weight"][:] += dlogits.sum((0, 1)).astype(np.float32)
        self.calls += 1
        for part in ("forward", "head", "backward"):
            passed(part)
        if self.calls in self.poison:
            self.grads.flat[:] = np.nan
            return self.poison[self.calls], targets.size
        return float(losses.sum()), int((targets >= 0).sum())

    def token_losses(self, batch):
        return self._losses(batch.ids, batch.targets)[1].astype(np.float32)


class FakeTokenizer:
    vocab_size = V

    def save(self, path):
        Path(path).write_text(json.dumps({"vocab": V}))


class FakeBatches:
    """Rows of a fixed stream, chosen by (seed, index); remembers what was asked for."""

    empty, arithmetic = "no row has a target", 1

    def __init__(self, batch_size, seed):
        self.batch_size, self.seed, self.asked = batch_size, seed, []

    def outline(self):
        return []

    def facts(self):
        return {}

    def state(self):
        return {}

    def restore(self, state):
        pass

    def memory(self):
        return {}

    def recall(self, memory):
        pass

    def batch(self, index):
        self.asked.append(index)
        words = random.bits(random.key(self.seed, "rows", index), self.batch_size * (T + 1))
        ids = (words % np.uint64(V)).astype(np.int32).reshape(self.batch_size, T + 1) // 3
        return Batch(np.ascontiguousarray(ids[:, :-1]), np.ascontiguousarray(ids[:, 1:]))


class FakeWindows:
    """Held-out windows that lie in memory."""

    def __init__(self, ids, targets, n_tokens, n_bytes):
        self.ids, self.targets, self.n_tokens, self.n_bytes = ids, targets, n_tokens, n_bytes
        self.n_windows = self.n_documents = self.n_all_documents = len(ids)
        self.byte_lengths = np.full(V, 3)

    def batches(self, batch_size):
        for first in range(0, self.n_windows, batch_size):
            rows = slice(first, first + batch_size)
            yield Batch(self.ids[rows], self.targets[rows])

    def places(self, batch_size):
        """Every window is a document, and known by its number."""
        places = np.arange(self.n_windows)[:, None] + np.zeros_like(self.targets)
        for first in range(0, self.n_windows, batch_size):
            yield places[first : first + batch_size]

    def owners(self, places):
        return places


def make_config(**changes):
    values = {
        "batch_size": 2,
        "max_steps": 20,
        "lr": 0.05,
        "min_lr": 0.005,
        "warmup_steps": 5,
        "eval_every": 4,
        "sample_every": 6,
        "save_every": 0,
        "log_every": 1,
    }
    return TrainConfig(**{**values, **changes})


def make_job(run, config, model=None, metrics_bytes=0):
    """A job on fakes; `run` must exist."""
    model = model or FakeModel()
    model.init(config.seed)
    ids, targets, *_ = FakeBatches(5, 99).batch(0)
    optimizer, tell = OPTIMIZERS[config.optimizer](model, config), Listeners()
    log = MetricsLog(run / "metrics.jsonl", metrics_bytes, lambda text: tell(Told(0, text)), config.log_every)
    console = Console(lambda *args: Progress(*args, line_every_s=1e9))
    console(Started(0, n_params=model.params.flat.size, max_steps=config.max_steps, machine={}, **MACHINE))
    tell.add(console)
    tell.add(log.hear, is_first=True)
    job = Job(
        model,
        optimizer,
        FakeBatches(config.batch_size, config.seed),
        FakeWindows(ids, targets, ids.size, 3 * ids.size),
        config,
        run,
        {"model": {}, "train": config.to_dict(), "data": {}},
        {"isa": "fake"},
        log,
        tell,
        Snapshot(model, optimizer, FakeTokenizer()),
        lambda: model.init(config.seed),
        Saver(run, config.keep, log.say, n_bytes=0),
    )
    job.sample = lambda step, stop: f"sample after {job.optimizer.updates} updates"
    return job


def train(job, state=None, stop=None, clock=None):
    """Run `fit` and close the log.  Returns (why, state)."""
    state = TrainState() if state is None else state
    stop = StopFlag() if stop is None else stop
    with job.log:
        try:
            why = fit(job, state, stop, clock or Clock())
        finally:
            job.saver.wait()
    return why, state


class StopAt(StopFlag):
    """Asks for the end after a step, as Ctrl-C would; a listener and a flag."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def __call__(self, event):
        if isinstance(event, Trained) and event.step == self.step:
            self.request()
