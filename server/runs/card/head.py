"""The YAML header of a card, which the Hugging Face hub reads.

The figures of ``model-index`` are what the hub shows beside a network.  Every value is
written as JSON, and a JSON text is a YAML text.
"""

import json
from collections.abc import Mapping

from fedprune.common.description import Description
from fedprune.server.runs.card.trained import Trained

Summary = Mapping[str, object]

_IMAGE = 3  # dimensions of an input
_CLASSES = "cross-entropy"


def card_head(
    trained: Trained, description: Description, summary: Summary, licence: str = ""
) -> str:
    """Return the header, from line ``---`` to line ``---``.

    Args:
        trained: The training.
        description: Its inputs.
        summary: Figures of the run, with ``input_dims`` where known.
        licence: Identifier of a license such as "apache-2.0"; "" = none is named.
    """
    kind = _kind(trained, description, summary)
    lines = ["library_name: fedprune"]
    lines += [f"license: {json.dumps(licence)}"] if licence else []
    lines += [f"pipeline_tag: {kind}"] if kind else []
    lines += ["tags:", "- fedprune", "- federated-learning", "- pruning"]
    lines += ["metrics:", f"- {json.dumps(metric_name(summary))}"]
    value = tested(summary)
    if kind and value is not None:
        lines += ["model-index:", f"- {json.dumps(_results(trained, summary, kind))}"]
    return "\n".join(["---", *lines, "---"])


def metric_name(summary: Summary) -> str:
    """Return the name of the headline metric."""
    return str(summary.get("metric") or "accuracy")


def tested(summary: Summary) -> float | None:
    """Return the headline metric on test examples, None where it was not measured."""
    value = summary.get("accuracy_final")
    return float(value) if isinstance(value, int | float) else None


def _results(trained: Trained, summary: Summary, kind: str) -> dict[str, object]:
    """Return the entry of ``model-index``."""
    metric = {
        "type": metric_name(summary),
        "value": round(tested(summary) or 0.0, 6),
        "name": f"{metric_name(summary)} on test examples",
    }
    result = {
        "task": {"type": kind},
        "dataset": {
            "name": trained.data,
            "type": trained.data.removeprefix("hf-dataset:"),
        },
        "metrics": [metric],
    }
    name = trained.public_model or "network of own code"
    return {"name": f"{name}, pruned", "results": [result]}


def _kind(trained: Trained, description: Description, summary: Summary) -> str:
    """Return the hub's name for the task, "" where the run does not say it."""
    dims, loss = summary.get("input_dims"), trained.loss
    ids = description.stored.startswith("int")
    kinds = {
        (_CLASSES, _IMAGE, False): "image-classification",
        (_CLASSES, 1, False): "tabular-classification",
        (_CLASSES, 1, True): "text-classification",
        ("mse", 1, False): "tabular-regression",
        ("per-pixel", _IMAGE, False): "image-segmentation",
        ("next-token", 1, True): "text-generation",
    }
    return kinds.get((loss, dims, ids), "") if isinstance(dims, int) else ""
