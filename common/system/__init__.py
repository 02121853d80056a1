"""Files, locks, folders and processes of the operating system."""
