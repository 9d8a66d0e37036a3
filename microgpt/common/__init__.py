"""What every room needs: errors and command-line flags.  Imports nothing of the project."""
