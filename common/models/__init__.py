"""Networks: registered names, flat vectors, and files."""
