"""What a model learns from, or is measured on."""

from typing import NamedTuple

import numpy as np

from .leash import Leash

IGNORED = -1  # a target that is not scored


class Batch(NamedTuple):
    """B sequences of T tokens, and what is to be foretold after each of them.

    ids:     (B, T) int32.
    targets: (B, T) int32, what follows each id; IGNORED where nothing is scored.
    weights: (B, T), how much the loss at each target counts, of either sign; None: each counts once.
    starts:  (B, T) int32, the place in its row at which the document of each token begins: no token sees one
             before; None: every row is one document.
    memory:  what recurrent layers remember of the text before each row, by layer and name; a pass through the
             model leaves there what they remember behind it, in new arrays.  Zeros, or {}: nothing yet;
             None: rows begin anew, and nothing is to be remembered.
    leash:   holds the model near another one at every scored target; None: nothing does.
    forbidden: ids that cannot follow anywhere, none of which is a target: losses go by the probabilities
             among all others, as where such ids are never drawn.  None: every id may follow.
    """

    ids: np.ndarray
    targets: np.ndarray
    weights: np.ndarray | None = None
    starts: np.ndarray | None = None
    memory: dict[str, np.ndarray] | None = None
    leash: Leash | None = None
    forbidden: np.ndarray | None = None
