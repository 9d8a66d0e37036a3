"""What a longer window does to a model that was trained on a shorter one, before more training and after."""

from pathlib import Path

from microgpt.corpus.prepared.config import prepared_again
from microgpt.evaluation.positions import Stretch, loss_by_position
from microgpt.model import GPT
from microgpt.runs import lineage
from microgpt.runs.checkpoint import known_corpus, load_model, read_config
from microgpt.runs.spec import Plan
from microgpt.training.assemble import held_out_windows


def before_and_after(checkpoint: Path) -> list[tuple[Stretch, Stretch]]:
    """Held-out loss by position of the weights that a run began with, in its window, and of what it made."""
    plan = Plan.from_dict(read_config(checkpoint))
    known = known_corpus(checkpoint)
    prepared = prepared_again(plan.data.located(known), known, plan.train.n_threads)
    windows = held_out_windows(plan, prepared)
    first = GPT(plan.model)
    lineage.fill(first, plan, plan.train.seed)
    models = first, load_model(checkpoint)[0]
    found = (loss_by_position(model, windows, plan.train.batch_size) for model in models)
    return list(zip(*found, strict=True))


def table(rows: list[tuple[Stretch, Stretch]]) -> list[str]:
    """Lines for people."""
    lines = ["loss by position, held out, nats/token: before and after"]
    for before, after in rows:
        if before.n_tokens:
            lines.append(f"  {before.first:6,} to {before.last:6,}  {before.loss:.4f}  {after.loss:.4f}")
    return lines


def is_longer(checkpoint: Path) -> bool:
    """Whether a run gave the model of its parent a longer window."""
    plan = Plan.from_dict(read_config(checkpoint))
    if plan.parent is None:
        return False
    return Plan.from_dict(read_config(Path(plan.parent.place))).model.seq_len < plan.model.seq_len


def effect(checkpoint: Path) -> list[str]:
    """The table of a run with a longer window; nothing of others."""
    return table(before_and_after(checkpoint)) if is_longer(checkpoint) else []
