"""The systems that take turns: FedPrune, stock Flower, plain torch, pfl-research."""
