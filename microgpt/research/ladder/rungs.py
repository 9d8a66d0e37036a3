"""A ladder as its file describes it: what all rungs share, the rungs from small to large, and the gates."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from microgpt.common.errors import ConfigError, MicrogptError
from microgpt.common.plain import is_of_kind, record_from
from microgpt.common.setting import POSITIVE, SHARE, Range, from_to, setting
from microgpt.common.words import did_you_mean, format_amount, parse_amount
from microgpt.runs.spec import SECTIONS, Spec
from microgpt.runs.spec_file import read_spec, read_toml, spec_in

from .people import read_judged, read_rows

NEARLY = 0.9  # of a size: presets are named by what they count to with some vocabulary or other
LARGEST_STEP = 5.0  # times the parameters of the rung below
OF_LADDER = ("seeds", "first_seed", "largest_step", "run", "gates", "rung")
TEXTS, LISTS = ("name", "spec", "hypothesis", "explained", "learned"), ("judged", "ablations")
# What would give the runs of a ladder unequal tokens, or is not theirs to say.
REFUSED = {
    "max_time": "a time gives each run other tokens; say tokens_per_param, and --budget for all of them",
    "stop_after": "runs that end early have not come to the end of their schedule; leave it out",
    "parent": "the weights of another run have one size; leave it out",
    "seed": "every rung is trained with several seeds; say first_seed beside seeds",
}


@dataclasses.dataclass(frozen=True)
class Gates:
    """What a rung must show before the next is begun.  `..._from`: parameters from which a gate is asked."""

    windows_by_heart: int = setting(
        16,
        "so many windows of 64 tokens a model of each size learns by heart",
        "windows",
        within=from_to(10, 100),
    )
    gain: float = setting(
        0.05, "less bits per byte than the rung below, with each seed; or", "share", within=SHARE
    )
    gain_nats: float = setting(0.5, "so many nats a token less", "nats", within=POSITIVE)
    recipe_from: str = setting("8M", "the recipe is the best known, as `microgpt ablate` found", "parameters")
    changes: int = setting(3, "so many changes of it were tried", "changes", within=POSITIVE)
    law_from: str = setting("30M", "a law of loss holds and foretold this size", "parameters")
    r_squared: float = setting(0.95, "of the law of all rungs up to this one, at least", "", within=SHARE)
    miss: float = setting(
        0.05, "by which a rung may miss what was foretold before it was trained", "share", within=SHARE
    )
    far_miss: float = setting(
        0.10, "by which it fails; between the two is not enough evidence", "share", within=SHARE
    )
    canaries_from: str = setting("30M", "abilities emerge (`microgpt canaries`)", "parameters")
    canaries: int = setting(
        3, "so many are up from the rung below, with each seed", "canaries", within=POSITIVE
    )
    canary_points: float = setting(0.10, "so far up, and intervals apart", "share", within=SHARE)
    pooled: float = setting(
        0.80, "of all items of C1 to C5 right, by the lower end of the interval", within=SHARE
    )
    people_from: str = setting(
        "30M", "people who do not know which is which prefer it to the rung below", "parameters"
    )
    final_from: str = setting("125M", "the model is of use: the three below", "parameters")
    bits_per_byte: float = setting(
        1.3, "held out, at most: a perplexity of 50 where a token has 4.3 bytes", "bits", within=POSITIVE
    )
    score: float = setting(4.0, "mean mark of people's, of 5, at least", "", within=Range(1, 5))
    kappa: float = setting(
        0.7, "how far raters agree, on 100 items and with 3 of them at least", "", within=SHARE
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.name.endswith("_from"):
                try:
                    parse_amount(getattr(self, field.name))
                except ConfigError as error:
                    raise ConfigError(f"{field.name} {error}") from None
        if self.far_miss < self.miss:
            raise ConfigError(f"far_miss {self.far_miss:g} is below miss {self.miss:g}; give a larger one")

    def is_due(self, name: str, n_params: float) -> bool:
        """Whether a gate is asked of a model of this size."""
        return n_params >= NEARLY * parse_amount(getattr(self, name))


@dataclasses.dataclass(frozen=True)
class Rung:
    """One size.  spec: of its runs, but for the seed.

    hypothesis: what it is to show, stated before it is trained.  explained: why its loss leapt, if it did.
    learned: what it taught.  judged, ablations: files of people's judgements, and of what `ablate` found.
    """

    name: str
    spec: Spec
    hypothesis: str = ""
    explained: str = ""
    learned: str = ""
    judged: tuple[str, ...] = ()
    ablations: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Ladder:
    """All of it.  largest_step: a rung has at most so many times the parameters of the one below."""

    name: str
    rungs: tuple[Rung, ...]
    gates: Gates = dataclasses.field(default_factory=Gates)
    seeds: int = 2
    first_seed: int = 0
    largest_step: float = LARGEST_STEP

    @property
    def all_seeds(self) -> range:
        """Of every rung."""
        return range(self.first_seed, self.first_seed + self.seeds)


def read_ladder(path: Path) -> Ladder:
    """The ladder in a file of TOML.

    Files that rungs name, of judgements and of `ablate`, are looked at now, and not after hours of training.
    Raises: ConfigError: it cannot be read, or holds what is no setting of a ladder, rung, gate or run; or a
            file that it names is not there, or is not what it should be.
    """
    document = read_toml(path)
    try:
        return _ladder(document, path)
    except MicrogptError as error:
        raise ConfigError(f"{path}: {error}") from error


def _ladder(document: dict[str, Any], path: Path) -> Ladder:
    if unknown := sorted(set(document) - set(OF_LADDER)):
        raise ConfigError(
            f"unknown setting {unknown[0]}{did_you_mean(unknown[0], OF_LADDER)}; what all runs share "
            "stands in [run]"
        )
    tables = document.get("rung")
    if not isinstance(tables, list) or not tables:
        raise ConfigError("no rung; expected [[rung]] with a preset, for each size from small to large")
    shared = _spec(_table(document, "run"), "[run]", path)
    rungs = tuple(_rung(table, shared, path) for table in tables)
    names = [rung.name for rung in rungs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"two rungs are called {twice}; give one another name")
    plain: dict[str, Any] = {
        name: document[name] for name in ("seeds", "first_seed", "largest_step") if name in document
    }
    _check(plain)
    gates = record_from(Gates, _table(document, "gates"), "[gates]")
    return Ladder(path.stem, rungs, gates, **plain)


def _table(document: dict[str, Any], name: str) -> dict[str, Any]:
    found = document.get(name, {})
    if not isinstance(found, dict):
        raise ConfigError(f"{name} is {found!r:.80}, expected a table [{name}]")
    return found


def _check(plain: dict[str, Any]) -> None:
    """Numbers of the ladder itself."""
    for name, kind, within in (
        ("seeds", int, from_to(1, 1000)),
        ("first_seed", int, Range(0)),
        ("largest_step", float, Range(1, is_open=True)),
    ):
        value = plain.get(name)
        if value is not None and not (is_of_kind(value, kind) and value in within):
            raise ConfigError(f"{name} is {value!r:.80}, expected {within}")


def _rung(table: Any, shared: Spec, path: Path) -> Rung:
    """A rung, its own settings over those of its file over those that all share."""
    if not isinstance(table, dict):
        raise ConfigError(f"rung is {table!r:.80}, expected a table [[rung]]")
    table = dict(table)
    texts = {name: table.pop(name) for name in TEXTS if name in table}
    lists = {name: table.pop(name) for name in LISTS if name in table}
    if wrong := next((name for name, value in texts.items() if not isinstance(value, str)), None):
        raise ConfigError(f"{wrong} of a rung is {texts[wrong]!r:.80}, expected text")
    for name, value in lists.items():
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise ConfigError(f"{name} of a rung is {value!r:.80}, expected a list of files")
    file = texts.pop("spec", None)
    name = texts.pop("name", None) or table.get("preset") or (file and Path(file).stem)
    if not isinstance(name, str) or not name:
        raise ConfigError("a rung without a name; give it name, preset or spec")
    if not set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-"):
        raise ConfigError(
            f"name {name!r:.80}: it becomes that of a folder; expected letters, digits, . _ + -"
        )
    where = f"rung {name}"
    base = shared if file is None else merged(shared, read_spec(path.parent / file))
    spec = merged(base, _spec(table, where, path))
    check_spec(spec, where)
    places: dict[str, Any] = {
        key: tuple(str(path.parent / one) for one in files) for key, files in lists.items()
    }
    rung = Rung(name, spec, **{key: text.strip() for key, text in texts.items()}, **places)
    check_files(rung)
    return rung


def check_files(rung: Rung) -> None:
    """Refuse files that a rung names and that cannot be read as what they should be."""
    try:
        read_judged(rung.judged, rung.name)
        for file in rung.ablations:
            read_rows(file)
    except MicrogptError as error:
        raise ConfigError(f"rung {rung.name}: {error}") from error


def _spec(table: dict[str, Any], where: str, path: Path) -> Spec:
    try:
        return spec_in(table, path.parent)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def merged(base: Spec, own: Spec) -> Spec:
    """Settings of a rung over those that all rungs share; of the length the rung's alone, if it says one."""
    sections = {name: dict(getattr(base, name)) for name in SECTIONS}
    if own.lengths:
        for name in base.lengths:
            sections["train"].pop(name)
    together = {name: values | getattr(own, name) for name, values in sections.items()}
    names = {name: getattr(own, name) or getattr(base, name) for name in ("preset", "parent")}
    return dataclasses.replace(own, **names, **together, priors=base.priors | own.priors)


def check_spec(spec: Spec, where: str) -> None:
    """Refuse what no rung of a ladder may be told."""
    asked = spec.train | ({"parent": spec.parent} if spec.parent else {})
    for name, why in REFUSED.items():
        if asked.get(name):
            raise ConfigError(f"{where}: {name} {asked[name]}: {why}")
    if spec.train.get("eval_every", 1) == 0:
        raise ConfigError(
            f"{where}: eval_every 0: a rung is known by its held-out loss; give a number above 0"
        )


def check_sizes(names: Sequence[str], n_params: Sequence[int], largest_step: float) -> None:
    """Refuse rungs that do not rise, or leave out sizes between them."""
    for (name, size), (other, larger) in zip(
        zip(names, n_params, strict=True), zip(names[1:], n_params[1:], strict=True), strict=False
    ):
        told = f"rung {other} has {format_amount(larger)} parameters, {name} below it {format_amount(size)}"
        if larger <= size:
            raise ConfigError(f"{told}; expected rungs from small to large")
        if larger > largest_step * size:
            raise ConfigError(
                f"{told}: a step of {larger / size:.1f}, at most {largest_step:g} were asked for "
                "(largest_step); put a rung between"
            )
