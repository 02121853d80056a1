"""One round on a client: decode, validate, score, train, sparsify, encode, store."""
