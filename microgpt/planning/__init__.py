"""What a run will be before it starts: its size, memory, time, and which model to choose.  Trains nothing."""
