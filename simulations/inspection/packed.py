"""Content of a ``.fpz`` file, and its bytes by part."""

from pathlib import Path
from typing import Any

import numpy as np

from fedprune.common import codec
from fedprune.common.artifacts.model_file import read_whole
from fedprune.common.artifacts.packed_file import Packed, unpack
from fedprune.common.codec.frame import Kind, kind_of
from fedprune.common.description import labels_text, preprocessing_text

Info = dict[str, object]


def inspect_packed(path: Path) -> Info:
    """Return fields, bytes by part and tensors of a ``.fpz`` file.

    Raises:
        IntegrityError: If it cannot be read.
        PayloadError: If it is broken; the message names the field and the reason.
    """
    data = read_whole(path)
    packed = unpack(data)
    blob = packed.model.network.weights
    keep = packed.model.network.plan.keep
    return {
        "kind": "packed",
        "path": str(path),
        "bytes": len(data),
        "fields": {
            "network": packed.model.name,
            "input": list(packed.model.input_shape),
            "outputs": packed.model.num_outputs,
            "prepared": preprocessing_text(packed.model.description),
            "labels": labels_text(packed.model.description),
            "values": _values(blob),
            "weights": packed.spec.size,
            "channels": f"{int(keep.sum())} of {len(keep)} kept",
            "plan": packed.model.network.plan.digest.hex(),
            "structure": packed.structure.digest.hex(),
            "digest": packed.model.network.digest.hex(),
        },
        "parts": codec.model_parts(data),
        "weights": _weights(packed),
        "bits_per_weight": 8 * len(blob) / max(packed.spec.size, 1),
        "tensors": _tensors(packed),
    }


def render_packed(info: dict[str, Any]) -> list[str]:
    """Return the result of ``inspect_packed`` as lines of text."""
    lines = [f"network {info['path']}"]
    lines += [f"  {name:<14}{value}" for name, value in info["fields"].items()]
    lines.append(f"  {'bytes':<14}{info['bytes']}")
    lines += [f"    {name:<12}{count:>9}" for name, count in info["parts"].items()]
    lines.append(f"  of the weights, {info['bits_per_weight']:.2f} bits each")
    lines += [f"    {name:<12}{count:>9}" for name, count in info["weights"].items()]
    lines += [
        f"  {row['name']:<28} {'x'.join(map(str, row['shape'])) or 'scalar':<16}"
        f"{row['distinct']:>7} values, {100 * row['zeros']:.1f} % zeros"
        for row in info["tensors"]
    ]
    return lines


def _values(blob: bytes) -> str:
    kind = kind_of(blob)
    if kind is Kind.FULL:
        return "grid"
    if kind is Kind.CODEBOOK:
        return f"codebook{codec.unseal(blob, Kind.CODEBOOK, len(blob))[0]}"
    return "float32"


def _weights(packed: Packed) -> dict[str, int]:
    """Return the bytes of the encoded weights by part."""
    blob = packed.model.network.weights
    kind = kind_of(blob)
    if kind is Kind.CODEBOOK:
        items = codec.unseal(blob, Kind.CODEBOOK, len(blob))
        names = ("counts", "values", "numbers", "halves")
        parts = {n: len(item) for n, item in zip(names, items[1:], strict=True)}
        return {**parts, "header": len(blob) - sum(parts.values())}
    if kind is not Kind.FULL:
        return {"values": len(blob)}
    ends: dict[str, int] = {}
    codec.decode_full(blob, packed.spec, ends.__setitem__)
    parts, before = {}, 0
    for name, end in ends.items():
        parts[name], before = end - before, end
    raw = len(codec.unseal(blob, Kind.FULL, len(blob))[-1])
    parts = {**parts, "raw bits": raw}
    return {**parts, "states, header": len(blob) - sum(parts.values())}


def _tensors(packed: Packed) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    start = 0
    for tensor in packed.spec.tensors:
        part = packed.weights[start : start + tensor.size]
        start += tensor.size
        rows.append(
            {
                "name": tensor.name,
                "shape": list(tensor.shape),
                "distinct": len(np.unique(part)),
                "zeros": float(np.mean(part == 0)) if len(part) else 0.0,
            }
        )
    return rows
