"""Channel pruning: importance, budget search, cuts, remapping, and checks of cuts."""
