"""A second decoder of grids, from ``grid/format.py`` alone; it trusts its input.

Only the runs that the page takes over from deltas are those of ``slow_delta.py``.
"""

import msgpack

from helpers.codec.slow_delta import BIT, FLAGS, Lanes, Slow, clip

TOP = 16383


class SlowGrid(Slow):
    """A grid message; ``base`` holds steps and levels in its shapes, or is None."""

    def __init__(self, data, spec, base=None):
        items = msgpack.unpackb(data)
        flags, count, self.bits, stream, raw = items[-6:-1]
        empty = msgpack.packb([0, 2, 0, b"", b"", b"", b""])
        super().__init__(empty, spec, [0] * spec.size, None)
        self.count = count
        self.flags = {f for i, f in enumerate(FLAGS) if flags >> i & 1}
        self.kind, self.raw, self.empty = "grid", raw, not stream
        self.lanes = min(max((spec.size // 8 + 4 * self.count) // 3072, 8), 2048)
        self.coder = Lanes(stream, self.lanes)
        steps, levels = base or ([0] * spec.rows, [0] * spec.size)
        self.old_steps, self.old_levels = list(map(int, steps)), list(map(int, levels))
        self.row_of = {i: n for n, r in enumerate(self.rows) for i in r}
        self.g = [
            level * 2.0 ** (self.old_steps[self.row_of[i]] - 48)
            if self.old_steps[self.row_of[i]]
            else 0.0
            for i, level in enumerate(self.old_levels)
        ]

    def read(self):
        """Return (steps, levels)."""
        if self.empty:
            return self.old_steps, self.old_levels
        contexts = [(t,) for t in self.tensor_rows]
        changed = [n for n, bit in enumerate(self.run(contexts, BIT)) if bit]
        steps = list(self.old_steps)
        found = self.run([contexts[n] for n in changed], 64)
        for row, step in zip(changed, found, strict=True):
            steps[row] = step
        self.resolution = 2 if "coarse" in self.flags else 1
        positions, scores = self.positions()
        levels = [self.before(i, steps) for i in range(self.spec.size)]
        moved = self.levels(positions, scores, None)
        for i, difference in zip(positions, moved, strict=True):
            levels[i] += difference
        return steps, levels

    def before(self, i, steps):
        row = self.row_of[i]
        new, old, level = steps[row], self.old_steps[row], self.old_levels[i]
        if not new or not old:
            return 0
        if new <= old:
            return clip(level << min(old - new, 15), -TOP, TOP)
        d = min(new - old, 17)
        return (level + (1 << d >> 1)) >> d

    def alphabet(self):
        table, size = [], 0
        while size < 2 ** max(self.bits, 1):
            raw = max(size.bit_length() - 4, 0)
            table.append((size, raw))
            size += 1 << raw
        return table

    def raw_bits(self, widths, signs):
        above = [max(w - 8, 0) for w in widths]
        within = [min(w, 8) for w in widths]
        # As one list of fields: those above a byte, shorter or not, come first.
        fields = [(n, w) for width in range(1, 9) for n, w in enumerate(above)
                  if w == width]  # fmt: skip
        cut = len(fields)
        fields += [(n, w) for width in range(1, 9) for n, w in enumerate(within)
                   if w == width]  # fmt: skip
        bits = self.all_bits(sum(widths) + signs)
        low = [0] * len(widths)
        for number, (n, width) in enumerate(fields):
            value = int("".join(map(str, bits[:width])), 2)
            bits = bits[width:]
            low[n] += value << 8 if number < cut else value
        return low, bits

    def all_bits(self, count):
        size = (count + 7) // 8
        first = b"".join((x - 2**16).to_bytes(2, "little") for x in self.coder.states)
        data = (first[:size] + self.raw)[:size]
        assert not any(first[size:])
        bits = [byte >> (7 - b) & 1 for byte in data for b in range(8)]
        assert not any(bits[count:])
        return bits[:count]

    def value(self, rest, index):
        return -rest if "base" in self.flags and self.g[index] < 0 else rest
