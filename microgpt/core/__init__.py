"""Arithmetic: native (the one door to C), reference (NumPy truth), ops (which of the two runs); recurrent and
reference_recurrent are the same of recurrent layers."""
