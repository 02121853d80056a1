"""A second decoder of sections, written from its format page alone.

Symbol after symbol on Python's integers; it trusts its input.
"""

import struct
from collections import Counter


def words_of(data, lanes):
    states = list(struct.unpack(f"<{lanes}I", data[: 4 * lanes]))
    rest = data[4 * lanes :]
    return states, list(struct.unpack(f"<{len(rest) // 2}H", rest))


def shares(counts, path):
    """Return the shares of 16 symbols in a context, given by its parts."""
    parent = [2**24 // 16] * 16
    for depth in range(len(path) + 1):
        seen = [counts[path[:depth], symbol] for symbol in range(16)]
        total = sum(seen) + 8
        parent = [(seen[s] * 2**24 + 8 * parent[s]) // total for s in range(16)]
    found = [1 + s * (2**13 - 16) // 2**24 for s in parent]
    found[found.index(max(found))] += 2**13 - sum(found)
    return found


class SlowSection:
    """Takes the bytes of a coded section, of which each has a part."""

    def __init__(self, data, parts):
        self.parts = [int(part) for part in parts]
        self.lanes = max(len(parts) // 1024, 8)
        self.states, self.words = words_of(data, self.lanes)

    def bytes(self):
        high = self.run([(part,) for part in self.parts])
        paths = [(high[at], part) for at, part in enumerate(self.parts)]
        low = self.run(paths)
        assert (set(self.states), self.words) == ({65536}, [])
        return bytes(16 * high[at] + low[at] for at in range(len(paths)))

    def run(self, paths):
        counts, out, start = Counter(), [], 0
        while start < len(paths):
            length = max(self.lanes, start // 16, 16) // self.lanes * self.lanes
            block = paths[start:][: min(max(length, self.lanes), 2**19)]
            side_info = {path: shares(counts, path) for path in set(block)}
            found = [self.take(at, side_info[path]) for at, path in enumerate(block)]
            for at, path in enumerate(block):
                for depth in range(len(path) + 1):
                    counts[path[:depth], found[at]] += 1
            out += found
            start += len(block)
        return out

    def take(self, at, side_info):
        lane, before, symbol = at % self.lanes, 0, 0
        x = self.states[lane]
        while x % 8192 >= before + side_info[symbol]:
            before += side_info[symbol]
            symbol += 1
        x = side_info[symbol] * (x // 8192) + x % 8192 - before
        self.states[lane] = x * 65536 + self.words.pop(0) if x < 65536 else x
        return symbol
