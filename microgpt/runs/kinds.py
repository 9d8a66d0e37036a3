"""What can move a run forward, by name.

Each optimizer, source of batches and penalty enters itself into its table in the file that defines it
(`training/optimizer.py` and `training/parts.py` say what each must do).  A run's settings name them, so a
resumed run finds them again.
"""

from typing import Any

OPTIMIZERS: dict[str, Any] = {}  # (model, settings) -> an optimizer
SOURCES: dict[str, Any] = {}  # parts of the run -> a source of batches
PENALTIES: dict[str, Any] = {}  # parts of the run -> a penalty
