"""From documents to a folder of token files, and back from it."""
