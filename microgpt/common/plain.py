"""Plain values, as files hold them, and the records they stand for."""

import dataclasses
from typing import Any, TypeVar

from .errors import ConfigError
from .kinds import is_of_kind

Config = TypeVar("Config")


def config_from(kind: type[Config], values: dict[str, Any]) -> Config:
    """A config from plain values; an unknown or ill-typed one is refused by name."""
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name, value in values.items():
        if name not in defaults:
            raise ConfigError(f"config.json: unknown setting {name!r}; was it written by a newer microgpt?")
        expected = str if defaults[name] is None else type(defaults[name])
        is_left_out = value is None and defaults[name] is None
        if not is_left_out and not is_of_kind(value, expected):
            raise ConfigError(f"config.json: {name} is {value!r:.80}, expected {expected.__name__}")
    return kind(**values)
