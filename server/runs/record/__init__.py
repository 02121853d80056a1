"""The record of a run: its events as rounds end, and the figures made of them."""
