"""Numbers about a model on text that it never saw.  Changes nothing."""
