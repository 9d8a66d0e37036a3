"""A spec as a file: TOML for people, with what each setting means; a run's config.json is read, too."""

import dataclasses
import importlib
import os
import textwrap
from pathlib import Path
from typing import Any

from microgpt.common.errors import ConfigError, MicrogptError
from microgpt.common.flags import shown_value
from microgpt.corpus.prepared.corpus import SMALLTALK
from microgpt.corpus.prepared.folder import is_prepared
from microgpt.corpus.prepared.split import HeldOutWanted
from microgpt.corpus.reading.options import ReadOptions
from microgpt.files import durable
from microgpt.files.records import LARGEST_JSON, parse_json

from .kinds import PENALTIES
from .priors import SETTINGS as PRIOR_SETTINGS
from .spec import INNER, PLACES, SECTIONS, Plan, Spec, of_corpus

WIDTH = 110  # of a line of comment
EXTRA = "pip install 'microgpt-cpu[spec]'"
HEAD = (
    "Settings of a run, for microgpt train --spec FILE.  What is left out follows preset, recipe and size; a "
    "flag that is typed comes before what stands here.  Places of text are relative to this file, a parent "
    "is named as for --from, seen from where the command runs."
)
DATA_HELP = {
    "data": f"files or folders of text; {SMALLTALK}: the embedded corpus",
    "held_out": "files or folders that are held out whole; none: a share of the data",
}
# Settings of the corpus that say elsewhere what they mean.
_OF_OTHERS = {
    field.name: field for kind in (ReadOptions, HeldOutWanted) for field in dataclasses.fields(kind)
}


# -------------------------------------------------------------------------------- reading


def read_spec(path: Path) -> Spec:
    """The spec in a file: `preset`, and settings in the tables model, train and data or by their names alone;
    in the table priors rules for what the model's settings leave open.

    Of a checkpoint's config.json everything but the time limit, which was one session's.

    Raises: ConfigError: it cannot be read, or holds what is no setting.
    """
    document = _document(path)
    try:
        if "format" in document:
            return _of_run(document)
        return _of_names(_placed(document, path.parent))
    except MicrogptError as error:
        raise ConfigError(f"{path}: {error}") from error


def spec_in(table: dict[str, Any], folder: Path) -> Spec:
    """The spec that a table of a larger file holds, with places that are seen from the folder of the file."""
    return _of_names(_placed(dict(table), folder))


def _document(path: Path) -> dict[str, Any]:
    try:
        with durable.open_regular(path) as file:
            data = file.read(LARGEST_JSON + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; --spec takes a file of settings") from error
    if data.lstrip().startswith(b"{"):
        try:
            return parse_json(data, path)
        except MicrogptError as error:
            raise ConfigError(str(error)) from error
    return _toml(data, path)


def read_toml(path: Path) -> dict[str, Any]:
    """A file of TOML.  Raises ConfigError: it cannot be read."""
    try:
        with durable.open_regular(path) as file:
            return _toml(file.read(LARGEST_JSON + 1), path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


def _toml(data: bytes, path: Path) -> dict[str, Any]:
    if len(data) > LARGEST_JSON:
        raise ConfigError(f"{path}: more than {LARGEST_JSON >> 20} MB; not a file of settings")
    toml = _toml_reader(path)
    try:
        return dict(toml.loads(data.decode()))
    except (ValueError, RecursionError) as error:  # of its letters, too
        raise ConfigError(f"{path}: not readable as TOML ({error})") from error


def _toml_reader(path: Path) -> Any:
    """Python's own since 3.11, before that tomli, which it came from."""
    for name in ("tomllib", "tomli"):
        try:
            return importlib.import_module(name)
        except ImportError:
            pass
    raise ConfigError(f"{path}: reading TOML needs the tomli package before Python 3.11; {EXTRA}")


def _of_names(document: dict[str, Any]) -> Spec:
    """From tables and from settings outside of them: [lora] has settings of adapters without their first
    word, a table that is named as a penalty what that is told."""
    if isinstance(document.get("lora"), dict):
        document |= {f"lora_{name}": value for name, value in document.pop("lora").items()}
    for name in set(PENALTIES) & set(document):
        document |= {"penalty": name, "penalty_settings": document.pop(name)}
    tables = {name: document.pop(name) for name in SECTIONS if isinstance(document.get(name), dict)}
    preset = document.pop("preset", None)
    if preset is not None and not isinstance(preset, str):
        raise ConfigError(f"preset is {preset!r:.80}, expected a name")
    parent = document.pop("parent", None)
    if parent is not None and not isinstance(parent, str):
        raise ConfigError(f"parent is {parent!r:.80}, expected a run or checkpoint")
    priors = document.pop("priors", {})
    if not isinstance(priors, dict):
        raise ConfigError(f"priors is {priors!r:.80}, expected a table")
    alone = Spec.of(preset, **document)
    merged = {name: getattr(alone, name) | tables.get(name, {}) for name in SECTIONS}
    return Spec(preset, **merged, parent=parent, priors=priors)


def _placed(document: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The document with places of text that are seen from the folder it lies in.  A parent stays as named,
    for it may be that of a run in runs/."""
    tables = [table for table in (document, document.get("data")) if isinstance(table, dict)]
    for table in tables:
        for name in PLACES:
            found = table.get(name)
            if isinstance(found, (str, list)):
                names = [found] if isinstance(found, str) else found
                table[name] = [os.path.join(folder, one) if _is_place(one) else one for one in names]
    return document


def _is_place(name: Any) -> bool:
    return isinstance(name, str) and name not in ("", SMALLTALK)


def _of_run(document: dict[str, Any]) -> Spec:
    plan = Plan.from_dict(document)
    if plan.train.onward_step:
        raise ConfigError(
            f"this run was trained on past its first plan at step {plan.train.onward_step:,}, so no run from "
            "the beginning equals it; take config.json of a checkpoint before that"
        )
    spec = spec_of(plan)
    if "max_steps" in spec.train:
        spec.train.pop("max_time", None)
    return spec


def spec_of(plan: Plan) -> Spec:
    """All settings of a plan, named, but for those that follow from others or are not for people to set.

    That is the size of the vocabulary, which follows from the merges, a number of steps that is not known
    before the corpus is read, and how a corpus was prepared that is so already.
    """
    sections = {name: dict(getattr(plan, name).to_dict()) for name in SECTIONS}
    del sections["model"]["vocab_size"]
    if not plan.train.max_steps:
        del sections["train"]["max_steps"]
    for name, kind in SECTIONS.items():
        plain = {field.name for field in dataclasses.fields(kind) if _help(field) is None}
        defaults = {field.name: _default(field) for field in dataclasses.fields(kind)}
        sections[name] = {
            key: value
            for key, value in sections[name].items()
            if value is not None and not (key in plain and (key.startswith(INNER) or value == defaults[key]))
        }
    if any(is_prepared(Path(place)) for place in plan.data.data):
        for name in of_corpus(sections["data"]):
            del sections["data"][name]
    return Spec(plan.preset or None, **sections, parent=plan.parent.place if plan.parent else None)


# -------------------------------------------------------------------------------- writing


def write_spec(path: Path, spec: Spec) -> None:
    """Write all settings that a spec comes to, each with what it means.

    Raises: ConfigError: there is a file already, or it cannot be written.
    """
    if os.path.lexists(path):
        raise ConfigError(f"{path} is there already; choose another name for --write-spec")
    text = spec_text(spec)
    try:
        durable.write_file(path, [text.encode()])
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


def spec_text(spec: Spec) -> str:
    """The file: TOML, a comment before each setting; one without a value is a comment itself."""
    toml = _toml_writer()
    plan = spec.plan()
    whole = spec_of(plan)
    document = toml.document()
    _comment(toml, document, HEAD)
    if left := [f"{name} = {value}" for name, value in spec.priors.items() if name not in PRIOR_SETTINGS]:
        _comment(
            toml,
            document,
            f"It was made with the priors {', '.join(left)}, beside those that are named below.",
        )
    document.add("preset", plan.preset)
    notes = {
        setting: f"By the prior {name} = {spec.priors[name]}."
        for name, setting in PRIOR_SETTINGS.items()
        if name in spec.priors and setting not in spec.model
    }
    for name in SECTIONS:
        document.add(toml.nl())
        document.add(name, _table(toml, name, getattr(whole, name), notes if name == "model" else {}))
    return toml.dumps(document)


def _table(toml: Any, name: str, values: dict[str, Any], notes: dict[str, str]) -> Any:
    """The settings of a section, in the groups of `--help`.  notes: what else is told of some of them."""
    table, group = toml.table(), name
    for field in dataclasses.fields(SECTIONS[name]):
        text = _help(field)
        if field.name not in values and (text is None or field.name == "vocab_size"):
            continue
        if (title := field.metadata.get("group") or group) != group:
            table.add(toml.nl())
            table.add(toml.comment(f"---- {title}"))
            group = title
        table.add(toml.nl())
        _comment(toml, table, text or "")
        _comment(toml, table, notes.get(field.name, ""))
        if field.name in values:
            table.add(field.name, values[field.name])
        else:
            table.add(toml.comment(f"{field.name} ="))
    return table


def _toml_writer() -> Any:
    try:
        return importlib.import_module("tomlkit")
    except ImportError:
        raise ConfigError(f"--write-spec needs the tomlkit package; {EXTRA}") from None


def _default(field: dataclasses.Field) -> Any:
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()


def _help(field: dataclasses.Field) -> str | None:
    """What a setting means, its unit and what it may be; None for one that is no flag."""
    if field.name in DATA_HELP:
        return DATA_HELP[field.name]
    meta = _OF_OTHERS.get(field.name, field).metadata
    if "help" not in meta:
        return None
    notes = [meta["unit"]] if meta["unit"] else []
    if choices := meta["choices"]:
        notes.append(" or ".join(map(shown_value, choices)))
    return meta["help"] + (f" [{'; '.join(notes)}]" if notes else "")


def _comment(toml: Any, container: Any, text: str) -> None:
    for line in textwrap.wrap(text, WIDTH - 2, break_long_words=False, break_on_hyphens=False):
        container.add(toml.comment(line))
