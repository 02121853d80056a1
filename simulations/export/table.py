"""Human-readable lines about an exported file."""

from collections.abc import Mapping

from fedprune.common.description import Description, labels_text
from fedprune.common.text import LONGEST_LINE, printable

_WIDTH = 14


def export_lines(found: Mapping[str, object]) -> list[str]:
    """Return the result of ``export_run`` as lines of text."""
    lines = [printable(found["path"], LONGEST_LINE)]
    rows = [
        ("format", _format(found)),
        ("input", found["input"]),
        ("preprocessing", found["preprocessing"]),
        ("labels", _labels(found)),
        ("weights", _weights(found)),
        ("quantised", _accuracy(found)),
        ("mask", found.get("mask", "")),
        ("check", _check(found)),
    ]
    lines += [f"  {name:<{_WIDTH}}{printable(text)}" for name, text in rows if text]
    return [*lines, *_speed(found)]


def _format(found: Mapping[str, object]) -> str:
    text = (
        f"{found['format']}, {found['bytes']:,} bytes, {found['params']:,} parameters"
    )
    before = found.get("bytes_float32")
    return text if before is None else f"{text}, int8 (float32: {before:,} bytes)"


def _labels(found: Mapping[str, object]) -> str:
    names = found["labels"]
    labels = tuple(map(str, names)) if isinstance(names, list | tuple) else ()
    text = labels_text(Description(labels=labels))
    return f"{text}, in {found['labels_file']}" if labels else text


def _weights(found: Mapping[str, object]) -> str:
    if "values" not in found:
        return ""
    text = f"{found['values']}, the largest change of one is {found['max_change']:.2e}"
    if "loss_finetuned" not in found:
        return text
    return (
        f"{text}; loss {found['loss_codebook']} -> {found['loss_finetuned']} by tuning"
    )


def _accuracy(found: Mapping[str, object]) -> str:
    """Return the headline metric before and after quantising."""
    new = next((k for k in ("accuracy_int8", "accuracy_fpz") if k in found), None)
    if new is None:
        return ""
    name, before, after = found["metric"], found["accuracy_float32"], found[new]
    return f"{name} {before:.4f} -> {after:.4f} on the test examples of the run"


def _check(found: Mapping[str, object]) -> str:
    if "max_difference" not in found:
        return ""
    return (
        f"differs from torch by at most {found['max_difference']:.2e} in outputs up to "
        f"{found['max_output']:.4g}, on {found['checked_on']}"
    )


def _speed(found: Mapping[str, object]) -> list[str]:
    """Return latency and throughput beside those of torch, one thread."""
    rates = found.get("examples_per_s_torch"), found.get("examples_per_s_exported")
    if not isinstance(rates[0], dict) or not isinstance(rates[1], dict):
        return []
    head = f"  {'one thread':<{_WIDTH}}{'torch':>12}{'this file':>12}"
    old, new = found["latency_ms_torch"], found["latency_ms_exported"]
    lines = [head, f"  {'latency':<{_WIDTH}}{old:>9.3f} ms{new:>9.3f} ms"]
    lines += [
        f"  {name:<{_WIDTH}}{rates[0][name]:>10,.0f}/s{rates[1][name]:>10,.0f}/s"
        for name in rates[0]
    ]
    return [*lines, *_dense(found)]


def _dense(found: Mapping[str, object]) -> list[str]:
    """Return the latency of the uncut network beside the file's, in one runtime."""
    dense, pruned = found.get("latency_ms_dense"), found.get("latency_ms_pruned")
    if not isinstance(dense, float) or not isinstance(pruned, float):
        return []
    head = f"  {found['format']!s:<{_WIDTH}}{'dense':>12}{'this file':>12}"
    times = f"{dense / max(pruned, 1e-6):.2f} times as fast"
    row = f"  {'latency':<{_WIDTH}}{dense:>9.3f} ms{pruned:>9.3f} ms  {times}"
    return [head, row]
