"""States as bytes and back, with their parts in memory."""

import hashlib

from fedprune.server.runs import state_file


class MemoryParts:
    """Parts by their digest."""

    def __init__(self):
        self.found = {}

    def put(self, value, encode):
        data = encode(value)
        name = hashlib.sha256(data).hexdigest()
        self.found[name] = data
        return name

    def get(self, name):
        return self.found[name]


PARTS = MemoryParts()


def state_to_bytes(state, identity):
    return state_file.state_to_bytes(state, identity, PARTS)


def state_from_bytes(data, identity, name):
    return state_file.state_from_bytes(data, identity, name, PARTS)
