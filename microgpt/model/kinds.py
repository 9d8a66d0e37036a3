"""What a model can be made of, by name.

Each kind of mixer, MLP and norm adds itself to its table in the file that defines it; flags, checks of a
configuration and the layers that are built follow from the tables.
"""

from typing import Any

# at: where the layer stands, such as h.0, which its parameters' names begin with.  index: its number, from 1.
MIXERS: dict[str, Any] = {}  # (at, index, config) -> a layer that lets positions see each other
MLPS: dict[str, Any] = {}  # (name, config) -> a layer that works on each position alone
NORMS: dict[str, Any] = {}  # (name, C, eps, gain, bias) -> a norm of rows, as in norm.py
