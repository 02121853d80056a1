"""The client's half: validate, score, train, sparsify."""
