"""The format of a delta, version 2: how the entries of an update become bytes.

delta    = msgpack array [flags, values, count, shrink, mask, stream, raw]
flags    bits, lowest first: base, known_positions, columns, row_sizes, weight_context,
         coarse, no_classes, everywhere
values   1 int8 | 2 float32 | 3 step
shrink   float32 other than 0, or empty for 0 (only with base and levels)
mask     digest of the agreed bitmap, if known_positions; else empty
stream   uint32 states, one a lane, then uint16 words; raw: rest of the raw bits, or
         float32[count] for float32.  count 0: every field 0 or empty but values.
         everywhere (alone, of float32): count is the size, the stream is empty, a value
         may be 0.

Side information: g (base weights) and the mask.  Row, tensor: see the package.  Column:
one index of the second dimension of one tensor; other tensors are one column.  Tensor
numbers end at 63.  ``a div b`` rounds down.  log(n, s) = s * e + ((n * 256 >> e) - 256)
* s div 256 with e = bit length of n less 1.

Lanes    K = min(max((size div 8 + 4 * count) div 3072, 8), 2048).  ``rans.py`` says
         how a symbol leaves a state; shares are of 2**15 for bits, 2**13 for others.
Blocks   A run of n symbols is cut: b = max(K, start div 16, 16), down to a multiple
         of K (at least K), at most 2**19.  A block begins at lane 0.  Its shares come
         from the counts of the blocks of this run before it (``models.py``):
         s = floor((count * 2**24 + w * parent) / (total + w)), w = 4 for bits, else
         A div 2 for A symbols, from the whole run down its contexts, part by part; the
         first parent is count * 2**24 div size for a bit of the mask, else uniform.
         Share of a symbol of A: 1 + s * (2**13 - A) div 2**24, the first largest gets
         what is missing; a bit 1 has 1 + s * (2**15 - 2) div 2**24, and is before 0.

Runs, each with the contexts that are in brackets:
1 rows     of all: class of 25 [tensor]: 0 empty; 2 + 22 div resolution full;
           else (clip(20 + log(2k+1, 2) - log(2(n-k)+1, 2), 1, 23)
           + resolution - 1) div resolution
           for k entries of n positions; resolution 2 if coarse, else 1.
                                              not if known_positions or no_classes
2 columns  of tensors with positions: the same [tensor, numbered among these]
                                                                    only if columns
3 mask     a bit for each position of rows neither empty nor full (if no_classes, of
           all) [R, score].
           score = 0 if known_positions or no_classes; row class without columns; else
           row + column - mean + 8 in 1..63 (mean = sum div number of the tensor's
           column classes above 0), 0 where one of the two is 0.
                                                            not if known_positions
           R = 0 without base; c(g, 21, 32) per tensor with base
           c(x, h, n) = clip(b - mid, 1, n - 1), 0 for x = +-0, with b the bits of |x|
           shifted right by h and mid = sum div number of the b above 0 among every
           ceil(length / 2**14)-th of the tensor, less n div 2 (sum 0: mid = -n div 2)
4 scales   code >> 3 of 32 [tensor], then code & 7 of 8 [tensor]; of the rows (int8)
           or the tensors (step) [0] that have an entry; float32 ends here
5 sizes    if row_sizes first a class of 32 [tensor] for each row with entries:
           clip(log(sum of the starts of its symbols, 4) - log(number, 4), 0, 31)
           (a sum of 0 counts as 1)
           then a symbol for each entry [if weight_context V; row class | score]
           V = c(g, 22, 16) of the entries alone
6 signs    a bit for each entry of symbol > 0 but the last r [side, o, V]: rest < 0.
           side = 1 where g is 0, else 0; o = min(7, floor of log2 of the symbol's
           start).
           r = all without base, else min(all, max(0, 16 K - mantissa bits))

symbol     of a size 0..127 (0..254 with shrink): below 16 itself;
           above, e = bit length - 1: 16 + 8 (e - 4) + (size >> (e - 3) & 7), and e - 3
           mantissa bits
rest       = level * (-1 where g < 0) + shift; shift = shrink / ladder[code] as double,
           rounded half to even, in -127..127, 0 where g or code is 0; size = |rest|
raw bits   mantissas of 1 bit, then of 2, ..., then the signs left; high bits first,
           padded with 0 to bytes; the first 2K bytes begin the lanes (uint16, unused
           ones 0), the others are ``raw``
value      = level * ladder[code], ladder[c] = 2 ** ((c - 225) / 8) as float32

Canonical: classes are those of what they stand for; levels are not 0 (with
known_positions those that are 0 are not sent); a code is 0 exactly for rows or tensors
without a level.

Example: of a network of one tensor [2, 2] the second entry, 0.25, as int8, without
weights::

    97 40 01 01                  array of 7: flags no_classes, int8, one entry
    c4 00  c4 00                 no shrink, no mask
    c4 20  70 d3 d1 35           bin of 32 bytes: states of the lanes 0
           00 00 04 00           to 7, and no word
           00 60 01 00  00 60 01 00
           00 00 01 00  00 00 01 00
           00 00 01 00  00 00 01 00
    c4 00                        raw: nothing is left over

    mask     0 1 0 0
    scales   19, 2: code 154 of row 0, a step of 2 ** (-71 / 8) = 0.00213
    sizes    38 = 16 + 8 * (6 - 4) + 6: of level 117 the bits above its last three
    raw      101, these three, and 0, the sign: a0, so lane 0 begins as 0x000100a0
"""
