"""Plain values, as JSON files hold them, and the records (dataclasses) that they stand for."""

import contextlib
import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from .errors import ConfigError
from .setting import refused, types_of

LARGEST_INT = 1 << 63  # as large as files and arithmetic hold
Record = TypeVar("Record")


def typed_value(text: str) -> Any:
    """What somebody typed for a setting: a number, true, false or null; else the text itself."""
    with contextlib.suppress(ValueError):
        return json.loads(text)
    return text


def is_of_kind(value: Any, kind: Any) -> bool:
    """Whether a value is of exactly this type; a whole number may stand for a float, a bool may not."""
    if kind is float and type(value) is int:
        return abs(value) < LARGEST_INT
    return type(value) is kind


def record_from(
    kind: type[Record],
    values: dict[str, Any],
    where: str,
    error: type[Exception] = ConfigError,
    is_among_others: bool = False,
    place: str = "",
) -> Record:
    """A record of plain values and of other records, each of exactly the type that its field tells.

    Unknown values are refused, and those that are missing have their defaults: the file may be of an older
    version, not of a newer one.

    Args:    where: the file, for the error.
             is_among_others: there may be values that belong to somebody else; then all that this record has
             must be there, but for records in it.
             place: of the record in the file, such as "watch.".
    Raises:  error: one line that names the value.
    """
    hints = types_of(kind)  # type: ignore[arg-type]
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if not is_among_others and (unknown := sorted(set(values) - set(fields))):
        raise error(f"{where}: unknown setting {place}{unknown[0]}; was it written by a newer microgpt?")
    chosen = {}
    for name, field in fields.items():
        is_needed = is_among_others or _has_no_default(field)
        if name not in values and (not is_needed or dataclasses.is_dataclass(hints[name])):
            continue
        if name not in values:
            raise error(f"{where}: {place}{name} is missing")
        value = values[name]
        if dataclasses.is_dataclass(hints[name]) and type(value) is dict:
            value = record_from(hints[name], value, where, error, is_among_others, f"{place}{name}.")  # type: ignore
        elif (value := _read(value, hints[name])) is _WRONG:
            told = f"{place}{name} is {values[name]!r:.80}"
            raise error(f"{where}: {told}, expected {_told(hints[name])}")
        chosen[name] = value
    made = kind(**chosen)
    if bad := refused(made):
        raise error(f"{where}: {place}{bad[0]} is {bad[1]!r:.80}, expected {bad[2]}")
    return made


def check_settings(kind: type, values: Mapping[str, Any], where: str) -> None:
    """Refuse values that no field of a record has, or that are not of its type, though others be missing."""
    hints = types_of(kind)
    for name, value in values.items():
        if name not in hints:
            raise ConfigError(f"{where}: unknown setting {name}")
        if _read(value, hints[name]) is _WRONG:
            raise ConfigError(f"{where}: {name} is {value!r:.80}, expected {_told(hints[name])}")


_WRONG = object()


def _has_no_default(field: dataclasses.Field) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def _read(value: Any, hint: Any) -> Any:
    """A plain value as a field of this type holds it, or _WRONG."""
    if isinstance(hint, types.UnionType):  # of a type and None
        return None if value is None else _read(value, typing.get_args(hint)[0])
    if typing.get_origin(hint) is tuple:  # of any length, a list in JSON
        kind = typing.get_args(hint)[0]
        is_right = type(value) is list and all(is_of_kind(one, kind) for one in value)
        return tuple(value) if is_right else _WRONG
    return value if is_of_kind(value, typing.get_origin(hint) or hint) else _WRONG


def _told(hint: Any) -> str:
    """A type for people."""
    if isinstance(hint, types.UnionType):
        return f"{_told(typing.get_args(hint)[0])} or null"
    if typing.get_origin(hint) is tuple:
        return f"a list of {typing.get_args(hint)[0].__name__}"
    return "dict" if dataclasses.is_dataclass(hint) else (typing.get_origin(hint) or hint).__name__
