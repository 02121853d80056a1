"""``fedprune pull``: a network of the hub into a folder, with nothing in it trusted.

Read are ``fedprune.json`` and the model files that it names, and no other: each within
its stated size, with its SHA-256, and then by the readers of FedPrune, which unpickle
nothing.  No code is run, and no network is built.
"""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedprune.common.artifacts import LABELS_FILE, read_model_file, write_labels
from fedprune.common.artifacts.description_file import read_description
from fedprune.common.artifacts.load import read_keep, read_structure
from fedprune.common.artifacts.packed_file import read_packed
from fedprune.common.description import Description
from fedprune.common.errors import ConfigError, IntegrityError
from fedprune.common.parsing import parse_json
from fedprune.common.system.atomic import write_bytes_atomic
from fedprune.common.system.paths import check_new_folder, make_folder
from fedprune.common.text import printable
from fedprune.common.trust import code_of_model
from fedprune.common.user_code import PYTHON
from fedprune.simulations.hub.bundle import (
    BUNDLE_FORMAT,
    FACTS,
    MODEL,
    MODEL_FILES,
    PACKED,
    sha256,
)
from fedprune.simulations.hub.repository import Held, Repository, default_api

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MOST_BYTES = 1 << 30  # of a model file

_MOST_FACTS = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")

Sizes = dict[str, tuple[int, str]]  # name -> bytes, SHA-256


def pull(
    repo: str,
    directory: Path,
    *,
    revision: str = "main",
    digest: str = "",
    most: int = MOST_BYTES,
    api: "HfApi | None" = None,
) -> dict[str, object]:
    """Write the model files of a repository into a folder.

    Args:
        repo: OWNER/NAME.
        directory: The folder, made when absent; no file in it is replaced.
        revision: Branch, tag or commit.
        digest: SHA-256 of ``fedprune.json`` as ``push`` printed it, hex; "" = whatever
            the repository holds now.
        most: Most bytes of one file.
        api: The library's client; None = as the user has set it up.

    Returns:
        ``repo, commit, digest, files, model, own_code``: the last is whether the
        network is made by code that is not in the files.

    Raises:
        ConfigError: If an argument is wrong, a file exists, or the extra is missing.
        IntegrityError: If the repository has no such files, or they are not what they
            are said to be.
        FedPruneError: If the hub cannot be read.
    """
    if digest and not _SHA256.fullmatch(digest):
        msg = f"--digest is {printable(repr(digest), 80)}; want the 64 hex digits that "
        raise ConfigError(msg + "push printed")
    names = (FACTS, *MODEL_FILES, LABELS_FILE)
    taken = next((directory / n for n in names if (directory / n).exists()), None)
    if taken is not None:
        msg = f"{taken} exists and is not replaced; want another folder"
        raise ConfigError(msg)
    check_new_folder(directory)
    place = Repository(api or default_api(), repo)
    held = place.look(revision)
    facts, sizes = _facts(place, held, digest)
    files = {name: _read(place, held, name, sizes[name], most) for name in sizes}
    model, description = _checked(repo, files)
    make_folder(directory)
    for name, data in {**files, FACTS: facts}.items():
        write_bytes_atomic(directory / name, data)
    write_labels(directory / LABELS_FILE, description)
    return {
        "repo": repo,
        "commit": held.commit,
        "digest": sha256(facts),
        "files": [str(directory / name) for name in files],
        "model": model,
        "own_code": model == PYTHON or bool(code_of_model(model)),
    }


def _facts(place: Repository, held: Held, digest: str) -> tuple[bytes, Sizes]:
    """Return ``fedprune.json``, and size and digest of each file that it names."""
    if FACTS not in held.names:
        msg = f"{place.name} has no {FACTS}: no network that fedprune push wrote"
        raise IntegrityError(msg)
    data = place.read(FACTS, held.commit, _MOST_FACTS)
    if digest and sha256(data) != digest:
        msg = f"{place.name}: {FACTS} has the digest {sha256(data)}; want {digest}"
        raise IntegrityError(msg)
    try:
        return data, _sizes(parse_json(data))
    except ValueError as error:
        msg = f"{place.name}: {FACTS}: {printable(error)}"
        raise IntegrityError(msg) from error


def _sizes(facts: object) -> Sizes:
    """Return size and digest of each file in the facts, which are not trusted."""
    if not isinstance(facts, Mapping) or facts.get("format") != BUNDLE_FORMAT:
        msg = f"no object of the format {BUNDLE_FORMAT}"
        raise ValueError(msg)
    files = facts.get("files")
    if not isinstance(files, Mapping) or MODEL not in files:
        msg = f"files has no {MODEL}"
        raise ValueError(msg)
    found: Sizes = {}
    for name, item in files.items():
        stated: Mapping[str, Any] = item if isinstance(item, Mapping) else {}
        size, known = stated.get("bytes"), stated.get("sha256")
        sized = type(size) is int and size > 0
        if name not in MODEL_FILES or not sized or not _is_sha256(known):
            msg = f"files names {printable(repr(name), 80)}; want {MODEL_FILES}, with "
            raise ValueError(msg + "bytes > 0 and sha256")
        found[name] = (int(stated["bytes"]), str(known))
    return found


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def _read(
    place: Repository, held: Held, name: str, stated: tuple[int, str], most: int
) -> bytes:
    """Return a model file that is what the facts say."""
    size, known = stated
    if size > most:
        msg = f"{place.name}: {name} has {size} bytes; want at most {most} (--max-mb)"
        raise IntegrityError(msg)
    data = place.read(name, held.commit, size)
    if len(data) != size or sha256(data) != known:
        msg = f"{place.name}: {name} is not the file that {FACTS} names: {len(data)} "
        msg += f"bytes with SHA-256 {sha256(data)}, want {size} with {known}"
        raise IntegrityError(msg)
    return data


def _checked(repo: str, files: Mapping[str, bytes]) -> tuple[str, Description]:
    """Return name and description of the network, after a check of every file."""
    with tempfile.TemporaryDirectory(prefix="fedprune-") as folder:
        for name, data in files.items():
            (Path(folder) / name).write_bytes(data)
        try:
            return _content(Path(folder), packed=PACKED in files)
        except IntegrityError as error:
            raise IntegrityError(str(error).replace(folder, repo)) from error


def _content(folder: Path, *, packed: bool) -> tuple[str, Description]:
    """Return name and description of the network in a folder, read by our readers."""
    path = folder / MODEL
    _, metadata = read_model_file(path)
    structure = read_structure(path, metadata)
    keep = read_keep(path, metadata, structure)
    if packed:
        small = read_packed(folder / PACKED)
        cut = small.model.network.plan.keep
        same = small.structure.digest == structure.digest
        if not same or not np.array_equal(cut, keep):
            msg = f"{folder / PACKED}: another network than that of {MODEL}"
            raise IntegrityError(msg)
    return metadata["model"], read_description(path, metadata)
