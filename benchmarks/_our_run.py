"""A run of ours in turns: the product's own `train_run`, whose clock stands still in between (`_turns`)."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from microgpt.batches.batches import eval_windows
from microgpt.evaluation.loss import evaluate
from microgpt.model import Batch
from microgpt.runs.events import Began, Ended, Event, LearnedBigrams, Trained
from microgpt.runs.kinds import SOURCES
from microgpt.runs.spec import Spec
from microgpt.training import assemble
from microgpt.training.bigrams import learn_bigrams
from microgpt.training.depth import mean_cost, with_cost
from microgpt.training.parts import Corpus, Parts
from microgpt.training.run import train_run

from ._turns import TurnClock, say

POINTS = 12  # of a curve
TIMED = "corpus, timed"


def steps_within(job: dict[str, Any]) -> int:
    """How many steps of a known cost the seconds are enough for."""
    plan = with_cost(Spec.of(job["preset"], **job["settings"]).plan())
    n_whole = (job["seconds"] - job["start_s"]) / job["step_s"]
    return max(1, round(n_whole / mean_cost(plan.train)))


def main() -> None:
    """Train what the JSON object in the first argument describes."""
    job: dict[str, Any] = json.loads(sys.argv[1])
    clock, seconds = TurnClock(job["step_s"]), job["seconds"]
    due, tokens, step = seconds / POINTS, 0, 0
    shallow_steps, shallow_cost = 0, 1.0
    parts: Parts

    class Timed(Corpus):
        """The corpus; asking for a batch is where a step begins."""

        def __init__(self, mine: Parts) -> None:
            nonlocal parts
            parts = mine
            super().__init__(mine)

        def batch(self, index: int) -> Batch:
            clock.start(shallow_cost if step < shallow_steps else 1.0)
            return super().batch(index)

    def measure(step: int) -> None:
        model, prepared = parts.model, parts.prepared
        lengths = prepared.tokenizer.byte_lengths
        windows = eval_windows(prepared.val, model.config.seq_len, lengths, parts.config.eval_tokens)
        result = evaluate(model, windows, parts.config.batch_size)
        assert result
        say(seconds=round(clock.now(), 2), step=step, tokens=tokens, bpb=result.bpb)

    def hear(event: Event) -> None:
        nonlocal due, tokens, step, shallow_steps, shallow_cost
        if isinstance(event, Began):
            shallow_steps, shallow_cost = event.shallow_steps or 0, event.shallow_cost or 1.0
            clock.ready(parameters=event.n_params)
        elif isinstance(event, LearnedBigrams):
            measure(event.step)
        elif isinstance(event, Trained):
            clock.stop()
            tokens, step = event.tokens, event.step
            if clock.now() >= due:
                measure(event.step)
                due += seconds / POINTS
            clock.after_step()
        elif isinstance(event, Ended):
            measure(event.step)

    def learn(*words: Any) -> LearnedBigrams:
        start = time.monotonic()
        counted = learn_bigrams(*words)
        clock.count(job["start_s"] if job["step_s"] else time.monotonic() - start)
        return counted

    SOURCES[TIMED] = Timed
    vars(assemble)["learn_bigrams"] = learn
    length: dict[str, Any] = {"max_time": f"{seconds}s"}
    if job["step_s"]:
        length = {"max_steps": steps_within(job)}
    settings = {**job["settings"], **length, "source": TIMED}
    settings |= {"eval_every": 0, "sample_every": 0, "save_every": 0}
    outcome = train_run(Spec.of(job["preset"], **settings), Path(job["run"]), [hear], now=clock.now)
    say(end=outcome.why, steps=outcome.step)


if __name__ == "__main__":
    main()
