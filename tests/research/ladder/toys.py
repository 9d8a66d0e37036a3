"""Small ladders, cases for gates, and what stands in the place of training and measuring."""

from microgpt.evaluation.law_runs import Showed
from microgpt.research.ladder import engine
from microgpt.research.ladder.gates.case import Case
from microgpt.research.ladder.rungs import Gates, Rung
from microgpt.runs.spec import Spec
from microgpt.training.overfit import Overfit

TEXT = "".join(
    f"The {thing} of number {n} is {look}.\n\n"
    for n in range(90)
    for thing, look in (("hat", "red"), ("boat", "as old as the hills"))
)
SHARED = """
[run]
data = "text.txt"
preset = "tiny"
n_layer = 1
seq_len = 32
merges = 40
batch_size = 4
threads = "1"
sample_every = 0
eval_every = 5
save_every = 5
probes = false
lr = 2e-2
muon_lr = 5e-2
max_steps = 12
[gates]
windows_by_heart = 10
law_from = "1k"
"""
RUNGS = """
[[rung]]
name = "small"
n_embd = 16
hypothesis = "Training works."
[[rung]]
name = "large"
n_embd = 24
hypothesis = "More helps."
"""


def learned_at_once(model, batches, config, clock, n_windows):
    """In the place of learning by heart, which takes toys long and has tests of its own."""
    return Overfit(1.0, n_windows, 100, 0.1)


def run(bpb, loss=2.0, name="r", **others):
    showed = Showed(name, 1e6, 4e6, bpb)._asdict()
    log = {"trouble": [], "seconds": 10.0, "memory_bytes": 1e6, "peak_bytes": 2e6}
    holds_back = {"word": "data", "why": "so"}
    made = {"showed": showed, "loss": loss, "findings": [], "above": {}, "states": [], "log": log}
    return made | {"holds_back": holds_back} | others


def case(bpbs, below=None, n_params=1e6, canaries=(), foretold=None, losses=(2.0, 2.0), **thresholds):
    runs = [run(bpb, loss) for bpb, loss in zip(bpbs, losses, strict=False)]
    what = foretold or {"why_not": "no rung is below", "passes": 1.0, "tokens": 4e6}
    return Case(
        Rung("r", Spec("tiny")),
        Gates(**thresholds),
        n_params,
        runs,
        {},
        list(canaries),
        what,
        None,
        [],
        below,
    )


def asked(**right):
    """Canaries of a run, with 200 items of each: the first so many right."""
    return {"marks": {name: {f"{name}{i}": i < n for i in range(200)} for name, n in right.items()}}


class FakeRuns:
    """In the place of training and measuring: each run is a little better.  lost: those that diverge."""

    def __init__(self, patch, bpb=2.0, lost=()):
        self.trained, self.measured, self.bpb, self.lost = [], [], bpb, lost
        of_size = {"is_exact": True, "by_heart": {"accuracy": 1.0, "windows": 10, "steps": 100}}
        of_size["tokenizer"] = {"merges": 40, "bytes_per_token": 2.0, "is_lossless": True}
        patch.setattr(engine, "trained", self.train)
        patch.setattr(engine, "weights_sha256", str)
        patch.setattr(engine, "of_size", lambda *_: of_size)
        patch.setattr(engine, "of_run", self.measure)
        patch.setattr(
            engine,
            "of_canaries",
            lambda run: asked(a=100) | {"run": run.parent.name, "canaries": {}, "categories": {}},
        )

    def train(self, plan, place, listeners):
        place.mkdir(exist_ok=True)
        self.trained.append((place.name, plan.train.max_steps))
        return None if place.name in self.lost else place / "step"

    def measure(self, checkpoint):
        name = checkpoint.parent.name
        self.measured.append(name)
        counting = {"unigram": {"value": 0.5, "low": 0.4, "high": 0.6}}  # worse than that
        return run(self.bpb - 0.01 * len(self.trained), name=name, above=counting)
