"""Parts of a local step: the optimiser, and the proximal term of FedProx."""
