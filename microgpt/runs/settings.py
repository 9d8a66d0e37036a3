"""What a run can be told: every field is a flag of `microgpt train`; `recipe` sets some by model size."""

import dataclasses
from typing import Any, NamedTuple

from microgpt.batches.packing import PACKINGS, STREAM
from microgpt.common.errors import ConfigError
from microgpt.common.flags import flag_name
from microgpt.common.plain import record_from
from microgpt.common.setting import (
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    Range,
    refused,
    session_fields,
    setting,
    unseen,
)
from microgpt.common.words import parse_count, parse_duration
from microgpt.core.native import PRECISIONS
from microgpt.machine.cpus import AUTO, available_cpus, check_threads

from .kinds import OPTIMIZERS

SCHEDULES = ("cosine", "linear", "wsd")
ORTHOGONALIZERS = ("newton-schulz", "polar-express")  # the polynomials of `training/muon.py`

# How long a run is can be said in one of these ways, or by --max-time alone, which else is a limit besides.
LENGTHS = ("max_steps", "epochs", "tokens", "tokens_per_param")

LENGTH, BATCH, ADAM = "length of the run", "batch", "optimizer"
REPORTS, CHECKPOINTS, MACHINE = "evaluation and reports", "checkpoints", "machine"


class Recipe(NamedTuple):
    """A way of training that has a name: settings of the model, and of the training, whatever the size."""

    model: dict[str, Any]
    train: dict[str, Any]


_FAST = {
    "optimizer": "muon",
    "muon_lr": 0.02,
    "lr": 8e-3,
    "beta1": 0.9,
    "beta2": 0.95,
    "schedule": "wsd",
    "decay_share": 0.8,
    "warmup_steps": 10,
}
RECIPES = {
    "road": Recipe({}, {}),  # all of it follows from the size: `recipe`
    "fast": Recipe({"dropout": 0.0}, _FAST),
    "sprint": Recipe(
        {"dropout": 0.0},
        _FAST | {"bigram_passes": 60, "embedding_rate": 0.1, "muon_lr": 0.04, "shallow_blocks": 2},
    ),
}


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything about a run that is not the model or the corpus."""

    max_steps: int = setting(
        20_000,
        "optimizer steps, by the model's size; the learning rate falls over all of them; 0: what "
        "fits into --max-time",
        "steps",
        group=LENGTH,
        within=NOT_NEGATIVE,
        of_session=True,
    )
    max_time: str | None = setting(
        None,
        "stop within this time of the command's start, such as 90s, 10m, 1h30m, loading the program not "
        "counted; without --max-steps the number of steps is measured and planned for it",
        "time",
        group=LENGTH,
        of_session=True,
    )
    epochs: float | None = setting(
        None,
        "length of the run as passes over the corpus, such as 2.5, in place of --max-steps",
        "passes",
        group=LENGTH,
        within=POSITIVE,
        of_session=True,
    )
    tokens: str | None = setting(
        None,
        "length of the run as tokens that it trains on, such as 400M, in place of --max-steps",
        "tokens",
        group=LENGTH,
        of_session=True,
    )
    tokens_per_param: float | None = setting(
        None,
        "length of the run as tokens for each parameter, embeddings counted, in place of --max-steps",
        "tokens",
        group=LENGTH,
        within=POSITIVE,
        of_session=True,
    )
    stop_after: int = setting(
        0,
        "end the run after so many evaluations in a row without a better held-out loss, and keep the best "
        "checkpoint; 0: never",
        "evaluations",
        group=LENGTH,
        within=NOT_NEGATIVE,
        of_session=True,
    )
    seed: int = setting(
        0,
        "of weights, data order, dropout: the same seed gives the same run, bit for bit",
        "number",
        group=LENGTH,
        within=NOT_NEGATIVE,
    )

    batch_size: int = setting(8, "windows in one micro-batch", "windows", group=BATCH, within=POSITIVE)
    packing: str = setting(
        STREAM,
        "what a window is: cut from the stream of all text, where a document sees what stands before it; or "
        "made of whole documents, which do not see each other and begin at <|bos|> as a chat does, only "
        "what is longer than a window is cut",
        choices=PACKINGS,
        group=BATCH,
    )
    carry_state: bool = setting(
        False,
        "windows follow on each other, and recurrent layers carry on what they remember from each to the "
        "next, without a gradient; attention begins anew at each window",
        group=BATCH,
    )
    prompt_loss_weight: float = setting(
        1.0,
        "how much a token outside the assistant's answers counts; below 1 a chat model learns to "
        "answer sooner and foresees its user less",
        "0 to 1",
        group="batch",
        within=SHARE,
    )
    grad_accum: int = setting(
        1, "micro-batches whose mean gradient makes one step", "batches", group=BATCH, within=POSITIVE
    )

    recipe: str = setting(
        "fast",
        "settings that go together, unless they are given: fast, muon, and a rate that falls over most of "
        "the run, without dropout; sprint, the same from counts of pairs, for a few hundred steps; road, the "
        "classic one: Adam and a cosine by the model's size",
        choices=RECIPES,
        group=ADAM,
    )
    optimizer: str = setting(
        "adam",
        "what turns gradients into new weights; muon: orthogonal updates of the matrices inside the layers, "
        "Adam for all else",
        choices=OPTIMIZERS,
        group=ADAM,
    )
    lr: float = setting(1e-3, "peak learning rate, by the model's size", group=ADAM, within=POSITIVE)
    muon_lr: float = setting(
        0.02,
        "with --optimizer muon, peak rate of its matrices; in the recipe fast 2.5 times --lr, which is "
        "that of the rest, in sprint 5 times",
        group=ADAM,
        within=POSITIVE,
    )
    orthogonalize: str = setting(
        "newton-schulz",
        "with --optimizer muon, the polynomials that make an update orthogonal",
        choices=ORTHOGONALIZERS,
        group=ADAM,
    )
    embedding_rate: float = setting(
        1.0,
        "rate of embedding and head as a share of --lr; in the recipe sprint 0.1, for --bigram-passes have "
        "taught them most of what they say in a short run",
        "times",
        group=ADAM,
        within=POSITIVE,
    )
    width_scaling: int = setting(
        0,
        "with --optimizer adam, the width that --lr was found at: the rate of matrices inside the layers is "
        "--lr times it / --n-embd; 0: --lr at any width",
        "channels",
        group=ADAM,
        within=NOT_NEGATIVE,
    )
    bigram_passes: int = setting(
        0,
        "before the first step, passes over the counts of pairs of tokens (of 8 million at most), in which "
        "embedding and head learn what follows each; for models with a head of their own and branches that "
        "begin at zero, as 10m-untied; 60 in the recipe sprint; 0: none",
        "passes",
        group=ADAM,
        within=NOT_NEGATIVE,
    )
    shallow_blocks: int = setting(
        0,
        "train the first blocks alone, so many, until --shallow-share of the run's FLOP is spent: the others "
        "begin at zero, add nothing until then, and cost nothing; 2 in the recipe sprint; 0: all from the "
        "start",
        "blocks",
        group=ADAM,
        within=NOT_NEGATIVE,
    )
    shallow_share: float = setting(
        0.7,
        "of the run's FLOP, spent on --shallow-blocks alone",
        "0 to 1",
        group=ADAM,
        within=SHARE,
    )
    schedule: str = setting(
        "cosine",
        "how the learning rate falls after its warm-up: in a cosine or a line, or (wsd) not before the last "
        "--decay-share, then in a line; a run of wsd goes on as if it had been planned longer",
        choices=SCHEDULES,
        group=ADAM,
    )
    decay_share: float = setting(
        0.2,
        "with --schedule wsd, share of the steps in which the rate falls, though not before step 30",
        "0 to 1",
        group=ADAM,
        within=SHARE,
    )
    min_lr: float = setting(
        1e-4, "learning rate at the end; a tenth of --lr", group=ADAM, within=NOT_NEGATIVE
    )
    warmup_steps: int = setting(
        2000,
        "linear warm-up: 10 in the recipe fast, in road by the model's size; at most a tenth of the run, "
        "if that is more than 30",
        "steps",
        group=ADAM,
        within=NOT_NEGATIVE,
    )
    decay_steps: int = setting(
        0,
        "step at which the rate reaches --min-lr; 0: at --max-steps",
        "steps",
        group=ADAM,
        within=NOT_NEGATIVE,
    )
    beta1: float = setting(0.9, "memory of the first moment, below 1", group=ADAM, within=Range(0, 1))
    beta2: float = setting(0.999, "memory of the second moment, below 1", group=ADAM, within=Range(0, 1))
    eps: float = setting(1e-8, "added to the root of the second moment", group=ADAM, within=POSITIVE)
    weight_decay: float = setting(
        0.0,
        "decoupled decay of weight matrices (AdamW), times the learning rate",
        group=ADAM,
        within=NOT_NEGATIVE,
    )
    grad_clip: float = setting(
        1.0,
        "gradients of a larger global norm are scaled down to it; 0: never",
        "norm",
        group=ADAM,
        within=NOT_NEGATIVE,
    )

    eval_every: int = setting(
        250,
        "between evaluations on held-out text; 0: never",
        "steps",
        group=REPORTS,
        within=NOT_NEGATIVE,
        of_session=True,
    )
    eval_tokens: int = setting(
        65_536, "held out for one evaluation, at most", "tokens", group=REPORTS, within=POSITIVE
    )
    sample_every: int = setting(
        1000,
        "between printed samples; 0: never",
        "steps",
        group=REPORTS,
        within=NOT_NEGATIVE,
        of_session=True,
    )
    probes: bool = setting(
        True,
        "look before the first step whether the numbers can mean what they say (microgpt probe), in seconds; "
        "data whose held-out part measures nothing is refused",
        group=REPORTS,
        of_session=True,
    )
    log_every: int = setting(
        10, "between lines in metrics.jsonl", "steps", group=REPORTS, within=POSITIVE, of_session=True
    )

    save_every: int = setting(
        500,
        "between checkpoints; halfway an evaluation that is the best so far gets one, too; 0: only at the "
        "end",
        "steps",
        group=CHECKPOINTS,
        within=NOT_NEGATIVE,
        of_session=True,
    )
    keep: int = setting(
        2,
        "how many checkpoints to keep, the newest",
        "checkpoints",
        group=CHECKPOINTS,
        within=POSITIVE,
        of_session=True,
    )

    precision: str = setting(
        "fp32",
        "of large matrix products and attention; bf16 is up to twice as fast, where the CPU has "
        "AVX512_BF16; auto: bf16 where the CPU has it",
        choices=PRECISIONS,
        group=MACHINE,
        of_session=True,
    )
    threads: str = setting(
        AUTO,
        "CPU threads; auto: what trains this model fastest here, measured once and remembered; "
        "MICROGPT_THREADS sets it too",
        "number",
        group=MACHINE,
        of_session=True,
    )
    recompute: bool = setting(
        False,
        "keep only the input of each layer and compute the layer again for its gradient: a fraction "
        "of the memory, a quarter more time, the same results to the bit",
        group=MACHINE,
        of_session=True,
    )

    # Where batches come from and what is added to the loss, by the names of `kinds`: no flags, for programs.
    source: str = unseen("corpus")
    answers_only: bool = unseen(False)  # what the assistant says is learned, and plain text
    source_settings: dict[str, Any] = dataclasses.field(default_factory=dict)  # what each of them is told
    penalty: str = unseen("")
    penalty_settings: dict[str, Any] = dataclasses.field(default_factory=dict)

    fewest_steps: int = unseen(0, NOT_NEGATIVE)  # of a length in passes or tokens that nobody asked for

    # What --shallow-blocks mean in this run (`training/depth.py`): no flags, but part of it.
    shallow_steps: int = unseen(0, NOT_NEGATIVE)  # with them alone
    shallow_cost: float = unseen(1.0, NOT_NEGATIVE)  # of such a step, as a share of one with all blocks

    # Where a run that trains on left its first plan (`schedule.train_on`): no flags, but part of the run.
    onward_step: int = unseen(0, NOT_NEGATIVE)  # 0: it never did
    onward_lr: float = unseen(0.0, NOT_NEGATIVE)  # the rate it had then
    onward_peak: float = unseen(0.0, NOT_NEGATIVE)  # the rate it rises to

    def __post_init__(self) -> None:
        if bad := refused(self):
            raise ConfigError("{} {}: expected {}".format(flag_name(bad[0]), *bad[1:]))
        if self.min_lr > self.lr:
            raise ConfigError(f"--min-lr {self.min_lr:g} is above --lr {self.lr:g}; the rate falls to min_lr")
        if self.max_steps == 0 and self.max_time is None and not self.has_other_length:
            raise ConfigError("--max-steps 0 leaves the run without an end; give a --max-time, such as 10m")
        if self.stop_after and not self.eval_every:
            raise ConfigError(f"--stop-after {self.stop_after} needs evaluations; give --eval-every, too")
        if self.answers_only and self.carry_state:
            raise ConfigError("--carry-state reads text in order; fine-tuning reads whole conversations")
        if self.carry_state and self.source != "corpus":
            raise ConfigError(
                f"--carry-state reads the corpus; source {self.source!r} has batches of its own"
            )
        _ = self.time_limit_s, self.n_threads, self.n_tokens  # refuse what they cannot read

    @property
    def time_limit_s(self) -> float | None:
        """Seconds of `max_time`; None without one."""
        return None if self.max_time is None else parse_duration(self.max_time)

    @property
    def n_tokens(self) -> int | None:
        """`tokens` as a number; None without."""
        return None if self.tokens is None else parse_count(self.tokens)

    @property
    def has_other_length(self) -> bool:
        """Whether the number of steps follows from passes or tokens (`training/length.py`)."""
        return any(getattr(self, name) is not None for name in LENGTHS if name != "max_steps")

    @property
    def windows_per_step(self) -> int:
        """Windows that one optimizer step sees, in all its micro-batches."""
        return self.batch_size * self.grad_accum

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
        return record_from(cls, {"recipe": "road", **values}, "config.json")  # before there were others


# What ends, saves or reports a run, but changes no step.  (So may max_steps change, although the learning
# rate follows it: going on for longer is the point of it; and precision, because the run's own may not be had
# here: the resume then asks for --allow-inexact.)
SESSION_FIELDS = session_fields(TrainConfig)


def recipe(n_layer_params: int, lr: float | None = None, name: str = "road") -> dict[str, Any]:
    """Training settings that follow the recipe and the model's size, and the rates that follow `lr`: its
    floor, and that of Muon.

    The size is that of the layers: what is best for them does not depend on the vocabulary.
    """
    if n_layer_params < 500_000:
        values = {"lr": 3e-3, "warmup_steps": 200, "max_steps": 1000}
    elif n_layer_params < 20_000_000:
        values = {"lr": 1e-3, "warmup_steps": 2000, "max_steps": 20_000}
    else:
        values = {"lr": 3e-4, "warmup_steps": 5000, "max_steps": 100_000}
    values |= RECIPES[name].train
    peak = values["lr"] if lr is None else lr
    rates = {"min_lr": peak / 10}
    if "muon_lr" in values:
        rates["muon_lr"] = values["muon_lr"] * peak / values["lr"]
    return values | {
        name: float(f"{rate:.12g}") for name, rate in rates.items()
    }  # 0.0003, not 0.00030000000000000003
