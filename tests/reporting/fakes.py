"""The log of a run that never was."""

import math

from microgpt.runs.events import Alarmed, Ended, Evaluated, Planned, RolledBack, Sampled, Started, Trained
from microgpt.runs.metrics import MetricsLog

MACHINE = {"flop_per_token": 6e6, "peak_flop_per_s": 2e11, "memory_bytes": 1.2e8, "machine": {"threads": 2}}
TOKENS_PER_STEP = 1000


def start(max_steps=300):
    return Started(0, n_params=1_000_000, max_steps=max_steps, **MACHINE)


def trained(step, loss=None):
    loss = 1 + 5 * math.exp(-step / 60) if loss is None else loss
    speed = 17_000.0 + step % 7
    return Trained(
        step, loss, 1e-3, 0.9, TOKENS_PER_STEP * step, 0.06, speed, 0.06 * step, 0.06 * (300 - step)
    )


def evaluated(step, loss=None, error=0.02):
    loss = 1.1 + 5 * math.exp(-step / 60) if loss is None else loss
    return Evaluated(step, loss, loss / 2, error, 50, 5000, 20_000, 1.0, 0.06 * step)


def events(steps=300):
    """A run of so many steps with an evaluation every 50, a sample, an alarm and another plan."""
    found = [start(steps), evaluated(0)]
    for step in [1, *range(10, steps + 1, 10)]:
        found.append(trained(step))
        if step % 50 == 0:
            found.append(evaluated(step))
    found += [
        Planned(100, steps, 0.06),
        Sampled(200, "<|user|>Is <b>1 & 2</b>? => Yes!"),
        Alarmed(250, "half the speed", "a step takes 2 s, it took 1", "other programs"),
        Ended(steps, "finished", 1.5e8),
    ]
    return sorted(found, key=lambda event: event.step)


def write_log(run, found=None):
    """Write a log; the run's directory."""
    run.mkdir(parents=True, exist_ok=True)
    with MetricsLog(run / "metrics.jsonl") as log:
        for event in events() if found is None else found:
            log.hear(event)
    return run


def went_back(step, to):
    return RolledBack(step, to, 1, 2, "bad numbers")
