"""What compares runs, and what starts some to be compared."""
