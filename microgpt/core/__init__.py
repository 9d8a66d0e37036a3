"""Arithmetic: native (the one door to C), reference (NumPy truth), ops (which of the two runs)."""
