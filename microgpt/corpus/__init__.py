"""Texts become token files and batches: readers, chat format, split, embedded corpus, packing."""
