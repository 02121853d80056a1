"""The files of a network on a hub: what a push sends, and nothing else.

::

    README.md           the card: training, pruning, figures, use
    model.safetensors   weights, plan and structure; own code is not named in it
    model.fpz           the same, quantised and entropy-coded, if wanted
    labels.json         names of the classes, if there are any
    fedprune.json       format, size and SHA-256 of each model file, figures

All of it is made anew of the run's final network, of numbers of its summary, and of
keys whose values are numbers or public names.  No other file of the run, and no text
of its configuration that may name a file, host, client or person, is in it.
"""

import hashlib
import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from fedprune.common.artifacts import (
    LABELS_FILE,
    description_metadata,
    read_description,
    read_input_shape,
    read_model_file,
    write_labels,
    write_model_file,
)
from fedprune.common.artifacts.load import (
    KEEP_KEY,
    STRUCTURE_KEY,
    load_model,
    read_keep,
    read_structure,
)
from fedprune.common.config import load_config
from fedprune.common.description import Description
from fedprune.common.errors import ConfigError
from fedprune.common.models.factory import Factory
from fedprune.common.tasks.task import Task
from fedprune.common.user_code import PYTHON
from fedprune.common.version import __version__
from fedprune.server.devices.run_config import resume_command
from fedprune.server.runs.card import Trained, card_head, card_text
from fedprune.server.runs.folder import RunFolder, read_json_object
from fedprune.simulations.export.packing import write_fpz

BUNDLE_FORMAT = "fedprune-hub/1"
CARD, FACTS = "README.md", "fedprune.json"
MODEL, PACKED = "model.safetensors", "model.fpz"
MODEL_FILES = (MODEL, PACKED)

_NUMBERS = (
    *("accuracy_final", "validation_accuracy_final", "accuracy_control"),
    *("accuracy_delivered", "examples_delivered"),
    *("params_dense", "params_final", "flops_dense", "flops_final"),
    *("bytes_up", "bytes_down", "rounds", "clients"),
)
_PRIVACY = ("epsilon", "delta", "noise_multiplier")
_METRIC = re.compile(r"[A-Za-z][\w ^+|-]{0,39}")  # no path, host or address
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]{0,49}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The files of a push.

    Attributes:
        files: Name -> content, in the order in which they are listed.
        labels: Names of the classes, which leave too.
    """

    files: Mapping[str, bytes]
    labels: tuple[str, ...]

    @property
    def card(self) -> str:
        """The model card."""
        return self.files[CARD].decode()

    @property
    def digest(self) -> str:
        """SHA-256 of the facts, hex, and so of the model files that they name."""
        return sha256(self.files[FACTS])


def sha256(data: bytes) -> str:
    """Return the SHA-256 of bytes, as hex."""
    return hashlib.sha256(data).hexdigest()


def make_bundle(
    run: Path,
    repo: str,
    *,
    licence: str = "",
    packed: bool = False,
    factory: Factory | Task | None = None,
    trust_code: bool = False,
) -> Bundle:
    """Return the files of a run's final network; nothing is sent.

    Args:
        run: The run folder.
        repo: Name of the repository, which the card says.
        licence: Identifier of a license for the card, such as "apache-2.0".
        packed: Whether ``model.fpz`` is among them; its network is built.
        factory: Makes the uncut network where it is code, for ``packed``.
        trust_code: As of ``load_model``, for ``packed``.

    Raises:
        ConfigError: If the run has no final network, or the license is no identifier.
        IntegrityError: If a file of the run is broken.
    """
    if licence and not _LICENCE.fullmatch(licence):
        msg = f'--license: found "{licence}", want an identifier such as apache-2.0'
        raise ConfigError(msg)
    folder = RunFolder.open(run)
    source = folder.model / "final.safetensors"
    if not source.is_file():
        msg = f"{run} has no final network yet; finish it: {resume_command(run)}"
        raise ConfigError(msg)
    with tempfile.TemporaryDirectory(prefix="fedprune-") as place:
        model = Path(place) / MODEL
        trained, description, dims = _write_model(folder, source, model)
        if packed:
            load = partial(load_model, factory=factory, trust_code=trust_code)
            target = model.with_name(PACKED)
            write_fpz(model, target, values="grid", task=None, finetune=0, load=load)
        write_labels(model.with_name(LABELS_FILE), description)
        made = {path.name: path.read_bytes() for path in sorted(Path(place).iterdir())}
    summary = public_summary(folder)
    figures = {**summary, "bytes": len(made[MODEL]), "input_dims": dims}
    head = card_head(trained, description, figures, licence)
    text = card_text(
        trained, description, figures, place=f"DIR/{MODEL}", intro=_intro(repo)
    )
    files = {CARD: f"{head}\n\n{text}".encode(), FACTS: _facts(made, summary), **made}
    return Bundle(files=files, labels=description.labels)


def _write_model(
    folder: RunFolder, source: Path, target: Path
) -> tuple[Trained, Description, int]:
    """Write the final network with plan and structure inside, without private texts.

    Returns:
        The training, the description, and the dimensions of an input.
    """
    tensors, metadata = read_model_file(source)
    structure = read_structure(source, metadata)
    keep = read_keep(source, metadata, structure)
    description = read_description(source, metadata)
    config = load_config(folder.config)
    own = bool(config.task.use)
    trained = Trained(
        config=config, model=metadata["model"], own_data=own, own_loss=own
    )
    shape = read_input_shape(source, metadata)
    public = {
        "plan": metadata["plan"],
        "structure": metadata["structure"],
        "model": trained.public_model or PYTHON,
        "input_shape": json.dumps(list(shape)),
        "num_outputs": metadata["num_outputs"],
        KEEP_KEY: np.packbits(keep).tobytes().hex(),
        STRUCTURE_KEY: structure.to_json().decode(),
        **description_metadata(description),
    }
    write_model_file(target, tensors, public)
    return trained, description, len(shape)


def public_summary(folder: RunFolder) -> dict[str, object]:
    """Return the figures of a run that may be published: numbers, names of metrics."""
    if not folder.summary.is_file():
        return {}
    found = read_json_object(folder.summary)
    public: dict[str, object] = {k: found[k] for k in _NUMBERS if _is_number(found, k)}
    metrics = found.get("metrics_final")
    if isinstance(metrics, dict):
        names = {name: _metric(name) for name in metrics if _is_number(metrics, name)}
        public["metrics_final"] = {names[name]: metrics[name] for name in names}
    private = found.get("privacy")
    if isinstance(private, dict):
        public["privacy"] = {k: private[k] for k in _PRIVACY if _is_number(private, k)}
    public["metric"] = _metric(found.get("metric") or "accuracy")
    return public


def _metric(name: object) -> str:
    """Return the name of a metric; "metric" where it may be something else."""
    return str(name) if _METRIC.fullmatch(str(name)) else "metric"


def _is_number(values: Mapping[str, object], key: str) -> bool:
    value = values.get(key)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _facts(made: Mapping[str, bytes], summary: Mapping[str, object]) -> bytes:
    """Return ``fedprune.json``; it names the files that a pull reads."""
    models = {name: made[name] for name in MODEL_FILES if name in made}
    facts = {
        "format": BUNDLE_FORMAT,
        "fedprune_version": __version__,
        "files": {
            name: {"bytes": len(data), "sha256": sha256(data)}
            for name, data in models.items()
        },
        "figures": dict(summary),
    }
    return f"{json.dumps(facts, indent=1, sort_keys=True)}\n".encode()


def _intro(repo: str) -> str:
    """Return the words of the card on how to get the files."""
    return (
        f"`fedprune pull {repo} DIR` checks size, digest and content of the files and\n"
        "writes them into a folder; no code of them is run.  `fedprune.load_model` "
        "builds the\nnetwork from its name and cuts it by the plan in the file; a "
        "network of own code needs\nthat code (`factory=`)."
    )
