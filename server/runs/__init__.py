"""One run: its folder, events, checkpoints and loop over rounds."""
