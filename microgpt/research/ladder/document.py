"""All that is known of a ladder as plain values, for people, pages and programs."""

from typing import Any

from microgpt.runs.layout import METRICS, checkpoints
from microgpt.runs.metrics import read_metrics

from .checklist import checklist
from .engine import Standing, standings
from .evidence import mean, points
from .foretelling import law_of, showed_of
from .gates import not_passed
from .rungs import Ladder
from .state import State, changed_gates, jsonable


def document(ladder: Ladder, state: State) -> dict[str, Any]:
    """From its files alone: rungs with runs, gates and what was foretold, the law, the checklist."""
    found = standings(ladder, state)
    runs = [showed_of(run) for one in found for run in one.case.whole]
    fitted = state.fitted and {"budget_s": state.fitted.budget_s, "share": state.fitted.share}
    questions = checklist(ladder, found[-1]) if found else []
    return jsonable(
        {
            "ladder": ladder.name,
            "folder": str(state.folder),
            "seeds": list(ladder.all_seeds),
            "fitted": fitted,
            "rungs": [_rung(ladder, one) for one in found],
            "in_training": _in_training(ladder, state, len(found)),
            "to_come": [
                {"name": rung.name, "hypothesis": rung.hypothesis}
                for rung in ladder.rungs[len(state.begun) :]
            ],
            "law": law_of(runs),
            "checklist": [
                {"title": one.title, "answer": one.answer, "parts": [part._asdict() for part in one.parts]}
                for one in questions
            ],
            "next": _next(ladder, state, found),
        }
    )


def _rung(ladder: Ladder, one: Standing) -> dict[str, Any]:
    case = one.case
    seeds = zip(ladder.all_seeds, case.runs, strict=True)
    return {
        "name": case.rung.name,
        "n_params": case.n_params,
        "hypothesis": case.rung.hypothesis,
        "learned": case.rung.learned,
        "began": one.begun.began,
        "foretold": case.foretold,
        "bpb": mean(points(case.whole)) if case.whole else None,
        "runs": [_run(case.rung.name, seed, run) for seed, run in seeds],
        "canaries": [
            {name: found.get("share") for name, found in of["canaries"].items()} for of in case.asked
        ],
        "gates": [result._asdict() for result in one.results],
        "forced": [] if one.is_passed else list(one.begun.forced),
        "changed_gates": changed_gates(one.begun, ladder.gates),
        "next": one.next_step,
    }


def _run(name: str, seed: int, run: dict[str, Any] | None) -> dict[str, Any]:
    about = {"run": f"{name}-seed{seed}", "seed": seed}
    if run is None:
        return about | {"diverged": True}
    keys = ("tokens", "passes", "tok_per_s")
    return (
        about
        | {"bpb": run["showed"]["loss"], "loss": run["loss"], "holds_back": run["holds_back"]["word"]}
        | {key: run["showed"][key] for key in keys}
        | {key: run["log"][key] for key in ("seconds", "memory_bytes", "peak_bytes")}
    )


def _in_training(ladder: Ladder, state: State, n_measured: int) -> dict[str, Any] | None:
    """The rung that was begun and is not measured yet; None: there is none."""
    if n_measured == len(state.begun):
        return None
    begun = state.begun[n_measured]
    steps = {}
    for seed in ladder.all_seeds:
        run = state.run(begun.name, seed)
        log = run / METRICS
        events = read_metrics(log) if log.is_file() else []
        steps[f"seed {seed}"] = (
            max((e["step"] for e in events), default=0) if checkpoints(run) or events else 0
        )
    return {
        "name": begun.name,
        "hypothesis": begun.hypothesis,
        "foretold": begun.foretold,
        "steps": steps,
        "max_steps": begun.spec["train"].get("max_steps"),
    }


def _next(ladder: Ladder, state: State, found: list[Standing]) -> dict[str, Any]:
    """What comes next: a step in a word, and what it takes."""
    if len(found) < len(state.begun):
        return {"step": "go on", "what": [f"rung {state.begun[len(found)].name} is not done: run again"]}
    if found and not found[-1].is_left:
        open_ = not_passed(found[-1].results)
        return {
            "step": found[-1].next_step,
            "what": [f"{one.step}: {one.title}: {one.text}; {one.advice}" for one in open_],
        }
    if len(found) < len(ladder.rungs):
        return {"step": "go on", "what": [f"rung {ladder.rungs[len(found)].name} may begin: run"]}
    return {"step": "done", "what": ["every rung is trained; a larger one may be added to the file"]}
