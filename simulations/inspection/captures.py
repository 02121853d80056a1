"""What one answer of a client holds, and where its bytes go."""

from pathlib import Path
from typing import Any

from fedprune.common import codec
from fedprune.common.artifacts.model_file import read_whole
from fedprune.common.codec.delta.header import read_fields
from fedprune.common.codec.frame import Kind, kind_of

Info = dict[str, object]


def inspect_update(path: Path) -> Info:
    """Return the fields of an ``.fpu`` file and the bytes of its parts.

    A capture holds what the update was coded by, so its delta is decoded: bytes of
    positions, scales, values and signs, and the order-0 bound.  Of a bare update only
    the form can be checked.

    Raises:
        PayloadError: If it is broken; names the field and the reason.
    """
    data = read_whole(path)
    captured = kind_of(data) == Kind.CAPTURE
    capture = codec.decode_capture(data) if captured else None
    update = capture.update if capture is not None else data
    sent = codec.message_fields(update)
    header = read_fields(sent.delta).header
    info: Info = {
        "kind": "update",
        "path": str(path),
        "bytes": len(update),
        "fields": {
            "run_id": sent.run_id,
            "round": sent.round,
            "client_id": sent.client_id,
            "plan": sent.plan.hex(),
            "base": sent.base.hex(),
            "num_examples": sent.num_examples,
            "loss": sent.loss,
            "values": header.values,
            "entries": header.count,
            "contexts": header.recipe.names(),
            "shrink": float(header.shrink),
        },
        "parts": codec.message_parts(update),
    }
    if capture is not None:
        anatomy = codec.take_apart(capture)
        info["delta"] = anatomy.parts
        info["order0"] = round(anatomy.order0)
        info["ratio"] = len(sent.delta) / max(anatomy.order0, 1.0)
        info["bits_per_entry"] = 8 * len(sent.delta) / max(header.count, 1)
    return info


def render_update(info: dict[str, Any]) -> list[str]:
    """Return what ``inspect_update`` found as lines of text."""
    lines = [f"update {info['path']}"]
    for name, value in info["fields"].items():
        shown = ", ".join(value) or "none" if isinstance(value, list) else value
        lines.append(f"  {name:<14}{shown}")
    lines.append(f"  {'bytes':<14}{info['bytes']}")
    lines += [f"    {name:<12}{count:>9}" for name, count in info["parts"].items()]
    if "delta" in info:
        lines.append("  of the entries and their fields")
        lines += [f"    {name:<12}{count:>9}" for name, count in info["delta"].items()]
        lines.append(
            f"  order-0 bound {info['order0']} bytes; the delta takes "
            f"{info['ratio']:.3f} of it, {info['bits_per_entry']:.2f} bits an entry"
        )
    return lines
