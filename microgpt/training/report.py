"""What a person reads before and after a run: facts counted or measured, and estimates that say so."""

import contextlib
import resource
import sys
import time
from pathlib import Path

from microgpt.core import native, ops
from microgpt.corpus.packing import DOCUMENTS
from microgpt.model import ModelConfig
from microgpt.model.gpt import HEAD_ROWS

from .checkpoint import WEIGHTS
from .config import TrainConfig, format_duration
from .loop import FINISHED, STOPPED, tokens_per_step
from .rundir import checkpoint_name
from .session import Session
from .storage import sha256_of

# Floats for each token, in units of C.  A layer keeps for its backward: the inputs of both branches, q k v,
# attention's output, and the MLP's wide layer.  What lives no longer than a layer or the head comes on top.
KEPT_BY_LAYER, PASSING = 2 + 3 + 1 + 4, 13
PROCESS_BYTES = 80e6  # interpreter, libraries, the pages in use of the packed corpus


def memory_estimate(model: ModelConfig, train: TrainConfig) -> float:
    """Bytes that training takes at its peak.

    Weights, gradients and two moments; and either activations or, while saving, copies of all but the
    gradients.
    """
    arena = 4 * model.n_params
    return PROCESS_BYTES + 4 * arena + max(activation_bytes(model, train), 3 * arena)


def activation_bytes(model: ModelConfig, train: TrainConfig) -> float:
    """Bytes of all arrays that one micro-batch needs beside weights and gradients."""
    n_tokens, C = train.batch_size * model.seq_len, model.n_embd
    layer = KEPT_BY_LAYER * C + model.n_head + 2  # log-sum-exp of attention, two factors of norms
    kept = layer + model.n_layer * C if train.recompute else layer * model.n_layer
    head_rows = min(n_tokens, HEAD_ROWS)
    products = (n_tokens, 4 * C, C), (n_tokens, C, 4 * C), (head_rows, model.vocab_size, C)
    scratch = max(ops.linear_scratch(*product) for product in products)
    return 4 * (n_tokens * (kept + PASSING * C) + head_rows * (model.vocab_size + C) + scratch)


def peak_memory() -> float:
    """Most bytes that this process has held so far."""
    with contextlib.suppress(OSError, IndexError):  # Linux; getrusage there counts the parent's memory too
        status = Path("/proc/self/status").read_text()
        return 1024 * float(status.split("VmHWM:")[1].split()[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else 1024 * peak)


def header(session: Session) -> list[str]:
    """Lines that say what is about to be trained, on what, and with what."""
    job, state = session.job, session.state
    config, model = job.config, job.model.config
    train, val = session.prepared.train, session.prepared.val
    machine = native.info()
    epochs = (config.max_steps - state.step) * config.batch_size * config.grad_accum / job.batches.n_windows
    return [
        f"model    {job.model.params.flat.size:,} parameters: {model.n_layer} layers, "
        f"{model.n_embd} channels, {model.n_head} heads, window {model.seq_len}, "
        f"vocabulary {model.vocab_size}",
        f"corpus   {train.n_documents:,} documents, {train.n_bytes:,} bytes, {train.n_tokens:,} tokens; "
        f"held out {val.n_documents:,} documents, {val.n_tokens:,} tokens",
        *_packing(session),
        f"plan     {_steps(session)} of {tokens_per_step(job):,} tokens ({config.batch_size} windows"
        + (f" x {config.grad_accum}" if config.grad_accum > 1 else "")
        + f"), {epochs:,.{2 if epochs < 10 else 0}f} epochs",
        f"machine  {machine['threads']} threads, {machine['isa']}, BLAS core {machine['blas_core']}, "
        f"{config.precision}; about {memory_estimate(model, config) / 1e9:.2f} GB of memory",
        f"run      {job.run}",
    ]


def _packing(session: Session) -> list[str]:
    """How full the windows are, where they are not by themselves."""
    batches = session.job.batches
    if batches.packing != DOCUMENTS:
        return []
    return [
        f"windows  {batches.n_windows:,} of whole documents, {100 * batches.fill:.1f} % full; "
        "token counts include the filling"
    ]


def _steps(session: Session) -> str:
    step, total = session.state.step, session.job.config.max_steps
    return f"{total - step:,} more steps, from {step:,} to {total:,}," if step else f"{total:,} steps"


def summary(session: Session, why: str, started: float, first_step: int) -> list[str]:
    """Lines that say what came out: how it ended, results, where the checkpoint is, what to do next."""
    job, state = session.job, session.state
    seconds = time.monotonic() - started
    n_tokens = (state.step - first_step) * tokens_per_step(job)
    checkpoint = job.run / checkpoint_name(state.step)
    return [
        f"{_ending(session, why)}: {state.step - first_step:,} steps, {n_tokens:,} tokens in "
        f"{format_duration(seconds)}, evaluations and saves included ({n_tokens / seconds:,.0f} tok/s)",
        *_results(session),
        f"memory   at most {peak_memory() / 1e9:.2f} GB "
        f"(estimated {memory_estimate(job.model.config, job.config) / 1e9:.2f})",
        f"saved    {checkpoint}  (weights sha256 {sha256_of(checkpoint / WEIGHTS)[:16]})",
        f"next     {next_command(session, why)}",
    ]


def _ending(session: Session, why: str) -> str:
    step, total = session.state.step, session.job.config.max_steps
    if why == FINISHED:
        return "finished"
    return f"{'stopped' if why == STOPPED else 'time is up'} at step {step:,} of {total:,}"


def _results(session: Session) -> list[str]:
    metrics = session.state.metrics
    lines = []
    if "loss" in metrics:
        lines.append(f"loss     {metrics['loss']:.4f} nats/token at the last step")
    if "val_bpb" in metrics:
        lines.append(
            f"held out {float(metrics['val_loss']):.4f} nats/token, "
            f"{float(metrics['val_bpb']):.4f} bits per byte "
            f"(step {metrics['val_step']:,})"
        )
    return lines


def next_command(session: Session, why: str) -> str:
    """What to type now."""
    if why == FINISHED:
        return f"python -m microgpt.chat {session.job.run}"
    return f"python -m microgpt.train --resume {session.job.run}"
