"""A run as it lies on disk: settings, checkpoints, what happened.  Computes no gradient."""
