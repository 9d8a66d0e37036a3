"""From a state and ids to the next ids.  Knows no conversation."""
