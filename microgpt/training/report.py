"""What a person reads before and after a run: facts counted or measured, and estimates that say so."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from microgpt.common.flags import flag_name, shown_value
from microgpt.common.words import command_line, counted, format_duration
from microgpt.core import native
from microgpt.evaluation.alarms import fit_note
from microgpt.evaluation.chat_probe import knows_chats
from microgpt.evaluation.law_runs import MOST_PASSES
from microgpt.evaluation.loss import BPB_NOTE, INTERVAL_NOTE, Ratio, with_interval
from microgpt.evaluation.measure import too_little
from microgpt.files.durable import sha256_of
from microgpt.machine.memory import peak_memory
from microgpt.model import count_parameters
from microgpt.runs.checkpoint import WEIGHTS
from microgpt.runs.layout import checkpoint_name
from microgpt.runs.settings import TrainConfig
from microgpt.runs.spec import Plan, settings_of_recipe

from .assemble import Session
from .horizon import run_s, step_s
from .loop import FINISHED, NO_GAIN, OUT_OF_TIME, STOPPED
from .needs import memory_estimate
from .schedule import outline, warmup_steps


def header(session: Session) -> list[str]:
    """Lines that say what is about to be trained, on what, and with what."""
    job, state = session.job, session.state
    config, model = job.config, job.model.config
    train, val = session.prepared.train, session.prepared.val
    machine = native.info(config.precision)
    epochs = (config.max_steps - state.step) * config.windows_per_step / session.batches.n_windows
    passes = epochs + state.position * config.batch_size / session.batches.n_windows
    return [
        f"model    {count_parameters(model):,} parameters: {model.n_layer} layers, "
        f"{model.n_embd} channels, {model.n_head} heads, window {model.seq_len}, "
        f"vocabulary {model.vocab_size}",
        *_of_parent(session),
        f"corpus   {counted(train.n_documents, 'document')}, {train.n_bytes:,} bytes, "
        f"{train.n_tokens:,} tokens; "
        f"held out {counted(val.n_documents, 'document')}, {val.n_tokens:,} tokens",
        *([f"warning  {note}"] if (note := session.prepared.share_note) else []),
        *job.source.outline(),
        f"plan     {_steps(session)} of {job.tokens_per_step:,} tokens ({config.batch_size} windows"
        + (f" x {config.grad_accum}" if config.grad_accum > 1 else "")
        + f"), {epochs:,.{2 if epochs < 10 else 0}f} epochs"
        + ("; so little text needs as many" if config.max_steps == config.fewest_steps else ""),
        *too_many_passes(passes, config.stop_after),
        *_of_recipe(session),
        *of_depth(config, model.n_layer, state.step),
        f"rate     {outline(config)}",
        f"fits     {fit_note(count_parameters(model), config.max_steps * job.tokens_per_step)}",
        f"machine  {counted(machine['threads'], 'thread')}, {machine['isa']}, "
        f"BLAS core {machine['blas_core']}, {config.precision}; "
        f"about {memory_estimate(model, config) / 1e9:.2f} GB of memory",
        *_time(session),
        f"run      {job.run}",
    ]


def _of_parent(session: Session) -> list[str]:
    """Whose weights the run begins with, and what of them is trained."""
    plan = Plan.from_dict(session.job.document)
    if plan.parent is None:
        return []
    parent, n = plan.parent, session.job.model.grads.flat.size
    lines = [f"from     {parent.place} (weights {parent.sha256[:16]}), trained on {parent.tokens:,} tokens"]
    if plan.model.lora_rank:
        share = 100 * n / count_parameters(plan.model)
        what = f"rank {plan.model.lora_rank} on {plan.model.lora_targets}"
        lines.append(f"adapters {n:,} numbers are trained ({share:.1f} %), {what}; the rest stays as it is")
    return lines


def _time(session: Session) -> list[str]:
    """How long the run will take, where that was measured."""
    job, timing = session.job, session.timing
    if timing is None:
        return []
    config = job.config
    seconds = run_s(session.planned, timing, config, session.state.step)
    return [
        f"time     about {format_duration(seconds)}, {format_duration(step_s(timing, config))} a step; "
        "evaluations, samples and saves included"
    ]


def _of_recipe(session: Session) -> list[str]:
    """What the recipe of the run set, as flags that would set it; of the warm-up what it has time for."""
    plan = Plan.from_dict(session.job.document)
    made = settings_of_recipe(plan)
    if "warmup_steps" in made:
        made["warmup_steps"] = warmup_steps(session.job.config)
    flags = [f"{flag_name(name)} {shown_value(value)}" for name, value in made.items()]
    return [f"recipe   {plan.train.recipe}: {' '.join(flags)}"] if flags else []


def of_depth(config: TrainConfig, n_layer: int, step: int = 0) -> list[str]:
    """Which blocks are trained alone, and how long."""
    if step >= config.shallow_steps:
        return []
    return [
        f"depth    the first {counted(config.shallow_blocks, 'block')} alone up to step "
        f"{config.shallow_steps:,}, then all {n_layer}; a step costs {config.shallow_cost:.0%} until then"
    ]


def too_many_passes(passes: float, stop_after: int = 0) -> list[str]:
    """A warning where the same text comes so often that it may be learned by heart."""
    if passes <= MOST_PASSES:
        return []
    return [
        f"warning  the same text comes {passes:,.0f} times: the model may learn it by heart and get worse on "
        "other text.  Watch what is held out; "
        f"--stop-after {stop_after or 5} ends the run when that no longer gains"
    ]


def _steps(session: Session) -> str:
    step, total = session.state.step, session.job.config.max_steps
    return f"{total - step:,} more steps, from {step:,} to {total:,}," if step else counted(total, "step")


def summary(session: Session, why: str, seconds: float, first_step: int) -> list[str]:
    """Lines that say what came out: how it ended, results, where the checkpoint is, what to do next.

    Args: seconds: that the session trained.  first_step: where it began.
    """
    job, state = session.job, session.state
    steps, checkpoint = state.step - first_step, job.run / checkpoint_name(state.step)
    return [
        f"{_ending(session, why)}: {_done(steps, steps * job.tokens_per_step, seconds)}",
        *_of_no_step(session, why, steps),
        *_estimated(session, seconds, steps),
        *_results(session),
        f"memory   at most {peak_memory() / 1e9:.2f} GB "
        f"(estimated {memory_estimate(job.model.config, job.config) / 1e9:.2f} for training alone)",
        f"saved    {checkpoint}  (weights sha256 {sha256_of(checkpoint / WEIGHTS)[:16]})",
        f"next     {next_command(session, why)}",
    ]


def _done(steps: int, n_tokens: int, seconds: float) -> str:
    if not steps:
        return "no steps"
    return (
        f"{counted(steps, 'step')}, {n_tokens:,} tokens in {format_duration(seconds)}, evaluations and saves "
        f"included ({n_tokens / seconds:,.0f} tok/s)"
    )


def _of_no_step(session: Session, why: str, steps: int) -> list[str]:
    """What to do where a time limit left no time for a single step."""
    if steps or why != OUT_OF_TIME:
        return []
    return [f"warning  no step fits into --max-time {session.job.config.max_time}; give more time"]


def _estimated(session: Session, seconds: float, steps: int) -> list[str]:
    """The time that was estimated for the steps that were done, beside the one they took; where others were
    planned at the beginning, the one that was told then, too."""
    timing, planned = session.timing, session.planned
    if timing is None or not steps:
        return []
    config, first = session.job.config, session.state.step - steps
    here, told = (format_duration(run_s(n, timing, config, first)) for n in (steps, planned))
    told = "" if steps == planned else f" ({told} for the {planned:,} that were planned)"
    return [f"time     {format_duration(seconds)}, estimated {here} before the first step{told}"]


def out_of_memory(session: Session) -> str:
    """What to do when a run that should have fitted did not."""
    run, saved_at = session.job.run, session.job.saver.saved_at
    good = f"{run / checkpoint_name(saved_at)} is good: --resume {run}" if saved_at >= 0 else "start again"
    return (
        f"out of memory at step {session.state.step}; {good}, with more memory free or with --recompute, "
        "which needs less and gives the same result"
    )


def _ending(session: Session, why: str) -> str:
    step, total = session.state.step, session.job.config.max_steps
    if why == FINISHED:
        return "finished"
    if why == NO_GAIN:
        n = session.state.metrics["evals_since_best"]
        return f"ended at step {step:,} of {total:,}, {counted(n, 'evaluation')} without gain"
    return f"{'stopped' if why == STOPPED else 'time is up'} at step {step:,} of {total:,}"


def _results(session: Session) -> list[str]:
    metrics, windows = session.state.metrics, session.job.held_out
    lines = []
    if "loss" in metrics:
        lines.append(f"loss     {float(metrics['loss']):.4f} nats/token at the last step")
    if "val_bpb" in metrics:
        error = metrics.get("val_error")
        measured = Ratio(
            float(metrics["val_loss"]), None if error is None else float(error), windows.n_documents
        )
        half, small = measured.half_width, too_little(measured)
        loss = with_interval(measured.value, half)
        lines += [
            f"held out {loss} nats/token, {float(metrics['val_bpb']):.4f} bits per byte "
            f"(step {metrics['val_step']:,})",
            f"         on {counted(windows.n_documents, 'document')}, {windows.n_tokens:,} tokens"
            + (" of answers alone (microgpt eval: of all)" if session.job.config.answers_only else "")
            + ("" if half is None else f"; {INTERVAL_NOTE}"),
            *([f"         {small}"] if small else []),
            f"         {BPB_NOTE}",
        ]
    return lines + _below_bigrams(metrics) + _best(session)


def _below_bigrams(metrics: Mapping[str, Any]) -> list[str]:
    """A warning where pairs of tokens told more before the first step than the model does now."""
    bigrams, now = (float(metrics.get(name, math.nan)) for name in ("bigrams_bpb", "val_bpb"))
    if not now > bigrams:
        return []
    return [
        f"warning  pairs of tokens alone told {bigrams:.4f} bits per byte before the first step: give the "
        "run more steps, or a lower --lr"
    ]


def _best(session: Session) -> list[str]:
    """The best that was held out, where that was not at the end, and where its checkpoint is."""
    metrics = session.state.metrics
    best = float(metrics.get("best_loss", math.inf))
    if not best < float(metrics.get("val_loss", -math.inf)):
        return []
    path = best_checkpoint(session)
    place = path or "no checkpoint of it; --save-every as often as --eval-every, or --stop-after, keeps one"
    return [
        f"better   {best:.4f} nats/token, {float(metrics['best_bpb']):.4f} bits per byte "
        f"held out at step {metrics['best_step']:,}: {place}"
    ]


def best_checkpoint(session: Session) -> Path | None:
    """The checkpoint of the best evaluation, if there is one."""
    path = session.job.run / checkpoint_name(session.state.metrics.get("best_step", 0))
    return path if path.is_dir() else None


def _use(session: Session) -> str:
    """The command that a finished model is for."""
    plan = Plan.from_dict(session.job.document)
    return "chat" if knows_chats(session.job.model, session.prepared.tokenizer, plan) else "sample"


def next_command(session: Session, why: str) -> str:
    """What to type now."""
    if why == NO_GAIN:
        return command_line(_use(session), best_checkpoint(session) or session.job.run)
    if why == FINISHED:
        return command_line(_use(session), session.job.run)
    return command_line("train", "--resume", session.job.run)
