"""Channel pruning: find the structure, score, choose, cut, carry over."""
