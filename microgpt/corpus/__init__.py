"""Texts become token files: readers, chat format, split, embedded corpus."""
