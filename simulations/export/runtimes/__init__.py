"""Networks in the formats of other runtimes: each writes its files and runs them."""
