"""The wire format, version 2: messages between server and client, byte by byte.

Needs numpy, hashlib, msgpack and xxhash only.  Nothing on the wire names a class, a
function or a file; shapes come from the receiver's own ``ModelSpec``, never from a
message; a decoder raises ``PayloadError`` and nothing else.

Every message is ONE msgpack array in its shortest form, of nil, bool, int, float64,
str, bin and arrays only (no map, ext, timestamp, float32)::

    message    = [version = 2, kind, field, ..., digest]
    digest     = bin16: blake2b-128 of all bytes in front of its own header (c4 10);
                 of a plan only of those in front of the message in its shared part
                 (the header of that bin is covered), then of that message's own
                 digest; of an update xxh3-128 of the same bytes, highest byte first
    kind       = 2 shared | 4 weights | 5 broadcast | 6 stored | 7 full | 8 change
                 | 9 model | 10 codebook | 11 mask | 12 plan | 13 update; 1 was a plan
                 whose digest covered all of it and 3 an update with one of blake2b,
                 and neither is read any longer

Order of the checks: size cap, structure of the frame (bounded items and depth),
version and kind, digest, then every field.  The digest detects damage and mix-ups; the
checks after it do not rely on it, because a hostile sender computes it anew.

All numbers in a bin are little-endian.  ``section`` and ``text`` are pairs of items,
bool coded and bin data: ``entropy/byte_runs.py`` and ``messages/text.py``.
A *row* is one output of a weight of two or more dimensions, or one whole tensor of
fewer.

12 plan    client_id str, acknowledged int (0..round-1), shared bin = message of kind 2
2 shared   run_id str, round int, phase str, settings, structure digest,
           size of structure_json, text structure_json, broadcast,
           teacher digest | empty, teacher broadcast | nil,
           statistics of the teacher as float32 | nil, keep_broadcast bool,
           targets [units int, bitmap] | nil; under a weight mask two more items:
           digest, mask | nil (``messages/mask.py``)
           settings   = [epochs, batch, lr, momentum, penalty, strength,
                         update_density, choice, values, step_error,
                         error_feedback, decay, distill_weight, temperature,
                         importance, measure, freeze, clip, validation,
                         score_examples, seed]; where one of the following is not
                         its default, all of these too: optimizer, weight_decay,
                         proximal, precision, frozen [name of a module str, ...];
                         after a restart or a rollback, since int, the round whose
                         residuals and earlier ones are dropped, >= 0; then, where
                         they are not their defaults: quantise; covariances bool
           broadcast  = [plan, weights bin = message of kind 4, 7, 8 or 10, digest
                          of the DECODED weights, statistics as float32 | nil]
           plan       = [structure digest, units int, bitmap, parent digest | empty,
                         rollback bool]
           statistics = [num_examples int, mean bin, variance bin]; a fourth item
                        where buffers are averaged: their values bin float32[running]
13 update  run_id str, round int, client_id str, plan digest, base digest,
           num_examples int, loss float, delta bin,
           importance bin float32[units] | nil, statistics as float16 | nil,
           validation = [loss_sum float, correct int, count int]
4 weights  float32[size] bin
5 broadcast  the four items of a broadcast (client store); weights stand alone
6 stored   plan, wide bool, codes uint8[rows] bin, levels int8 (int16 if wide)[size]
           bin: a grid in a client store; never sent
7 full     weights on a quantisation grid, and 8 change, their difference from an
           earlier broadcast, the base: ``grid/format.py``
9 model    ``messages/model.py``, and 10 codebook: ``messages/codebook.py`` (``.fpz``)

delta      = as ``delta/format.py`` specifies

bitmaps: highest bit first, padding bits 0.
A change of these bytes needs a new version, or of one kind's a new kind; the golden
messages in the tests keep it.

Example: the weights 1, -0.5, 0, 2 as float32::

    94 02 04                              array of 4: version 2, kind 4
    c4 10  00 00 80 3f  00 00 00 bf       bin of 16 bytes: 1.0, -0.5
           00 00 00 00  00 00 00 40       0.0, 2.0
    c4 10  ab 14 30 70 c0 94 7d e4        bin of 16 bytes: digest of all
           6e 97 2b 90 c8 0b 77 e9        that is in front of this c4 10
"""

from fedprune.common.codec.delta.coding import (
    decode_delta,
    delta_parts,
    encode_delta,
    ideal_bytes,
)
from fedprune.common.codec.delta.quantise import (
    VALUES,
    dequantise_delta,
    quantise_delta,
    value_bits,
)
from fedprune.common.codec.delta.side_information import SideInformation
from fedprune.common.codec.frame import VERSION, Kind, seal, unseal
from fedprune.common.codec.grid.coding import (
    BaseName,
    base_name,
    decode_change,
    decode_full,
    encode_change,
    encode_full,
    is_grid,
)
from fedprune.common.codec.grid.quantise import exact_grid, grid_values, on_grid
from fedprune.common.codec.layout import Layout, positions_of
from fedprune.common.codec.messages.codebook import (
    MOST_BITS,
    decode_codebook,
    encode_codebook,
)
from fedprune.common.codec.messages.mask import decode_mask, encode_mask
from fedprune.common.codec.messages.model import (
    PackedModel,
    decode_model,
    encode_model,
    model_parts,
)
from fedprune.common.codec.messages.plan import (
    address_plan,
    decode_broadcast,
    decode_plan,
    encode_broadcast,
    encode_plan,
    encode_shared,
    read_shared,
)
from fedprune.common.codec.messages.stored import (
    decode_stored,
    encode_stored,
)
from fedprune.common.codec.messages.update import (
    DecodedUpdate,
    Expected,
    decode_update,
    encode_update,
)
from fedprune.common.codec.messages.weights import (
    check_finite,
    check_weights,
    decode_weights,
    encode_weights,
)

__all__ = [
    "MOST_BITS",
    "VALUES",
    "VERSION",
    "BaseName",
    "DecodedUpdate",
    "Expected",
    "Kind",
    "Layout",
    "PackedModel",
    "SideInformation",
    "address_plan",
    "base_name",
    "check_finite",
    "check_weights",
    "decode_broadcast",
    "decode_change",
    "decode_codebook",
    "decode_delta",
    "decode_full",
    "decode_mask",
    "decode_model",
    "decode_plan",
    "decode_stored",
    "decode_update",
    "decode_weights",
    "delta_parts",
    "dequantise_delta",
    "encode_broadcast",
    "encode_change",
    "encode_codebook",
    "encode_delta",
    "encode_full",
    "encode_mask",
    "encode_model",
    "encode_plan",
    "encode_shared",
    "encode_stored",
    "encode_update",
    "encode_weights",
    "exact_grid",
    "grid_values",
    "ideal_bytes",
    "is_grid",
    "model_parts",
    "on_grid",
    "positions_of",
    "quantise_delta",
    "read_shared",
    "seal",
    "unseal",
    "value_bits",
]
