"""search.toml: how a search goes, the run that its candidates are changes of, and the space of changes."""

import dataclasses
import json
import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from microgpt.common.errors import ConfigError, MicrogptError
from microgpt.common.plain import record_from
from microgpt.common.setting import NOT_NEGATIVE, Range, from_to, refused, setting
from microgpt.common.words import did_you_mean, parse_bytes, parse_count
from microgpt.files import durable
from microgpt.runs.priors import Priors
from microgpt.runs.settings import SESSION_FIELDS, TrainConfig
from microgpt.runs.spec import Spec
from microgpt.runs.spec_file import read_toml, spec_in

from .ablation import refuse_change

SAMPLERS = ("nsga2", "tpe", "random")
OBJECTIVES = {  # by name: what it is, and whether more is better
    "bpb": ("held-out bits per byte after all tokens", False),
    "flop_per_token": ("FLOP of training on a token", False),
    "tok_per_s": ("tokens a second of training, as measured", True),
    "memory_bytes": ("bytes that training takes, as estimated", False),
    "state_bytes": ("bytes that decoding keeps of a full window", False),
}
MEDIAN, NEVER = "median", "never"
SEVERAL = from_to(1, 1_000_000)
TABLES = ("run", "space")
NAMED_ALONE = ("preset", "parent")  # of a spec, outside its sections
PRIOR = "priors."  # how the names of priors begin among those of the space


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """How a search goes.  Raises: ConfigError: values that cannot be, or not together."""

    sampler: str = setting(
        "nsga2",
        "what draws candidates: nsga2 crosses and changes the best so far, tpe learns where good ones lie, "
        "random learns nothing",
        choices=SAMPLERS,
    )
    candidates: int = setting(40, "how many are trained", "count", within=SEVERAL)
    startup: int = setting(
        8, "the first so many are drawn at random and never stopped", "count", within=SEVERAL
    )
    population: int = setting(
        8, "of nsga2: how many make a generation", "count", within=from_to(2, 1_000_000)
    )
    seed: int = setting(0, "of the draws; that of training is in [run]", "number", within=NOT_NEGATIVE)
    tokens: str = setting("200k", "that each candidate is trained on, the same for all", "tokens")
    rung: float = setting(
        0.2,
        "share of the tokens after which a candidate is first measured; one that is good enough then goes on "
        "from where it is",
        "0 to 1",
        within=Range(0, 1, is_open=True),
    )
    stop: str = setting(
        MEDIAN,
        "which candidates end at the rung: those with more bits per byte than the median of all before them; "
        "or than a number, which has no default; never: none",
        "median, never or bits per byte",
    )
    objectives: tuple[str, ...] = setting(
        ("bpb", "flop_per_token", "state_bytes"),
        f"what is to be small, or fast, at once: names of {', '.join(OBJECTIVES)}; what is measured by the "
        "clock is another number each time",
    )
    memory: str = setting("", "candidates that would take more are not trained, as in 8GB", "bytes")
    finalists: int = setting(
        3, "how many of the front, those of fewest bits per byte, are trained with more seeds", "count",
        within=NOT_NEGATIVE,
    )  # fmt: skip
    seeds: int = setting(3, "runs of each finalist", "count", within=SEVERAL)
    ablate: bool = setting(
        True, "each setting of a finalist is also set back to that of [run], one at a time, with those seeds"
    )

    def __post_init__(self) -> None:
        if bad := refused(self):
            raise ConfigError("{} is {}; expected {}".format(*bad))
        for name in self.objectives:
            if name not in OBJECTIVES:
                raise ConfigError(f"objectives: {name!r}; expected {', '.join(OBJECTIVES)}")
        if self.objectives[:1] != ("bpb",) or len(set(self.objectives)) < len(self.objectives):
            raise ConfigError("objectives: expected bpb first, and each once")
        if {"flop_per_token", "tok_per_s"} <= set(self.objectives):
            raise ConfigError(
                "objectives: flop_per_token and tok_per_s are two measures of one thing; take one"
            )
        _ = self.n_tokens, self.threshold, self.most_memory  # refuse what they cannot read

    @property
    def n_tokens(self) -> int:
        """`tokens` as a number."""
        return parse_count(self.tokens, "tokens")

    @property
    def threshold(self) -> float | None:
        """Bits per byte above which a candidate ends at the rung; None: by the median, or never."""
        if self.stop in (MEDIAN, NEVER):
            return None
        try:
            value = float(self.stop)
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise ConfigError(f"stop is {self.stop!r}; expected median, never, or bits per byte, as in 2.5")
        return value

    @property
    def most_memory(self) -> float:
        """`memory` in bytes."""
        return parse_bytes(self.memory, "memory") if self.memory else math.inf


class Span(NamedTuple):
    """Numbers from low to high; of whole ones those that are a multiple of step above low."""

    low: float
    high: float
    log: bool = False
    step: float | None = None


Space = dict[str, tuple[Any, ...] | Span]


class Search(NamedTuple):
    """A search as its file has it.  base: the run.  space: by setting what is tried for it."""

    config: SearchConfig
    base: Spec
    space: Space

    def to_dict(self) -> dict[str, Any]:
        """Plain values, which tell one search from another."""
        space = {
            name: list(one) if not isinstance(one, Span) else one._asdict()
            for name, one in self.space.items()
        }
        config = dataclasses.asdict(self.config) | {"objectives": list(self.config.objectives)}
        return {"search": config, "run": self.base.to_dict(), "space": space}


def search_of_record(values: Mapping[str, Any]) -> Search:
    """The search that `to_dict` described."""
    config = record_from(SearchConfig, dict(values["search"]), "search.json")
    space = {
        name: Span(**one) if isinstance(one, dict) else tuple(one) for name, one in values["space"].items()
    }
    return Search(config, Spec.from_dict(values["run"]), space)


# ------------------------------------------------------------------------------------------ reading


def read_search(path: Path) -> Search:
    """The search in a file: settings of the search, and the tables run and space.

    Raises: ConfigError: it cannot be read, or holds what cannot be.
    """
    document = read_toml(path)
    try:
        return search_from(document, path.parent)
    except MicrogptError as error:
        raise ConfigError(f"{path}: {error}") from error


def search_from(document: dict[str, Any], folder: Path = Path()) -> Search:
    """The search that a document describes.  folder: from which places of text are seen."""
    tables = {name: document.pop(name, {}) for name in TABLES}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigError(f"{name} is {table!r:.80}, expected a table [{name}]")
    for name in ("stop", "tokens", "memory"):  # may be written as numbers
        if type(document.get(name)) in (int, float):
            document[name] = str(document[name])
    config = record_from(SearchConfig, document, "search")
    base = spec_in(tables["run"], folder)
    for name in ("max_time", "stop_after", *base.lengths):
        if base.train.get(name):
            raise ConfigError(f"[run] {name}: how long candidates train is said once, by tokens above")
    space = space_from(tables["space"])
    if not space:
        raise ConfigError("[space] names no setting; nothing would be searched")
    return Search(config, base, space)


def space_from(table: Mapping[str, Any]) -> Space:
    """What is tried, by setting; in a table priors below it by prior."""
    named = {name: one for name, one in table.items() if name != "priors"}
    priors = table.get("priors", {})
    if not isinstance(priors, dict):
        raise ConfigError(f"[space] priors is {priors!r:.80}, expected a table [space.priors]")
    known = [field.name for field in dataclasses.fields(Priors)]
    if unknown := sorted(set(priors) - set(known)):
        raise ConfigError(f"[space.priors] {unknown[0]} is no prior{did_you_mean(unknown[0], known)}")
    return {
        name: _tried(name, one)
        for name, one in sorted({**named, **{PRIOR + name: one for name, one in priors.items()}}.items())
    }


def _tried(name: str, value: Any) -> tuple[Any, ...] | Span:
    """A list of values, or a span of numbers."""
    try:
        if name not in NAMED_ALONE and not name.startswith(PRIOR):
            refuse_change(name)
            refuse_no_property(name)
        if isinstance(value, list):
            return _values(value)
        if isinstance(value, dict):
            return _span(value)
    except ConfigError as error:
        raise ConfigError(f"[space] {name}: {error}") from error
    raise ConfigError(
        f"[space] {name} is {value!r:.80}; expected a list of values, or {{low = .., high = ..}}"
    )


def refuse_no_property(name: str) -> None:
    """Refuse a setting that says how runs are carried out, which all candidates share."""
    if name in SESSION_FIELDS:
        trained = [field.name for field in dataclasses.fields(TrainConfig) if field.metadata.get("help")]
        others = ", ".join(one for one in trained if one not in {*SESSION_FIELDS, "seed", "eval_tokens"})
        raise ConfigError(
            "it says how a run is carried out: give it to [run], all candidates share it; expected "
            f"preset, parent, a prior, a setting of the model, or of training one of {others}"
        )


def _values(value: list[Any]) -> tuple[Any, ...]:
    if not value or any(type(one) not in (bool, int, float, str) for one in value):
        raise ConfigError(f"{value!r:.80}; expected numbers, words, true or false")
    if len(set(map(repr, value))) < len(value):
        raise ConfigError(f"{value!r:.80}; one value stands there twice")
    return tuple(value)


def _span(value: dict[str, Any]) -> Span:
    expected = "expected {low = .., high = ..}, and log = true or step = .. if wanted"
    if unknown := set(value) - set(Span._fields):
        raise ConfigError(f"{sorted(unknown)[0]} is not known; {expected}")
    numbers = [value.get(name) for name in ("low", "high")]
    if any(type(one) not in (int, float) for one in numbers) or type(value.get("log", False)) is not bool:
        raise ConfigError(f"{value!r:.80}; {expected}")
    span = Span(**value)
    is_step = span.step is None or (type(span.step) in (int, float) and span.step > 0)
    if not (-math.inf < span.low < span.high < math.inf and is_step) or (span.log and span.low <= 0):
        raise ConfigError(f"{value!r:.80}; expected low below high, above 0 with log, and a step above 0")
    if span.log and span.step is not None:
        raise ConfigError("log and step do not go together; leave one out")
    return span


# ------------------------------------------------------------------------------------------ writing

HEAD = """\
# A search: candidates are changes of [run], all trained on as many tokens.  microgpt search run FILE starts
# it, and goes on with it after Ctrl-C or a kill, to the same result.
"""
RUN = """\

# The run that candidates are changes of, with the settings of microgpt train --spec; what is left out follows
# the preset.  With parent = "runs/NAME" all candidates begin with the weights of that run, and are compared
# with each other alone.
[run]
preset = "tiny"
data = "smalltalk"
batch_size = 8
eval_tokens = 32768

# What is tried, by setting: a list of values, or a span {low = .., high = .., log = true}.  Of the model and
# of training; the text, its tokens and their number are the same for all.
[space]
n_layer = [1, 2, 3, 4]
n_embd = [64, 96, 128]
mlp = ["gelu", "swiglu"]
n_kv_head = [0, 1]
lr = {low = 1e-3, high = 2e-2, log = true}

# Rules for what the settings above leave open, as [priors] of a run has them.
# [space.priors]
# head_dim = [32, 64]
# ffn = ["3x", "4x"]
# kv_groups = [1, 2]
# window_scale = {low = 3.0, high = 8.0}
"""


def search_text() -> str:
    """A search.toml with all settings of a search, each with what it means."""
    lines = [HEAD]
    for field in dataclasses.fields(SearchConfig):
        unit = field.metadata["unit"]
        choices = " or ".join(field.metadata["choices"])
        notes = f" [{unit or choices}]" if unit or choices else ""
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        lines += [*_comment(field.metadata["help"] + notes), f"{field.name} = {json.dumps(default)}\n"]
    return "\n".join(lines) + RUN


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, 108)]


def write_search(path: Path) -> None:
    """Write it.  Raises: ConfigError: there is a file already, or it cannot be written."""
    try:
        durable.write_file(path, [search_text().encode()])
    except FileExistsError:
        raise ConfigError(f"{path} is there already; choose another name") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
