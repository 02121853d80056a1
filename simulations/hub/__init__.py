"""Networks of runs on the Hugging Face hub: what leaves, what is read, the commands."""
