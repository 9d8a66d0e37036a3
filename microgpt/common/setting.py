"""A setting says in one place what it is: a field of a config class, its type and default, what help tells of
it, its unit, what values it may have, and whether a session that resumes a run may change it."""

import dataclasses
import functools
import typing
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

REQUIRED = dataclasses.MISSING
MOST = 1 << 63  # below it a number fits into the files and the arithmetic of a run


class Range(NamedTuple):
    """Numbers from `least` up to `most`.  is_open: without `least` itself; most_is_open: without `most`."""

    least: float = 0
    most: float = MOST
    is_open: bool = False
    most_is_open: bool = True

    def __contains__(self, value: Any) -> bool:
        above = value > self.least if self.is_open else value >= self.least
        return bool(above and (value < self.most if self.most_is_open else value <= self.most))  # no NaN

    def __str__(self) -> str:
        low = f"above {self.least:g}" if self.is_open else f"{self.least:g} or more"
        if self.most == MOST:
            return low
        if not (self.is_open or self.most_is_open):
            return f"{self.least:g} to {self.most:g}"
        return f"{low}, {'below' if self.most_is_open else 'at most'} {self.most:g}"


def from_to(least: float, most: float) -> Range:
    """Both ends and what lies between."""
    return Range(least, most, most_is_open=False)


NOT_NEGATIVE, POSITIVE, SHARE = Range(0), Range(0, is_open=True), from_to(0, 1)


def setting(
    default: Any,
    help: str,
    unit: str = "",
    choices: Collection[Any] = (),
    group: str = "",
    within: Range | None = None,
    of_session: bool = False,
) -> Any:
    """A field of a config class, with the text its flag shows.

    choices, within: the values that it may have.  group: of flags in `--help`.  of_session: a session that
    resumes a run may change it.
    """
    meta = {
        "help": help,
        "unit": unit,
        "choices": choices,
        "group": group,
        "within": within,
        "of_session": of_session,
    }
    if default is REQUIRED:
        return dataclasses.field(metadata=meta)
    return dataclasses.field(default=default, metadata=meta)


def unseen(default: Any, within: Range | None = None) -> Any:
    """A field that is part of the config and no flag."""
    return dataclasses.field(default=default, metadata={"within": within})


@functools.cache
def types_of(config: type) -> Mapping[str, Any]:
    """The types of the fields of a config class, by name."""
    return typing.get_type_hints(config)


def refused(config: Any) -> tuple[str, Any, str] | None:
    """The first setting of a config whose value it may not have, that value, and what was expected."""
    for field in dataclasses.fields(config):
        value, within, choices = (
            getattr(config, field.name),
            field.metadata.get("within"),
            field.metadata.get("choices"),
        )
        if choices and value not in choices:
            return field.name, value, " or ".join(map(str, choices))
        if within is not None and value is not None and value not in within:
            too_large = within.most == MOST and value >= MOST
            return field.name, value, f"below {MOST:.1e}" if too_large else str(within)
    return None


def session_fields(config: type) -> frozenset[str]:
    """The settings of a config class that a session which resumes a run may change."""
    return frozenset(field.name for field in dataclasses.fields(config) if field.metadata.get("of_session"))
