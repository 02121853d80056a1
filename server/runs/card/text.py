"""The text of a card, below its header, and the card of a run's own folder."""

import json
from collections.abc import Mapping
from pathlib import Path

from fedprune.common.description import (
    Description,
    input_text,
    is_scaled,
    preprocessing_text,
)
from fedprune.common.system.atomic import write_bytes_atomic
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.common.text import printable
from fedprune.common.version import __version__
from fedprune.server.runs.card.head import card_head, metric_name, tested
from fedprune.server.runs.card.trained import Trained, trained_by
from fedprune.server.runs.record.spent import privacy_line

CARD_FILE = "MODEL_CARD.md"
IN_RUN = """`final.safetensors` needs `plan.json` and `structure.json` beside it.
`fedprune export RUN --format safetensors` writes a file that has both inside, `--format
onnx` one that runs without FedPrune and takes the inputs as they are stored."""

_LABELS = 20  # that the card lists
_NO_NOISE = "no differential privacy was applied."
_OF_DEVICES = {
    "accuracy_delivered": "test examples of the devices",
    "validation_accuracy_final": "validation parts of the clients",
}

Summary = Mapping[str, object]


def write_card(
    folder: Path, task: LoadedTask, description: Description, summary: Summary
) -> None:
    """Write the card of the final network of a run.

    Args:
        folder: The folder of the networks, with ``final.safetensors``.
        task: The task of the run.
        description: Label names and preprocessing.
        summary: Figures of the run, as of ``summary.json``.

    Raises:
        FedPruneError: If it cannot be written.
    """
    path = folder / "final.safetensors"
    figures = {
        **summary,
        "bytes": path.stat().st_size,
        "input_dims": len(task.input_shape),
    }
    trained = trained_by(task)
    head = card_head(trained, description, figures)
    text = card_text(trained, description, figures, place=path.name, intro=IN_RUN)
    write_bytes_atomic(folder / CARD_FILE, f"{head}\n\n{text}".encode())


def card_text(
    trained: Trained,
    description: Description,
    summary: Summary,
    *,
    place: str,
    intro: str,
) -> str:
    """Return the card without its header.

    Args:
        trained: The training.
        description: Label names and preprocessing.
        summary: Figures of the run, with ``bytes``, the size of the file.
        place: The file, as a reader has it.
        intro: Words on how to get it.
    """
    network = trained.public_model or "A network of own code"
    parts = [
        f"# {network}, pruned in federated training",
        _what(summary),
        "## Training\n\n" + _training(trained, summary),
        "## Pruning\n\n" + _pruning(trained, summary),
        "## Figures\n\n" + _figures(summary),
        "## Inputs and labels\n\n" + _inputs(description),
        f"## Use\n\n{intro}\n\n" + _use(trained, description, place),
        "## Limits\n\n" + _limits(summary),
    ]
    return "\n\n".join(parts) + "\n"


def _what(summary: Summary) -> str:
    final, dense = _pair(summary, "params")
    return (
        f"A network with {final} parameters, cut from {dense}: whole channels were "
        "removed while clients trained it on data that stayed with them (FedPrune "
        f"{__version__})."
    )


def _training(trained: Trained, summary: Summary) -> str:
    config = trained.config
    asked = f"{config.rounds.cohort} are asked in a round"
    rows = [
        f"data: {trained.data}",
        f"loss: {trained.loss}",
        f"clients: {_count(summary.get('clients'))}, of which {asked}",
        f"rounds: {_count(summary.get('rounds'))}",
        f"optimiser of a client: {config.client.optimizer}",
        f"seed: {config.run.seed}",
    ]
    return _list(rows)


def _pruning(trained: Trained, summary: Summary) -> str:
    prune, rounds = trained.config.prune, trained.config.rounds
    budget = prune.budget.model_dump(exclude_none=True)
    spent = [summary.get(f"bytes_{way}") for way in ("up", "down")]
    kept = ", ".join(f"{x:g} of the {k}" for k, x in budget.items()) or "no limit"
    agreed = trained.method("prune.consensus")
    rows = [
        f"kept at most: {kept}",
        f"cuts: {rounds.cuts}, by the schedule {trained.method('prune.schedule')}",
        f"importance of a channel: {trained.method('prune.importance')}",
        f"one importance of those of the clients: {agreed}",
        f"penalty before a cut: {trained.method('client.penalty')}",
        f"bytes that clients sent: {_count(spent[0])}, received: {_count(spent[1])}",
    ]
    return _list(rows)


def _figures(summary: Summary) -> str:
    found: object = tested(summary)
    kind = "test examples"
    for key, whose in _OF_DEVICES.items():
        if found is None:
            found, kind = summary.get(key), whose
    rows = [
        (f"{printable(metric_name(summary), 40)} ({kind})", _float(found), ""),
        ("parameters", *_pair(summary, "params")),
        ("FLOPs of one example", *_pair(summary, "flops")),
        ("bytes of the file", _count(summary.get("bytes")), ""),
    ]
    if summary.get("accuracy_control") is not None:
        rows[0] = (*rows[0][:2], _float(summary["accuracy_control"]))
    others = summary.get("metrics_final")
    for name, value in list(others.items())[1:] if isinstance(others, dict) else ():
        rows.append((f"{printable(name, 40)} ({kind})", _float(value), ""))
    lines = ["| figure | this network | dense FedAvg |", "|---|---:|---:|"]
    lines += [f"| {_cell(name)} | {final} | {dense} |" for name, final, dense in rows]
    return "\n".join(lines)


def _inputs(description: Description) -> str:
    rows = [
        f"stored inputs: {input_text(description)}",
        f"preprocessing: {preprocessing_text(description)}",
    ]
    labels = description.labels
    if not labels:
        return _list([*rows, "labels: the classes have numbers only"])
    # In a block of code a label cannot be markup.
    shown = json.dumps(list(labels[:_LABELS]), ensure_ascii=False)
    more = f", the first {_LABELS} of them" if len(labels) > _LABELS else ""
    rows.append(f"labels: {len(labels)}, in order in `labels.json`{more}:")
    return f"{_list(rows)}\n\n```json\n{shown}\n```"


def _use(trained: Trained, description: Description, place: str) -> str:
    factory = ", factory=make_network" if trained.own_network else ""
    prepared = "inputs"
    if is_scaled(description):
        prepared = "description.prepare(inputs)"
    return f"""```python
import fedprune

network = fedprune.load_model("{place}"{factory})
description = fedprune.describe_model("{place}")
outputs = network({prepared})
```"""


def _limits(summary: Summary) -> str:
    private = "Federated training keeps examples with their clients; it does not prove "
    private += "that nothing about them can be learned from the weights: "
    spent = privacy_line(summary)
    private += f"see the line below.\n- {spent}" if spent else _NO_NOISE
    unknown = "Nothing here was measured on other data, on groups of people or under "
    unknown += "attack."
    figures = "The figures are those of one run with one seed, on one data set."
    return _list([figures, private, unknown])


def _pair(summary: Summary, name: str) -> tuple[str, str]:
    final, dense = (summary.get(f"{name}_{k}") for k in ("final", "dense"))
    return _count(final), _count(dense)


def _count(value: object) -> str:
    whole = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:,.0f}" if whole else "not measured"


def _float(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else "not measured"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _list(rows: list[str]) -> str:
    return "\n".join(f"- {row}" for row in rows)
