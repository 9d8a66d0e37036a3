"""A ladder file to begin with: every setting with its default and what it means."""

import dataclasses
import json
import textwrap
from collections.abc import Sequence
from typing import Any

from microgpt.common.errors import ConfigError
from microgpt.model import ModelConfig, count_parameters
from microgpt.model.presets import COUNTED_WITH

from .rungs import Gates, Ladder

RUNGS = ("1m", "3.5m", "8m", "30m", "125m")
TOKENS_PER_PARAM = 4.0
WIDTH = 100
HEAD = """\
A ladder of sizes, for `microgpt ladder run FILE`.  Each rung is trained with every seed, measured, and judged
by gates; the next one begins once all that are asked of it have passed.  What a rung is foretold to reach is
stored before it is trained.  Places are relative to this file."""
OF_LADDER = {
    "seeds": "of every rung; one seed is no evidence",
    "first_seed": "the others follow",
    "largest_step": "a rung has at most so many times the parameters of the one below",
}
RUN = """\
What all rungs share: settings of a run by their names, as in `microgpt train --write-spec`.  One text, and
tokens in proportion to the size, so that the rungs lie on a law."""
GATES = """\
What a rung must show before the next begins.  Asked of every size: two seeds, probes, windows by heart,
better than counting, an exact resume, tokens that are pieces of words, sound states, no unexplained leaps,
and better than the rung below.  A gate passes, fails, or says that evidence is missing; the ladder then ends
with what comes next: extend, change, or stop (`--force` goes on all the same, and is recorded)."""
RUNG = """\
Any preset, or settings by their names over it, or spec = "run.toml"; name = "..." where the preset does not
say it.  hypothesis: what the rung is to show; it must stand here before the rung is trained.  A law takes
three sizes below the one that it foretells, the largest four times the smallest.
explained = "..." why its loss leapt; learned = "..." what it taught; judged = ["a.csv"] files of `microgpt
judge`; ablations = ["runs/ablate-run"] folders of `microgpt ablate`."""
HYPOTHESES = (  # up to so many parameters
    (2e6, "Training works at all: it foretells held-out text better than counting pairs of tokens does."),
    (6e6, "Data, loop and architecture are sound: it learns by heart, resumes exactly, and more size helps."),
    (20e6, "It learns real patterns of the text, with every seed, and the recipe is the best one known."),
    (80e6, "The law of the smaller sizes foretells its loss, and it can do what the rung below could not."),
    (1e30, "It is of use to people, and the law foretells the next size."),
)


def template(rungs: Sequence[str] = RUNGS, data: Sequence[str] = ("smalltalk",)) -> str:
    """The text of the file.  Raises: ConfigError: a rung that is no preset, or named twice."""
    for name in rungs:
        if list(rungs).count(name) > 1:
            raise ConfigError(f"--rungs: {name} is named twice; leave one out")
    sizes = [count_parameters(ModelConfig.from_preset(name, COUNTED_WITH)) for name in rungs]
    parts = [_comment(HEAD), ""]
    for name, text in OF_LADDER.items():
        parts += [_line(name, _default(Ladder, name)) + f"  # {text}"]
    parts += [
        "",
        _comment(RUN),
        "[run]",
        _line("data", list(data)),
        _line("tokens_per_param", TOKENS_PER_PARAM),
    ]
    parts += ["", _comment(GATES), "[gates]"]
    for field in dataclasses.fields(Gates):
        unit = f" [{field.metadata['unit']}]" if field.metadata["unit"] else ""
        parts += [_comment(field.metadata["help"] + unit), _line(field.name, field.default)]
    parts += ["", _comment(RUNG)]
    for name, size in zip(rungs, sizes, strict=True):
        hypothesis = next(text for most, text in HYPOTHESES if size <= most)
        parts += ["[[rung]]", _line("preset", name), _line("hypothesis", hypothesis), ""]
    return "\n".join(parts).rstrip() + "\n"


def _default(kind: Any, name: str) -> Any:
    return next(field.default for field in dataclasses.fields(kind) if field.name == name)


def _line(name: str, value: Any) -> str:
    """A setting; text, numbers and lists of text are written in TOML as in JSON."""
    return f"{name} = {json.dumps(value)}"


def _comment(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), WIDTH, initial_indent="# ", subsequent_indent="# ")
