"""Hostile input for every reader and for the tokenizer: python -m benchmarks.fuzz."""
