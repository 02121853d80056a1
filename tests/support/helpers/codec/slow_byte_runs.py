"""Second decoders of texts and sections, written from their format pages alone.

Bit after bit on Python's integers; they trust their input.
"""

import struct
from collections import Counter


def words_of(data, lanes):
    states = list(struct.unpack(f"<{lanes}I", data[: 4 * lanes]))
    rest = data[4 * lanes :]
    return states, list(struct.unpack(f"<{len(rest) // 2}H", rest))


class SlowText:
    """Takes the tokens of a coded text."""

    def __init__(self, data):
        (self.x,), self.words = words_of(data, 1)
        self.ones, self.seen = Counter(), Counter()

    def bit(self, *context):
        one = 1 + (2 * self.ones[context] + 1) * 32766 // (2 * self.seen[context] + 2)
        slot, high = self.x % 32768, self.x // 32768
        found = slot < one
        self.x = one * high + slot if found else (32768 - one) * high + slot - one
        if self.x < 65536:
            self.x = self.x * 65536 + self.words.pop(0)
        self.ones[context] += found
        self.seen[context] += 1
        if self.seen[context] == 128:
            self.ones[context] //= 2
            self.seen[context] //= 2
        return int(found)

    def number(self, table):
        so_far = ""
        for _ in range(5):
            so_far += str(self.bit("length", table, so_far))
        b = int(so_far, 2) + 1
        so_far = ""
        for place in range(b - 1):
            if place < 3:
                bit = self.bit("first", table, b, so_far)
            else:
                bit = self.bit("rest", table, b, b - 1 - place)
            so_far += str(bit)
        return int("1" + so_far, 2)

    def text(self, size):
        out, kinds, distance = [], [0, 0], 1
        while len(out) < size:
            repeat = self.bit("kind", *kinds)
            if repeat:
                same = self.bit("same", kinds[0])
                if not same:
                    distance = self.number(0)
                for _ in range(self.number(1 + same) + 1):
                    out.append(out[-distance])
            else:
                before, so_far = out[-1] >> 5 if out else 0, ""
                for _ in range(8):
                    so_far += str(self.bit("byte", before, so_far))
                out.append(int(so_far, 2))
            kinds = [repeat, kinds[0]]
        assert len(out) == size
        assert (self.x, self.words) == (65536, [])
        return bytes(out)


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
            known = {path: shares(counts, path) for path in set(block)}
            found = [self.take(at, known[path]) for at, path in enumerate(block)]
            for at, path in enumerate(block):
                for depth in range(len(path) + 1):
                    counts[path[:depth], found[at]] += 1
            out += found
            start += len(block)
        return out

    def take(self, at, known):
        lane, before, symbol = at % self.lanes, 0, 0
        x = self.states[lane]
        while x % 8192 >= before + known[symbol]:
            before += known[symbol]
            symbol += 1
        x = known[symbol] * (x // 8192) + x % 8192 - before
        self.states[lane] = x * 65536 + self.words.pop(0) if x < 65536 else x
        return symbol
