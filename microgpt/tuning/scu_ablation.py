"""What control of information gives: the same adapters with the strength fixed, and under control."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from microgpt.common.errors import ConfigError
from microgpt.corpus.prepared.config import prepared_again
from microgpt.evaluation.held_out import score
from microgpt.evaluation.measure import context_policy
from microgpt.evaluation.pairs import Side
from microgpt.model import GPT
from microgpt.runs import lineage
from microgpt.runs.checkpoint import known_corpus, load_model, read_config
from microgpt.runs.lineage import begin_with
from microgpt.runs.spec import Plan, Spec
from microgpt.training import assemble
from microgpt.training.length import with_steps

from .control import FIXED, Control
from .scu import NAME, metadata

LAMBDAS = (0.0, 0.5, 1.0, 2.0)
CONTROLLED = "controlled"
ALL = 1 << 40  # held-out tokens


def arms_of(spec: Spec, lambdas: Sequence[float]) -> list[tuple[str, Plan]]:
    """Each fixed strength, then control, on as many tokens; the corpus is prepared for it.

    Raises: ConfigError: the fine-tuning has no controller, or no fixed length.
    """
    if spec.train.get("penalty") != NAME:
        raise ConfigError("--scu: nothing is controlled; give --target-s, such as 0.01, or --scu auto")
    for name in ("max_time", "stop_after"):
        if spec.train.get(name):
            raise ConfigError(
                f"--{name.replace('_', '-')}: tokens would not be equal; give --max-steps alone"
            )
    assert spec.parent is not None, "a fine-tuning has one"
    begin = begin_with(spec.parent)
    of_parent = begin[:2]
    prepared = assemble.open_corpus(spec.plan(parent=of_parent), begin.tokenizer)
    plan = with_steps(spec.plan(prepared.tokenizer.vocab_size, of_parent), lambda: prepared)
    told = plan.train.penalty_settings
    fixed = [(f"lambda {value:g}", told | {"scu_law": FIXED, "lambda_init": value}) for value in lambdas]
    for _, one in fixed:
        Control(**one)  # refuses what cannot be before anything is trained
    arms = [*fixed, (CONTROLLED, told)]
    return [(name, plan.with_train(penalty_settings=one)) for name, one in arms]


# -------------------------------------------------------------------------------- measuring


def side_after(checkpoint: Path) -> Side:
    """What a fine-tuned model loses in each held-out document, on what it learns: the answers."""
    return _side(checkpoint, load_model(checkpoint)[0])


def side_before(checkpoint: Path) -> Side:
    """The same of the weights that it began with."""
    plan = Plan.from_dict(read_config(checkpoint))
    model = GPT(plan.model)
    lineage.fill(model, plan, plan.train.seed)  # its adapters add nothing yet
    return _side(checkpoint, model)


def _side(checkpoint: Path, model: GPT) -> Side:
    plan, known = Plan.from_dict(read_config(checkpoint)), known_corpus(checkpoint)
    prepared = prepared_again(plan.data.located(known), known, plan.train.n_threads)
    windows = assemble.held_out_windows(plan.with_train(eval_tokens=ALL), prepared)
    documents = score(model, windows).documents
    assert documents is not None
    policy = context_policy(plan.train.packing, plan.model.seq_len, None, windows.n_stretches)
    return Side(str(checkpoint), documents, prepared.tokenizer.sha256, known.key, policy)


# -------------------------------------------------------------------------------- what control did


def control_of(runs: Sequence[tuple[str, int, Path]]) -> list[dict[str, Any]]:
    """Of each run by arm and seed: S at its end and of its target, lambda, and whether it settled."""
    return [{"name": name, "seed": seed} | (metadata(run) or {}) for name, seed, run in runs]


def control_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Markdown.  A target above S without a penalty cannot be held, which is said."""
    lines = [
        "|  | seed | S | of target | lambda | lambda, range | settled |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        if row.get("final_s") is None:
            lines.append(f"| {row['name']} | {row['seed']} | not known | | | | |")
            continue
        low, high = row["lambda_range"]
        settled = ("yes" if row["settled"] else "no") if row["name"] == CONTROLLED else ""
        lines.append(
            f"| {row['name']} | {row['seed']} | {row['final_s']:.4%} | {row['final_s_ratio']:.0%} | "
            f"{row['final_lambda']:.4g} | {low:.4g} to {high:.4g} | {settled} |"
        )
    known = [row for row in rows if row.get("final_s") is not None]
    free = [row["final_s"] for row in known if row["lambda_range"] == [0.0, 0.0]]
    if free and max(free) < rows[0]["target_s"]:
        lines += [
            "",
            f"- without a penalty S comes to {max(free):.4%}: the target of {rows[0]['target_s']:.4%} is "
            "above that, and no lambda can hold it",
        ]
    return lines
