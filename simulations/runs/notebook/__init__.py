"""What a notebook shows of a run: progress, its result, its rounds as a table."""
