"""``MODEL_CARD.md`` of a finished run, in the layout of Hugging Face's model cards.

It is written to be published, so it names neither clients nor places of this machine:
of data and code that are files only their kind is said.
"""

import json
import re
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
from fedprune.common.trust import code_of_model
from fedprune.common.version import __version__

CARD_FILE = "MODEL_CARD.md"

_LABELS = 20  # that the card lists
_KINDS = {
    "npz": "arrays in a file",
    "folder": "a folder of images",
    "parquet": "parquet files",
}
_HUB = "hf-dataset"
# A name on a hub, which no path is: it has no dot or slash in front, one slash at most.
_HUB_NAME = re.compile(r"\w[\w.-]*(/[\w.-]+)?(@\w+)?(\[[^/\\]*\])?")

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
    size = (folder / "final.safetensors").stat().st_size
    text = card_text(task, description, {**summary, "bytes": size})
    write_bytes_atomic(folder / CARD_FILE, text.encode())


def card_text(task: LoadedTask, description: Description, summary: Summary) -> str:
    """Return the card; ``summary`` has also ``bytes``, the size of the file."""
    parts = [
        _head(summary),
        f"# {_network(task)}, pruned in federated training",
        _what(summary),
        "## Training\n\n" + _training(task, summary),
        "## Figures\n\n" + _figures(summary),
        "## Inputs and labels\n\n" + _inputs(description),
        "## Use\n\n" + _use(task, description),
        "## Limits\n\n" + _limits(),
    ]
    return "\n\n".join(parts) + "\n"


def _head(summary: Summary) -> str:
    """Return the YAML header; a JSON text is a YAML text."""
    metric = json.dumps(_metric(summary))
    lines = ["---", "library_name: fedprune", "tags:", "- federated-learning"]
    return "\n".join([*lines, "- pruning", "metrics:", f"- {metric}", "---"])


def _what(summary: Summary) -> str:
    final, dense = _pair(summary, "params")
    return (
        f"A network with {final} parameters, cut from {dense}: whole channels were "
        "removed while clients trained it on data that stayed with them (FedPrune "
        f"{__version__})."
    )


def _training(task: LoadedTask, summary: Summary) -> str:
    config = task.config
    budget = config.prune.budget.model_dump(exclude_none=True)
    own = task.task.has_own_loss
    asked = f"{config.rounds.cohort} are asked in a round"
    rows = [
        f"data: {_data(task)}",
        f"loss: {'own code' if own else config.task.loss}",
        f"clients: {_count(summary.get('clients'))}, of which {asked}",
        f"rounds: {_count(summary.get('rounds'))}",
        f"optimiser of a client: {config.client.optimizer}",
        "kept at most: "
        + (", ".join(f"{x:g} of the {k}" for k, x in budget.items()) or "no limit"),
        f"seed: {config.run.seed}",
    ]
    return _list(rows)


def _figures(summary: Summary) -> str:
    tested = summary.get("accuracy_final")
    kind = "test examples" if tested is not None else "validation parts of the clients"
    found = tested if tested is not None else summary.get("validation_accuracy_final")
    rows = [
        (f"{printable(_metric(summary), 40)} ({kind})", _float(found), ""),
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


def _use(task: LoadedTask, description: Description) -> str:
    factory = ", factory=make_network" if _is_code(task) else ""
    prepared = "inputs"
    if is_scaled(description):
        prepared = "description.prepare(inputs)"
    return f"""`final.safetensors` needs `plan.json` and `structure.json` beside it.
`fedprune export RUN --format safetensors` writes a file that has both inside, `--format
onnx` one that runs without FedPrune and takes the inputs as they are stored.

```python
import fedprune

network = fedprune.load_model("final.safetensors"{factory})
description = fedprune.describe_model("final.safetensors")
outputs = network({prepared})
```"""


def _limits() -> str:
    private = "Federated training keeps examples with their clients; it does not prove "
    private += "that nothing about them can be learned from the weights: no "
    private += "differential privacy was applied."
    unknown = "Nothing here was measured on other data, on groups of people or under "
    unknown += "attack."
    figures = "The figures are those of one run with one seed, on one data set."
    return _list([figures, private, unknown])


def _is_code(task: LoadedTask) -> bool:
    """Return whether only own code makes the network."""
    return task.made_by_python or bool(code_of_model(task.model_name))


def _network(task: LoadedTask) -> str:
    """Return the network's name; of own code none, for it names a file."""
    library, _, name = task.model_name.rpartition(":")
    if _is_code(task) or not _HUB_NAME.fullmatch(name):
        return "A network of own code"
    return f"{library}:{name}" if library else name


def _data(task: LoadedTask) -> str:
    """Return the data's name; only their kind where a name is a place."""
    if task.task.has_own_data:
        return "own code"
    kind, colon, name = task.config.task.data.partition(":")
    if not colon:
        return kind
    if kind == _HUB and _HUB_NAME.fullmatch(name):
        return f"{kind}:{name}"
    return _KINDS.get(kind, "own code")


def _metric(summary: Summary) -> str:
    """Return the name of the headline metric."""
    return str(summary.get("metric") or "accuracy")


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
