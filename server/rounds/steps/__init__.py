"""Parts of the server's step: its optimiser, and what frozen modules keep."""
