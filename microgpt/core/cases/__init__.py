"""One row per operation: inputs, shapes and how to differentiate it.  Tests and benchmarks walk this table
and name no operation themselves; a test fails if no row runs an operation of `ops` or `recurrent`."""

from . import activations, attention, experts, norms, products, recurrent, steps, stream
from .case import Case, Inputs, cotangent, normal

PARTS = (stream, norms, products, attention, activations, experts, steps, recurrent)
CASES = {name: case for part in PARTS for name, case in part.CASES.items()}

__all__ = ["CASES", "Case", "Inputs", "cotangent", "normal"]
