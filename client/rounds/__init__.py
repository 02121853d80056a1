"""One round on a client: decode, judge, score, train, sparsify, encode, remember."""
