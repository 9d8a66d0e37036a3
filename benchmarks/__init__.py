"""Benchmarks.  LOG.md keeps every attempt with its number."""
