"""Optimizer, schedule, checkpoints, the loop and its metrics.  Knows models and corpora, not inference."""
