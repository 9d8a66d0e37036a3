"""What a value out of a JSON file may be, for every config and state alike."""

from typing import Any

LARGEST_INT = 1 << 63  # as large as files and arithmetic hold


def is_of_kind(value: Any, kind: type) -> bool:
    """Whether a value is of exactly this type; a whole number may stand for a float, a bool may not."""
    if kind is float and type(value) is int:
        return abs(value) < LARGEST_INT
    return type(value) is kind
