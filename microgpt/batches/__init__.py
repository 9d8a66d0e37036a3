"""From a token file to batches.  The only place where the shift and the masks are made."""
