"""What a run can be told: every field is a flag of `microgpt train`; `recipe` sets some by model size."""

import dataclasses
from typing import Any

from microgpt.batches.packing import PACKINGS, STREAM
from microgpt.common.errors import ConfigError
from microgpt.common.flags import MOST, flag_name, setting
from microgpt.common.plain import config_from
from microgpt.common.words import parse_duration
from microgpt.core.native import PRECISIONS
from microgpt.machine.cpus import AUTO, available_cpus, check_threads

# May differ between the sessions of one run: they end, save or report it, but do not change any step.
# (max_steps is among them although the learning rate follows it: going on for longer is the point of it.
# So is precision, because the run's own may not be had here; the resume then asks for --allow-inexact.)
SESSION_FIELDS = frozenset(
    [
        "max_steps",
        "max_time",
        "threads",
        "recompute",
        "precision",
        "save_every",
        "keep",
        "stop_after",
        "eval_every",
        "sample_every",
        "log_every",
    ]
)

LENGTH, BATCH, ADAM = "length of the run", "batch", "optimizer (Adam)"
REPORTS, CHECKPOINTS, MACHINE = "evaluation and reports", "checkpoints", "machine"


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything about a run that is not the model or the corpus."""

    max_steps: int = setting(
        20_000,
        "optimizer steps, by the model's size; the learning rate falls over all of them; 0: what "
        "fits into --max-time",
        "steps",
        group=LENGTH,
    )
    max_time: str | None = setting(
        None,
        "stop within this time of the command's start, such as 90s, 10m, 1h30m; without --max-steps "
        "the number of steps is measured and planned for it",
        "time",
        group=LENGTH,
    )
    stop_after: int = setting(
        0,
        "end the run after so many evaluations in a row without a better held-out loss, and keep the best "
        "checkpoint; 0: never",
        "evaluations",
        group=LENGTH,
    )
    seed: int = setting(
        0,
        "of weights, data order, dropout: the same seed gives the same run, bit for bit",
        "number",
        group=LENGTH,
    )

    batch_size: int = setting(8, "windows in one micro-batch", "windows", group=BATCH)
    packing: str = setting(
        STREAM,
        "what a window is: cut from the stream of all text, or made of whole documents, beginning at "
        "<|bos|> as a chat does; only what is longer than a window is cut",
        choices=PACKINGS,
        group=BATCH,
    )
    prompt_loss_weight: float = setting(
        1.0,
        "how much a token outside the assistant's answers counts; below 1 a chat model learns to "
        "answer sooner and foresees its user less",
        "0 to 1",
        group="batch",
    )
    grad_accum: int = setting(1, "micro-batches whose mean gradient makes one step", "batches", group=BATCH)

    lr: float = setting(1e-3, "peak learning rate, by the model's size", group=ADAM)
    min_lr: float = setting(1e-4, "learning rate at the end of the cosine; a tenth of --lr", group=ADAM)
    warmup_steps: int = setting(
        2000,
        "linear warm-up, by the model's size; at most a tenth of the run, if that is more than 30",
        "steps",
        group=ADAM,
    )
    decay_steps: int = setting(
        0, "step at which the cosine reaches --min-lr; 0: at --max-steps", "steps", group=ADAM
    )
    beta1: float = setting(0.9, "memory of the first moment, below 1", group=ADAM)
    beta2: float = setting(0.999, "memory of the second moment, below 1", group=ADAM)
    eps: float = setting(1e-8, "added to the root of the second moment", group=ADAM)
    weight_decay: float = setting(
        0.0, "decoupled decay of weight matrices (AdamW), times the learning rate", group=ADAM
    )
    grad_clip: float = setting(
        1.0, "gradients of a larger global norm are scaled down to it; 0: never", "norm", group=ADAM
    )

    eval_every: int = setting(250, "between evaluations on held-out text; 0: never", "steps", group=REPORTS)
    eval_tokens: int = setting(65_536, "held out for one evaluation, at most", "tokens", group=REPORTS)
    sample_every: int = setting(1000, "between printed samples; 0: never", "steps", group=REPORTS)
    log_every: int = setting(10, "between lines in metrics.jsonl", "steps", group=REPORTS)

    save_every: int = setting(500, "between checkpoints; 0: only at the end", "steps", group=CHECKPOINTS)
    keep: int = setting(2, "how many checkpoints to keep, the newest", "checkpoints", group=CHECKPOINTS)

    precision: str = setting(
        "fp32",
        "of large matrix products and attention; bf16 is up to twice as fast, where the CPU has "
        "AVX512_BF16; auto: bf16 where the CPU has it",
        choices=PRECISIONS,
        group=MACHINE,
    )
    threads: str = setting(
        AUTO,
        "CPU threads; auto: what trains this model fastest here, measured once and remembered; "
        "MICROGPT_THREADS sets it too",
        "number",
        group=MACHINE,
    )
    recompute: bool = setting(
        False,
        "keep only the input of each layer and compute the layer again for its gradient: a fraction "
        "of the memory, a quarter more time, the same results to the bit",
        group=MACHINE,
    )

    # Where a run that trains on left its first plan (`schedule.train_on`): no flags, but part of the run.
    onward_step: int = 0  # 0: it never did
    onward_lr: float = 0.0  # the rate it had then
    onward_peak: float = 0.0  # the rate it rises to

    def __post_init__(self) -> None:
        _check_ranges(self)
        if self.precision not in PRECISIONS:
            raise ConfigError(f"--precision {self.precision}: expected {', '.join(PRECISIONS)}")
        if self.packing not in PACKINGS:
            raise ConfigError(f"--packing {self.packing}: expected {' or '.join(PACKINGS)}")
        if self.min_lr > self.lr:
            raise ConfigError(f"--min-lr {self.min_lr:g} is above --lr {self.lr:g}; the rate falls to min_lr")
        if self.max_steps == 0 and self.max_time is None:
            raise ConfigError("--max-steps 0 leaves the run without an end; give a --max-time, such as 10m")
        if self.stop_after and not self.eval_every:
            raise ConfigError(f"--stop-after {self.stop_after} needs evaluations; give --eval-every, too")
        _ = self.time_limit_s, self.n_threads  # refuse what they cannot read

    @property
    def time_limit_s(self) -> float | None:
        """Seconds of `max_time`; None without one."""
        return None if self.max_time is None else parse_duration(self.max_time)

    @property
    def n_threads(self) -> int:
        """`threads` as a number; `auto` is all CPUs, until `choose_threads` has probed."""
        return check_threads(self.threads) or available_cpus()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for config.json."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainConfig":
        """The config that `to_dict` described."""
        return config_from(cls, values)


def _check_ranges(config: TrainConfig) -> None:
    """Refuse numbers outside what a setting can mean, naming its flag."""
    positive = ("batch_size", "grad_accum", "lr", "eps", "eval_tokens", "log_every", "keep")
    not_negative = (
        "max_steps",
        "stop_after",
        "seed",
        "min_lr",
        "warmup_steps",
        "decay_steps",
        "weight_decay",
        "grad_clip",
        "eval_every",
        "sample_every",
        "save_every",
        "beta1",
        "beta2",
        "onward_step",
        "onward_lr",
        "onward_peak",
    )
    for name in positive + not_negative:
        value = getattr(config, name)
        if not 0 <= value < MOST or (name in positive and value == 0):  # NaN is not within, either
            bound = "above 0" if name in positive else "0 or more"
            bound = f"below {MOST:.1e}" if value >= MOST else bound
            raise ConfigError(f"{flag_name(name)} {value}: expected a number {bound}")
    if not 0 <= config.prompt_loss_weight <= 1:
        raise ConfigError(f"--prompt-loss-weight {config.prompt_loss_weight:g}: expected 0 to 1")
    for name in ("beta1", "beta2"):
        if getattr(config, name) >= 1:
            raise ConfigError(f"{flag_name(name)} {getattr(config, name):g}: expected a number below 1")


def recipe(n_layer_params: int, lr: float | None = None) -> dict[str, Any]:
    """Defaults that follow the model's size (the road recipe), and the cosine's floor that follows `lr`.

    The size is that of the layers: what is best for them does not depend on the vocabulary.
    """
    if n_layer_params < 500_000:
        values = {"lr": 3e-3, "warmup_steps": 200, "max_steps": 1000}
    elif n_layer_params < 20_000_000:
        values = {"lr": 1e-3, "warmup_steps": 2000, "max_steps": 20_000}
    else:
        values = {"lr": 3e-4, "warmup_steps": 5000, "max_steps": 100_000}
    peak = values["lr"] if lr is None else lr
    return {**values, "min_lr": float(f"{peak / 10:.12g}")}  # 0.0003, not 0.00030000000000000003
