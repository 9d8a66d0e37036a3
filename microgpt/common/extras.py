"""Packages that only some commands need, which are installed by the name of an extra."""

import importlib
from typing import Any

from .errors import ConfigError


def wanted(package: str, extra: str, who: str) -> Any:
    """A package.  Raises: ConfigError: it is not installed; the line tells how to."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        name = package.partition(".")[0]
        raise ConfigError(
            f"{who} needs {name}: pip install microgpt-cpu[{extra}], or {name} alone"
        ) from error
