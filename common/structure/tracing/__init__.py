"""Find the structure of a network: trace it, walk it, label tied channels."""
