"""Flags are made from settings, the fields of config classes.

A command calls `add_settings` to offer them, and `given` or `settings_from` to read back what the user typed.
"""

import argparse
import dataclasses
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from .errors import ConfigError, MicrogptError
from .setting import MOST, types_of
from .words import did_you_mean

Config = TypeVar("Config")
FLAG = re.compile(r"--[\w-]+")


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors that tell what may have been meant, `_` accepted for `-` in flag names,
    no guessing of cut-off names, and help groups that several config classes can share."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False, **kwargs}
        super().__init__(*args, **kwargs)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args([_dashed(word) for word in words], namespace)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flag = next((word.partition("=")[0] for word in unknown if word.startswith("-")), "")
            meant = did_you_mean(flag, self._option_string_actions) if flag else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")
        return found

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            raise argparse.ArgumentError(
                action, f"{error.message}{did_you_mean(value, action.choices or ())}"
            ) from None

    def add_argument_group(self, title: Any = None, *args: Any, **kwargs: Any) -> Any:
        """The group of this title, made when it is new."""
        found = [group for group in self._action_groups if title and group.title == title]
        return found[0] if found else super().add_argument_group(title, *args, **kwargs)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {MicrogptError(f'{message} (--help lists the flags)')}\n")


def _dashed(word: str) -> str:
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value if FLAG.fullmatch(name) else word


def flag_name(field: str) -> str:
    """The flag of a field: `batch_size` -> `--batch-size`."""
    return "--" + field.replace("_", "-")


def add_settings(
    parser: Parser, config: type, skip: Sequence[str] = (), shown: Mapping[str, str] | None = None
) -> None:
    """Offer every field of a config class as a flag, in the help groups that the fields name.

    shown: what help tells of a default, by field, where that is not the field's own.
    A flag that is not typed leaves no trace in the namespace, so `given` knows what the user asked for.
    """
    kinds = types_of(config)
    for field in dataclasses.fields(config):
        if "help" not in field.metadata or field.name in skip:
            continue
        title = field.metadata["group"]
        target = parser.add_argument_group(title) if title else parser
        default = (shown or {}).get(field.name, _default(field))
        _add_flag(target, field, _plain_type(kinds[field.name]), default)


def _add_flag(target: Any, field: dataclasses.Field, kind: type, default: str) -> None:
    meta = field.metadata
    options: dict[str, Any] = {"dest": field.name, "default": argparse.SUPPRESS}
    options["help"] = _help(field, default)
    if kind is bool:
        options["action"] = argparse.BooleanOptionalAction
    else:
        options |= {"type": kind, "metavar": meta["unit"].upper().replace(" ", "_") or kind.__name__.upper()}
        if meta["choices"]:
            options |= {"choices": tuple(meta["choices"]), "metavar": None}
    target.add_argument(flag_name(field.name), **options)


def _default(field: dataclasses.Field) -> str:
    """A field's default for people; empty if it has none."""
    if field.default is dataclasses.MISSING or field.default is None:
        return ""
    return shown_value(field.default)


def shown_value(value: Any) -> str:
    """A value of a setting as help shows it."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _help(field: dataclasses.Field, default: str) -> str:
    notes = [field.metadata["unit"]] if field.metadata["unit"] else []
    if default:
        notes.append(f"default {default}")
    text = field.metadata["help"] + (f" [{', '.join(notes)}]" if notes else "")
    return text.replace("%", "%%")


def _plain_type(hint: Any) -> type:
    """`int | None` -> `int`."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return next(kind for kind in typing.get_args(hint) if kind is not type(None))
    return hint


def given(args: argparse.Namespace, config: type) -> dict[str, Any]:
    """The fields of `config` that the user typed, by field name."""
    return {f.name: getattr(args, f.name) for f in dataclasses.fields(config) if hasattr(args, f.name)}


def refuse_with_resume(typed: Mapping[str, Any]) -> None:
    """Flags that say what a run is, each with what was typed after it, are refused where one goes on."""
    if found := [flag for flag, value in typed.items() if value is not None and value is not False]:
        raise ConfigError(
            f"{', '.join(found)}: cannot be changed where a run goes on; leave out with --resume"
        )


def settings_from(args: argparse.Namespace, config: type[Config], **base: Any) -> Config:
    """Make a config: what the user typed over `base` over the class's defaults."""
    values = {**base, **given(args, config)}
    needed = (f.name for f in dataclasses.fields(config) if f.default is dataclasses.MISSING)  # type: ignore[arg-type]
    missing = [flag_name(name) for name in needed if name not in values]
    if missing:
        raise ConfigError(f"missing {', '.join(missing)}: give them or choose a --preset")
    return config(**values)


def whole(least: int, most: int = MOST - 1) -> Callable[[str], int]:
    """The type of a flag that is a whole number from `least` to `most`."""
    expected = f"from {least} up" if most == MOST - 1 else f"from {least} to {most}"

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            bound = expected if value < MOST else f"below {MOST:.1e}"
            raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number {bound}")
        return value

    return parse
