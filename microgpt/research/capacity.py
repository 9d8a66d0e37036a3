"""The facts of one run that tell what holds it back, from its checkpoint, its log and its text."""

from pathlib import Path
from typing import Any

import numpy as np

from microgpt.batches.batches import Batches, eval_windows
from microgpt.common.errors import ConfigError
from microgpt.corpus.prepared.folder import Prepared
from microgpt.evaluation.alarms import published_fit
from microgpt.evaluation.annealing import Course, course
from microgpt.evaluation.laws import Fit
from microgpt.evaluation.loss import evaluate
from microgpt.evaluation.probes import probe_all
from microgpt.evaluation.verdict import OPTIMUM, Facts
from microgpt.model import GPT, count_layer_parameters
from microgpt.model.architecture import TABLES
from microgpt.runs.layout import METRICS
from microgpt.runs.metrics import read_metrics
from microgpt.runs.settings import TrainConfig, recipe
from microgpt.runs.spec import Plan
from microgpt.tokenizer import Tokenizer
from microgpt.training.schedule import learning_rate

TOKENS = 32_768  # of training and of held-out text, to see how far apart they are
TOKENS_AT_ONCE = 4096


def facts_of(
    checkpoint: Path,
    model: GPT,
    tokenizer: Tokenizer,
    state: dict[str, Any],
    plan: Plan,
    data: Prepared,
    own: Fit | None = None,
) -> Facts:
    """All of them.

    Args:   own: the law of other runs on this text.
    Raises: ConfigError: it began with the weights of another run.
    """
    if plan.parent is not None:
        raise ConfigError(
            f"{checkpoint} began with the weights of {plan.parent.place}: neither its tokens nor where it "
            "began tell what it can learn; ask of a run that began from nothing"
        )
    config, n_params = plan.train, model.params.flat.size
    step, tokens = int(state["step"]), int(state["tokens"])
    batches = Batches(data.train, plan.model.seq_len, config.batch_size, config.seed, packing=config.packing)
    findings = [
        *probe_all(model, tokenizer, data.train, data.val, batches, checkpoint.parent, is_random=not step)
    ]
    log = checkpoint.parent / METRICS
    events = [e for e in (read_metrics(log) if log.is_file() else []) if e["step"] <= step]
    found = course_of(events, step, config)
    end_tokens = int(tokens * max(1.0, end_of(config) / max(1, step)))
    trained, held_out = (loss_on(model, tokens, tokenizer, config) for tokens in (data.train, data.val))
    wanted = published_fit(n_params, tokens)
    return Facts(
        findings,
        [event["alarm"] for event in events if event["event"] == "alarm"],
        n_params,
        tokens,
        end_tokens,
        tokens / data.train.n_tokens,
        OPTIMUM if own is None or own.law.ratio else optimum_of(own, n_params),
        config.lr / recipe(count_layer_parameters(plan.model), name=config.recipe)["lr"],
        moved(model, config),
        found,
        held_out / trained - 1,
        None if wanted is None else held_out - wanted,
        None if own is None or found is None else found.end / float(own.law.loss(n_params, end_tokens)) - 1,
    )


def end_of(config: TrainConfig) -> int:
    """The step at which the rate has come down."""
    return config.decay_steps or config.max_steps


def course_of(events: list[dict[str, Any]], step: int, config: TrainConfig) -> Course | None:
    """The course of held-out bits per byte, by the rates that the log has and the schedule foretells."""
    logged = [(e["step"], e["lr"]) for e in events if e["event"] == "train"]
    measured = {e["step"]: e["bpb"] for e in events if e["event"] == "eval" and e["step"]}
    steps = np.arange(1, max(step, end_of(config)) + 1)
    rates = np.array([learning_rate(int(one) - 1, config) for one in steps])
    if logged:
        is_past = steps <= logged[-1][0]
        at, was = np.array(logged, np.float64).T
        rates[is_past] = np.interp(steps[is_past], at, was)
    return course(rates, [*measured], [*measured.values()])


def optimum_of(own: Fit, n_params: float) -> float:
    """Tokens for each parameter that are best for a size, by the law of other runs."""
    flop = np.geomspace(1e3, 1e40, 2000)
    sizes = own.law.best_size(flop)
    return float(np.interp(np.log(n_params), np.log(sizes), own.law.best_tokens(flop) / sizes))


def moved(model: GPT, config: TrainConfig) -> float:
    """How far the matrices are from where the seed began them, against their size now; those that counts
    taught before the first step left out."""
    began = GPT(model.config).init(config.seed)
    taught = TABLES if config.bigram_passes else ()
    names = [p.name for p in model.params.parameters if p.decay and p.name not in taught]
    apart = sum(float(np.square(model.params[n].astype(float) - began.params[n]).sum()) for n in names)
    return float(np.sqrt(apart / sum(float(np.square(model.params[n].astype(float)).sum()) for n in names)))


def loss_on(model: GPT, text: Any, tokenizer: Tokenizer, config: TrainConfig) -> float:
    """Nats a token on some windows of a text, without dropout."""
    windows = eval_windows(text, model.config.seq_len, tokenizer.byte_lengths, TOKENS, config.packing)
    result = evaluate(model, windows, max(1, TOKENS_AT_ONCE // model.config.seq_len))
    assert result is not None, "nothing can stop it"
    return result.loss
