"""A second decoder of deltas, written from ``delta/format.py`` alone.

One symbol after another, on Python's integers; it trusts its input.  Only the ladder
and numpy's float32 and float64 are shared with the product.
"""

import struct

import msgpack
import numpy as np

from fedprune.common.codec.delta.quantise import LADDER

KINDS = {1: "int8", 2: "float32", 3: "step"}
TOP = 127
BIT = object()
FLAGS = (
    "base",
    "known_positions",
    "columns",
    "row_sizes",
    "weight_context",
    "coarse",
    "no_classes",
    "everywhere",
)


def log(number, steps):
    e = number.bit_length() - 1
    return steps * e + (((number * 256) >> e) - 256) * steps // 256


def clip(x, low, high):
    return max(low, min(high, x))


def bits_of(x):
    return struct.unpack("<I", struct.pack("<f", x))[0] & 0x7FFFFFFF


def float_class(values, shift, number):
    steps = [bits_of(v) >> shift for v in values]
    some = steps[:: max(1, -(-len(steps) // 2**14))]
    filled = [b for b in some if b]
    mid = sum(some) // max(len(filled), 1) - number // 2
    return [clip(b - mid, 1, number - 1) if b else 0 for b in steps]


class Lanes:
    def __init__(self, stream, lanes):
        if not stream:
            return
        self.states = list(struct.unpack(f"<{lanes}I", stream[: 4 * lanes]))
        words = stream[4 * lanes :]
        self.words = list(struct.unpack(f"<{len(words) // 2}H", words))

    def take(self, lane, bits, shares, order):
        """Take one symbol; ``order`` is that of the shares."""
        x = self.states[lane]
        slot = x % 2**bits
        before = 0
        for symbol in order:
            share = shares[symbol]
            if slot < before + share:
                break
            before += share
        self.states[lane] = share * (x >> bits) + slot - before
        return symbol

    def refill(self, used):
        for lane in range(used):
            if self.states[lane] < 2**16:
                self.states[lane] = self.states[lane] << 16 | self.words.pop(0)


class Slow:
    def __init__(self, data, spec, base, mask):
        flags, code, self.count, shrink, *_, stream, raw = msgpack.unpackb(data)
        self.flags = {f for i, f in enumerate(FLAGS) if flags >> i & 1}
        self.kind, self.raw, self.spec = KINDS[code], raw, spec
        self.shrink = np.frombuffer(shrink, "<f4")[0] if shrink else np.float32(0)
        self.g = [float(v) for v in base]
        self.mask = mask
        size = spec.size
        self.lanes = min(max((size // 8 + 4 * self.count) // 3072, 8), 2048)
        self.coder = Lanes(stream, self.lanes)
        self.rows, self.columns, self.tensor_rows, start = [], [], [], 0
        numbers = 0
        for n, t in enumerate(spec.tensors):
            length = t.size // max(t.rows, 1)
            for r in range(t.rows):
                first = start + r * length
                self.rows.append(range(first, first + length))
                self.tensor_rows.append(min(n, 63))
            if t.size:
                across = t.shape[1] if len(t.shape) > 1 else 1
                deep = t.size // (t.rows * across)
                for c in range(across):
                    places = [
                        start + r * length + c * deep + d
                        for r in range(t.rows)
                        for d in range(deep)
                    ]
                    self.columns.append((places, min(numbers, 63)))
                numbers += 1
            start += t.size

    def run(self, contexts, symbols, root=None):
        """Read a run, of bits if ``symbols`` is BIT; a context is a tuple of parts."""
        bits, weight = (15, 4) if symbols is BIT else (13, symbols // 2)
        size_ = 2 if symbols is BIT else symbols
        seen, out, start = {}, [], 0
        k, n = self.lanes, len(contexts)
        while start < n:
            size = max(k, start // 16, 16)
            size = min(size // k * k, 2**19) or k
            chunk = contexts[start : start + size]
            for at in range(0, len(chunk), k):
                step = chunk[at : at + k]
                for lane, context in enumerate(step):
                    shares = self.shares(seen, context, symbols, root, weight)
                    order = (1, 0) if symbols is BIT else range(symbols)
                    out.append(self.coder.take(lane, bits, shares, order))
                self.coder.refill(len(step))
            for context, symbol in zip(chunk, out[start:], strict=True):
                for depth in range(len(context) + 1):
                    counts = seen.setdefault(context[:depth], [0] * size_)
                    counts[symbol] += 1
            start += size
        return out

    @staticmethod
    def shares(seen, context, symbols, root, weight):
        one = 2**24
        size = 2 if symbols is BIT else symbols
        parent = root or [one // size] * size
        for depth in range(len(context) + 1):
            counts = seen.get(context[:depth], [0] * size)
            total = sum(counts) + weight
            parent = [
                (c * one + weight * p) // total
                for c, p in zip(counts, parent, strict=True)
            ]
        if symbols is BIT:
            share = 1 + parent[1] * (2**15 - 2) // one
            return [2**15 - share, share]
        shares = [1 + p * (2**13 - symbols) // one for p in parent]
        shares[shares.index(max(shares))] += 2**13 - sum(shares)
        return shares

    def density(self, places, chosen):
        k, n, resolution = (
            sum(p in chosen for p in places),
            len(places),
            self.resolution,
        )
        if k == 0:
            return 0
        if k == n:
            return 2 + 22 // resolution
        odds = log(2 * k + 1, 2) - log(2 * (n - k) + 1, 2)
        return (clip(20 + odds, 1, 23) + resolution - 1) // resolution

    def decode(self):
        """Return (positions, levels or floats, scale codes by row or tensor)."""
        if not self.count:
            return [], [], None
        if "everywhere" in self.flags:
            values = np.frombuffer(self.raw, "<f4").tolist()
            return list(range(self.spec.size)), values, []
        self.resolution = 2 if "coarse" in self.flags else 1
        if "known_positions" in self.flags:
            positions = [i for i, m in enumerate(self.mask) if m]
            scores = [0] * len(positions)
        else:
            positions, scores = self.positions()
        codes = self.codes(positions)
        if self.kind == "float32":
            return positions, np.frombuffer(self.raw, "<f4").tolist(), codes
        return positions, self.levels(positions, scores, codes), codes

    def positions(self):
        one = self.count * 2**24 // self.spec.size
        if "no_classes" in self.flags:
            contexts = [(r, 0) for r in self.known_places()]
            bits = self.run(contexts, BIT, [2**24 - one, one])
            positions = [i for i, bit in enumerate(bits) if bit]
            return positions, [0] * len(positions)
        rows = self.run([(t,) for t in self.tensor_rows], 25)
        columns = None
        if "columns" in self.flags:
            columns = self.run([(t,) for _, t in self.columns], 25)
        score = self.scores(rows, columns)
        known = self.known_places()
        full = 2 + 22 // self.resolution
        places = [i for r, c in zip(self.rows, rows, strict=True)
                  if 0 < c < full for i in r]  # fmt: skip
        bits = self.run([(known[i], score[i]) for i in places], BIT, [2**24 - one, one])
        chosen = {i for i, bit in zip(places, bits, strict=True) if bit}
        for r, c in zip(self.rows, rows, strict=True):
            if c == full:
                chosen |= set(r)
        for r, c in zip(self.rows, rows, strict=True):
            assert self.density(r, chosen) == c
        if columns:
            for (c, _), found in zip(self.columns, columns, strict=True):
                assert self.density(c, chosen) == found
        positions = sorted(chosen)
        return positions, [score[i] for i in positions]

    def scores(self, rows, columns):
        score = [0] * self.spec.size
        for r, c in zip(self.rows, rows, strict=True):
            for i in r:
                score[i] = c
        at = 0
        for t in self.spec.tensors:
            if t.size and columns is not None:
                across = t.shape[1] if len(t.shape) > 1 else 1
                self.move(score, columns, range(at, at + across))
                at += across
        return score

    def move(self, score, columns, group):
        """Add to the scores of a tensor what its columns say."""
        filled = [columns[c] for c in group if columns[c]]
        mean = sum(filled) // max(len(filled), 1)
        for c in group:
            for i in self.columns[c][0]:
                both = score[i] and columns[c]
                moved = clip(score[i] + columns[c] - mean + 8, 1, 63)
                score[i] = moved if both else 0

    def by_tensor(self, values, make):
        out, start = [], 0
        for t in self.spec.tensors:
            out += make(values[start : start + t.size])
            start += t.size
        return out

    def known_places(self):
        if "base" not in self.flags:
            return [0] * self.spec.size
        return self.by_tensor(self.g, lambda v: float_class(v, 21, 32))

    def groups(self, positions):
        """Return the positions that share each scale, and the tensor of each."""
        if self.kind == "int8":
            return [[i for i in positions if i in r] for r in self.rows]
        out, start = [], 0
        for t in self.spec.tensors:
            part = range(start, start + t.size)
            out.append([i for i in positions if i in part])
            start += t.size
        return out if self.kind != "float32" else []

    def codes(self, positions):
        groups = self.groups(positions)
        rows = self.kind == "int8"
        tensors = self.tensor_rows if rows else [0] * len(groups)
        filled = [n for n, group in enumerate(groups) if group]
        contexts = [(tensors[n],) for n in filled]
        high, low = self.run(contexts, 32), self.run(contexts, 8)
        codes = [0] * len(groups)
        for n, h, l in zip(filled, high, low, strict=True):  # noqa: E741
            codes[n] = h * 8 + l
        self.code_at = {i: c for c, g in zip(codes, groups, strict=True) for i in g}
        return codes

    def alphabet(self):
        """Return (start, raw bits) of each symbol."""
        top = TOP * (2 if self.shrink else 1)
        table, size = [], 0
        while size <= top:
            raw = max(size.bit_length() - 4, 0)
            table.append((size, raw))
            size += 1 << raw
        return table

    def known_entries(self, positions):
        """Return V and side of each entry."""
        none = [()] * len(positions)
        if "base" not in self.flags:
            return none, [0] * len(positions)
        g = [self.g[i] for i in positions]
        out, start = [(0,)] * len(g), 0
        for t in self.spec.tensors:
            chosen = [n for n, i in enumerate(positions)
                      if start <= i < start + t.size]  # fmt: skip
            found = float_class([g[n] for n in chosen], 22, 16)
            for n, c in zip(chosen, found, strict=True):
                out[n] = (c,)
            start += t.size
        return out, [int(w == 0) for w in g]

    def levels(self, positions, scores, codes):
        known, sides = self.known_entries(positions)
        table = self.alphabet()
        first = scores
        row_of = {i: n for n, r in enumerate(self.rows) for i in r}
        if "row_sizes" in self.flags:
            filled = sorted({row_of[i] for i in positions})
            found = self.run([(self.tensor_rows[n],) for n in filled], 32)
            classes = dict(zip(filled, found, strict=True))
            first = [classes[row_of[i]] for i in positions]
        deep = "weight_context" in self.flags
        contexts = [
            (*(v if deep else ()), f) for f, v in zip(first, known, strict=True)
        ]
        symbols = self.run(contexts, len(table))
        if "row_sizes" in self.flags:
            self.check_sizes(positions, symbols, table, classes, row_of)
        widths = [table[s][1] for s in symbols]
        filled = [n for n, s in enumerate(symbols) if s]
        left = min(len(filled), max(16 * self.lanes - sum(widths), 0))
        count = len(filled) - left if "base" in self.flags else 0
        octave = [min(7, table[s][0].bit_length() - 1) for s in symbols]
        bits = self.run([(sides[n], octave[n], *known[n]) for n in filled[:count]], BIT)
        assert not self.coder.words
        low, signs = self.raw_bits(widths, len(filled) - count)
        negative = dict(zip(filled, bits + signs, strict=True))
        out = []
        for n, (i, s) in enumerate(zip(positions, symbols, strict=True)):
            size = table[s][0] + low[n]
            rest = -size if negative.get(n) else size
            out.append(self.value(rest, i))
        return out

    def check_sizes(self, positions, symbols, table, classes, row_of):
        for row, found in classes.items():
            mine = [s for i, s in zip(positions, symbols, strict=True)
                    if row_of[i] == row]  # fmt: skip
            total = max(sum(table[s][0] for s in mine), 1)
            wanted = clip(log(total, 4) - log(len(mine), 4), 0, 31)
            assert found == wanted

    def raw_bits(self, widths, signs):
        first = b"".join(struct.pack("<H", x - 2**16) for x in self.coder.states)
        size = (sum(widths) + signs + 7) // 8
        data = (first[:size] + self.raw)[:size]
        assert not any(first[size:])
        assert len(data) == size
        bits = [byte >> (7 - b) & 1 for byte in data for b in range(8)]
        low = [0] * len(widths)
        for width in range(1, 8):
            for n, w in enumerate(widths):
                if w == width:
                    for _ in range(width):
                        low[n] = low[n] * 2 + bits.pop(0)
        assert not any(bits[signs:])
        return low, bits[:signs]

    def value(self, rest, index):
        shift = 0
        code = self.code_at[index]
        if self.shrink and code and self.g[index] != 0:
            step = float(LADDER[code])
            shift = clip(round(float(self.shrink) / step), -TOP, TOP)
        level = rest - shift
        return -level if "base" in self.flags and self.g[index] < 0 else level
