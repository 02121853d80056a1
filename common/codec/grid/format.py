"""The format of weights on a quantisation grid, version 1: a broadcast as bytes.

7 full     flags, count, bits, stream, raw
8 change   round, base, flags, count, bits, stream, raw

round    number of the round that sent the base, >= 1
base     digest of the base as it was sent: of its steps (uint8, one a row) and its
         levels (int16), each framed by its length (uint64); not that of the weights
flags    as in ``delta/format.py``, without known_positions and everywhere; full has no
         base, so neither base nor weight_context
count    number of levels that are other than those of the base
bits     bit length of the largest difference, 1..15; 0 with count 0
stream   uint32 states, one a lane, then uint16 words; raw: rest of the raw bits.
         A change of nothing: flags, count and bits 0, stream and raw empty.

A grid is a step for each row and a level for each weight.  Rows and tensors are those
of the package.  step = 0 a row of zeros | 1..63; weight = level * 2 ** (step - 48) as
float32; level is -16383..16383.  All numbers of both ends are integers.

Both ends know the base.  Of a full message that is a network of zeros (every step and
level 0).  Of a change it is an earlier broadcast, brought into the shapes of the new
plan: rows and columns that are cut go, those that come back have step and level 0 (a
row of which only some comes back keeps its step).

before     = the base's level at the new step: 0 where one of the two steps is 0, else
             with d = new step - old step: d <= 0: level << min(-d, 15), clipped to
             -16383..16383; d > 0: (level + (1 << d >> 1)) >> d with d at most 17
difference = level - before; g = the base's weights (as float32 with the base's steps)

Lanes, blocks, shares, classes and scores are those of ``delta/format.py``, with
``count`` as it stands there.  Runs, with the contexts that are in brackets:
1 steps     a bit for each row, 1 = other than in the base [tensor]; then each of these
            steps, of 64 [tensor]
2 rows, 3 columns, 4 mask, 5 sizes, 6 signs: the runs 1, 2, 3, 5 and 6 of a delta, for
            positions where the difference is not 0; a size is below 2 ** max(bits, 1);
            no shrink, so rest = difference * (-1 where g < 0)

raw bits   of mantissas of more than 8 bits what is above these 8, of 1 bit, then of 2,
           then of 3; then the low bits, of 1 bit, then of 2, ..., of 8; then the signs
           left; packed and begun in the lanes as those of a delta

Canonical: a step is 0 exactly for rows of zeros (in the result, not in the base cut to
its shapes, whose rows may have lost all that was not 0); a step that changes is
another one; a message in which nothing changes has an empty stream.

Example: the weights [[1, -0.5], [0, 2]] as a message that stands alone, of steps 47
(a half) and 49 (two) and the levels 2, -1, 0, 1::

    98 02 07                     array of 8: version 2, kind 7
    40 03 02                     flags no_classes, three levels other than 0, of 2 bits
    c4 20  ca 17 a8 02           bin of 32 bytes: states of the lanes 0
           8a 18 a4 02           to 7, and no word
           df 67 10 00  02 40 01 00
           00 00 01 00  00 00 01 00
           00 00 01 00  00 00 01 00
    c4 00                        raw: nothing is left over
    c4 10  a8 a6 45 4e b8 ae 55 11
           eb 52 59 f7 2e f1 8c e0

    steps    1 1, then 47, 49
    mask     1 1 0 1
    sizes    2, 1, 1
    raw      0 1 0, the signs: 40, so lane 0 begins as 0x00010040
"""
