"""Which number of threads trains fastest: `auto` times the real step once and remembers the answer.

More threads than a machine has true cores may be slower than fewer, and so may threads that wait for each
other over a small model; nothing but a measurement knows.  Results never depend on the number.
"""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from tqdm import tqdm

import microgpt
from microgpt.core import arrays, native, random
from microgpt.machine.cpus import available_cpus, check_threads
from microgpt.machine.kept import Finding, recall, remember
from microgpt.machine.rates import cpu_name, product_flop_per_s
from microgpt.model import GPT, Batch, ModelConfig, flop_per_token
from microgpt.runs.kinds import OPTIMIZERS
from microgpt.runs.settings import TrainConfig

from .optimizer import Optimizer

Say = Callable[[str], None]

BUDGET_S = 3.0  # of all timed steps together
MOST_ROUNDS = 9
LONGEST_STEP_S = 1.0  # on one thread; of a batch that takes longer, some of the windows are timed
LONGEST_PROBE_S = 15.0  # where even one window takes so long, all CPUs have enough to do
RUN_SHARE = 0.03  # of the run, at most
STEPS_AT_LEAST = 3.5  # what a probe costs at least, in steps on one thread: 1 + 1/2 + ..., and the warm-up
PRODUCT_SHARE = 0.6  # of the rate of one matrix product, expected of a step
SAME = 1.05  # times this close are equal, and the smaller number is taken
HOPELESS = 1.5  # so far behind, a number is not worth trying further
STEADY = 0.8  # share of its threads' time that a step gets on CPUs that no other work wants
QUIET_S = 2.0  # no progress is shown of what is done sooner


class TrialStep:
    """One training step (forward, backward, norm, update) of a model of its own, on tokens of no meaning."""

    def __init__(self, model: ModelConfig, train: TrainConfig, batch_size: int) -> None:
        self.model = GPT(model, recompute=train.recompute, precision=train.precision)
        fill_small(self.model.params.flat)
        self.optimizer: Optimizer = OPTIMIZERS[train.optimizer](self.model, train)
        ids = trial_tokens(model, batch_size)
        self.batch = Batch(ids, ids)
        self.keys = np.zeros(batch_size, np.uint64)

    def __call__(self) -> None:
        _, n = self.model.loss_and_grad(self.batch, self.keys)
        self.optimizer.update(1e-5, self.optimizer.grad_norm(n), n)

    def seconds(self) -> float:
        """Wall-clock time of one step."""
        start = time.perf_counter()
        self()
        return time.perf_counter() - start


def fill_small(flat: np.ndarray) -> None:
    """Small numbers for weights (n,): any do, the same 4,096 again and again, for drawing each one would take
    longer than the steps.  In place, for a second array of as many may be all the memory that there is."""
    draws = (0.02 * random.normal(0, 4096)).astype(flat.dtype)
    n_whole = flat.size // len(draws) * len(draws)
    flat[:n_whole].reshape(-1, len(draws))[:] = draws
    flat[n_whole:] = draws[: flat.size - n_whole]


def trial_tokens(model: ModelConfig, batch_size: int) -> np.ndarray:
    """Tokens (B, T): the time of a step does not depend on what they say."""
    draws = random.uniform(random.key(0, "trial tokens"), batch_size * model.seq_len)
    return (draws * model.vocab_size).astype(np.int32).reshape(batch_size, -1)


class Probe:
    """Times of a step by number of threads, the numbers taking turns; at least one step on each.

    From the largest number down, and no further once fewer threads are much slower.
    """

    def __init__(self, step: TrialStep, counts: list[int], budget_s: float) -> None:
        self._step, self._most = step, max(counts)
        self._times: dict[int, list[float]] = {}
        self._cpu_shares: list[float] = []  # of the time of all threads, on the largest number
        before = native.threads()
        try:
            native.set_threads(self._most)
            step()  # the first one pays for the memory
            self._run(sorted(counts, reverse=True), budget_s)
        finally:
            native.set_threads(before)

    def _run(self, counts: list[int], budget_s: float) -> None:
        start = time.perf_counter()
        with tqdm(desc="choosing the number of threads", unit=" steps", delay=QUIET_S, leave=False) as bar:
            for count in counts:
                bar.update(self._time_on(count))
                if self.seconds[count] > HOPELESS * min(self.seconds.values()):
                    break
            round_s = time.perf_counter() - start
            for _ in range(1, MOST_ROUNDS):
                if time.perf_counter() - start + round_s > budget_s:
                    break
                bar.update(sum(self._time_on(count) for count in self._times))

    def _time_on(self, count: int) -> int:
        native.set_threads(count)
        cpu_s = time.process_time()
        seconds = self._step.seconds()
        if count == self._most:
            self._cpu_shares.append((time.process_time() - cpu_s) / (count * seconds))
        self._times.setdefault(count, []).append(seconds)
        return 1

    @property
    def seconds(self) -> dict[int, float]:
        """Median time of a step by number of threads."""
        return {count: statistics.median(self._times[count]) for count in sorted(self._times)}

    @property
    def steady(self) -> bool:
        """Whether the CPUs were there for the step: work beside it would decide the answer."""
        return statistics.median(self._cpu_shares) >= STEADY


def choose_threads(
    model: ModelConfig, config: TrainConfig, say: Say, steps: float = math.inf, limit_s: float = math.inf
) -> int:
    """The number of threads for a run; what `auto` found is said in one line.

    Args: steps, limit_s: what the run will last at most; a probe that costs too much of it is not made.
    """
    asked, cpus = check_threads(config.threads), available_cpus()
    if asked or cpus == 1:
        return asked or 1
    key = _key(model, config, cpus)
    finding, how = recall(key), "measured earlier"
    if finding is None:
        finding, how = _probe_if_worth_it(model, config, cpus, steps, limit_s)
        if finding.steady:
            remember(key, finding)
    say(f"threads: {finding.threads} of {cpus} ({': '.join([how, *_listed(finding)])})")
    return finding.threads


def _probe_if_worth_it(
    model: ModelConfig, config: TrainConfig, cpus: int, steps: float, limit_s: float
) -> tuple[Finding, str]:
    """What was found, and the words for how."""
    window_s = model.seq_len * flop_per_token(model) / (PRODUCT_SHARE * product_flop_per_s(config.precision))
    windows = min(config.batch_size, max(1, int(LONGEST_STEP_S / window_s)))
    least_s = STEPS_AT_LEAST * windows * window_s
    run_s = min(limit_s, steps * config.windows_per_step * window_s / cpus)
    if least_s > RUN_SHARE * run_s:
        return Finding(cpus), "all CPUs; the run is too short to probe"
    if least_s > LONGEST_PROBE_S:
        return Finding(cpus), "all CPUs; a step is too long to probe"
    found = _probed(TrialStep(model, config, windows), cpus, min(BUDGET_S, RUN_SHARE * run_s))
    arrays.release()  # the trial's model is gone, and now its memory
    some = "" if windows == config.batch_size else f" on {windows} of {config.batch_size} windows"
    return found, f"probed{some}{'' if found.steady else '; CPUs partly taken or idle, so not remembered'}"


def _probed(step: TrialStep, cpus: int, budget_s: float) -> Finding:
    probe = Probe(step, candidates(cpus), budget_s)
    seconds, steady = probe.seconds, probe.steady
    return Finding(fastest(seconds) if steady else most_useful(seconds), seconds, steady)


def candidates(cpus: int) -> list[int]:
    """Numbers worth trying: 1, 2, 4, ... and all."""
    return [2**i for i in range(cpus.bit_length()) if 2**i < cpus] + [cpus]


def fastest(seconds: dict[int, float]) -> int:
    """The smallest number whose time is the best one or within noise of it."""
    best = min(seconds.values())
    return min(count for count, taken in seconds.items() if taken <= SAME * best)


def most_useful(seconds: dict[int, float]) -> int:
    """The largest number that is not far behind: what other work takes from it now it will get back."""
    best = min(seconds.values())
    return max(count for count, taken in seconds.items() if taken <= HOPELESS * best)


def _key(model: ModelConfig, config: TrainConfig, cpus: int) -> dict[str, Any]:
    """All that the answer depends on."""
    shape = {name: value for name, value in model.to_dict().items() if name not in ("init_std", "rope_theta")}
    machine = native.info(config.precision)
    del machine["threads"]
    return {
        **shape,
        "dropout": model.dropout > 0,
        "batch_size": config.batch_size,
        "recompute": config.recompute,
        "optimizer": config.optimizer,
        **machine,
        "cpu": cpu_name(),
        "cpus": cpus,
        "version": microgpt.__version__,
    }


def _listed(finding: Finding) -> list[str]:
    """`1 -> 812 ms, 2 -> 425 ms`, if there are times."""
    times = ", ".join(f"{count} -> {_ms(seconds)}" for count, seconds in finding.seconds.items())
    return [times] if times else []


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.{0 if seconds >= 0.01 else 1}f} ms"
