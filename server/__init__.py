"""The server's half: cycle, consensus, guard, checkpoints."""
