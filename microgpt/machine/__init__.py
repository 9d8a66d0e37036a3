"""What this computer is, and what it measures.  Knows no model."""
