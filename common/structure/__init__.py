"""What must shrink together: groups of channels, blocks, their canonical JSON."""
