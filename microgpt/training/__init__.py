"""Moves a run forward: optimizer, schedule, the loop.  The only room with an optimizer."""
