"""An edge device: its task, its checks, and the processes that serve it."""
