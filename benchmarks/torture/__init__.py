"""Kills, power cuts and refusing disks against saving and resuming: python -m benchmarks.torture."""
