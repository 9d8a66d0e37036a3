"""Arithmetic: native (the one door to C), reference (NumPy truth), ops (float32 to C, float64 to reference)."""
