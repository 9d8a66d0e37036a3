"""One file a command: it parses, calls one room, and prints."""
