"""Networks: by name, as flat vectors, and in files."""
