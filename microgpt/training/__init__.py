"""Moves a run forward: optimizer, schedule, the loop.  The only room with an optimizer."""

from . import adam, muon, parts  # noqa: F401  # each adds its kinds to the tables
