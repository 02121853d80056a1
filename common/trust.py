"""Whose code runs: files and run folders are data, and what they name is not obeyed.

A model file and a run folder's configuration may *name* code: ``module:function``,
``file.py:function``, or a network that a library would fetch.  Such a name is obeyed
only if this user's own command started the run, which is written down in this user's
own state folder and nowhere else::

    $FEDPRUNE_STATE, or $XDG_STATE_HOME/fedprune, or ~/.local/state/fedprune     0700
        trusted/<sha256 of the run id>.json                                     0600
            {"run_id": ..., "code": {reference: {"place": ..., "sha256": ...}}}

So a run goes on without a question where it was started, as long as its code is what
and where it was then; anybody else's run id, file or folder leads to a refusal.  What
is digested: the bytes of ``file.py``; of ``package.module`` the source files of the
package and of the module, which are looked up without importing either.  What these
import is not followed: it lies where this user has put it.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path

from fedprune.common.config import Config
from fedprune.common.errors import ConfigError, FedPruneError
from fedprune.common.parsing import parse_json
from fedprune.common.system.atomic import write_bytes_atomic
from fedprune.common.system.paths import make_private_folder
from fedprune.common.user_code import (
    DATA_KINDS,
    MODEL_LIBRARIES,
    RANDOM,
    is_file_reference,
    split_reference,
)

STATE_VARIABLE = "FEDPRUNE_STATE"

_OTHERS_WRITE = 0o022
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Code:
    """Code as it is on this machine.

    Attributes:
        place: Its source file; "" for a network that a library fetches.
        sha256: Digest of its source, hex; "" as above.
    """

    place: str
    sha256: str


def code_of_model(name: str) -> str:
    """Return the code that a model's name stands for, "" for other networks.

    >>> code_of_model("net.py:make[-blocks.1]"), code_of_model("timm:resnet18")
    ('net.py:make', '')
    """
    whole = name.partition("[")[0] if name.endswith("]") else name
    known = ":" not in whole or whole.partition(":")[0] in MODEL_LIBRARIES
    return "" if known else whole


def code_of_data(source: str) -> str:
    """Return the code that a data source stands for, "" for names, files, folders."""
    known = ":" not in source or source.partition(":")[0] in DATA_KINDS
    return "" if known else source


def named_code(config: Config, *, factory: bool = False) -> dict[str, str]:
    """Return what a configuration would run or fetch, by key.

    Args:
        config: The configuration.
        factory: Whether the caller makes the network, so that its name does not count.
    """
    model, data = config.task.model, config.task.data
    found = {"task.model": code_of_model(model) or _fetched(model)}
    if factory:
        found = {}
    return {k: v for k, v in {**found, "task.data": code_of_data(data)}.items() if v}


def record_code(
    run_id: str, named: Mapping[str, str], state: Path | None = None
) -> None:
    """Write down the code of a run that this user's own command starts.

    Where it cannot be written, the run starts all the same, and going on with it asks
    for ``--trust-code``.

    Args:
        run_id: Name of the run.
        named: What it names, by key.
        state: The state folder; None = this user's.
    """
    if not named:
        return
    path = _entry(run_id, state)
    with suppress(FedPruneError, OSError):
        make_private_folder(path.parent.parent)
        make_private_folder(path.parent)
        code = {reference: asdict(_code(reference)) for reference in named.values()}
        text = json.dumps({"run_id": run_id, "code": code}, indent=1)
        write_bytes_atomic(path, text.encode(), mode=0o600)


def check_code(
    where: Path,
    run_id: str,
    named: Mapping[str, str],
    *,
    trust_code: bool,
    state: Path | None = None,
) -> None:
    """Refuse code that a file or a run folder names, unless it is this user's own.

    Args:
        where: The file or folder, for messages.
        run_id: Name of the run that it says it is of; "" = none.
        named: What it names, by key.
        trust_code: Whether the user asked to run it all the same.
        state: Where it may be written down besides this user's state folder.

    Raises:
        ConfigError: If it names code that is not known here, or has changed.
    """
    if trust_code:
        return
    known: dict[str, Code] = {}
    for folder in {state or state_folder(), state_folder()} if named else ():
        known |= _read(_entry(run_id, folder))
    for key, reference in named.items():
        mend = "pass --trust-code (in Python trust_code=True"
        mend += ", or your own factory)" if key.endswith("model") else ")"
        if reference not in known:
            what = "code" if ":" in code_of_model(reference) else "what is fetched"
            msg = (
                f"{where} names {what}: {key} is '{reference}'; files are data, and no "
                f"command of yours started its run here; to run it, {mend}"
            )
            raise ConfigError(msg)
        change = _change(known[reference], _code(reference))
        if change:
            msg = f"{where}: {key} '{reference}' {change}; to run it, {mend}"
            raise ConfigError(msg)


def state_folder() -> Path:
    """Return this user's own state folder, which may not exist yet."""
    own = os.environ.get(STATE_VARIABLE, "")
    if own:
        return Path(own)
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base else Path.home() / ".local/state") / "fedprune"


def _fetched(model: str) -> str:
    """Return the network that a library would fetch something for, or ""."""
    whole = model.partition("[")[0]
    library = whole.partition(":")[0]
    # Random weights need no network, but for a configuration from the hub.
    offline = whole.endswith(RANDOM) and library != "hf"
    return whole if library in MODEL_LIBRARIES and not offline else ""


def _code(reference: str) -> Code:
    """Return the code of a reference as it is now; none of it is run.

    Raises:
        ConfigError: If there is no such source file.
    """
    if not code_of_model(reference):
        return Code("", "")
    source, _ = split_reference(reference)
    if is_file_reference(reference):
        paths = [Path(source).expanduser().resolve()]
    else:
        paths = _sources(source)
    try:
        data = [path.read_bytes() for path in paths]
    except OSError as error:
        msg = f"cannot read {paths[-1]} of '{reference}': {error.strerror or error}"
        raise ConfigError(msg) from error
    if not paths:
        msg = f"'{reference}' has no source file that could be compared"
        raise ConfigError(msg)
    digest = hashlib.sha256()
    for part in data:
        digest.update(hashlib.sha256(part).digest())
    return Code(str(paths[-1]), digest.hexdigest())


def _sources(module: str) -> list[Path]:
    """Return the source files of a module's packages and its own, without importing.

    ``find_spec`` of a dotted name imports its parents, so only the first part is
    looked up by it, and what follows in the folders that its parent says.
    """
    names = module.split(".")
    if not all(name.isidentifier() for name in names):
        return []
    found: list[Path] = []
    spec: ModuleSpec | None = None
    for count, name in enumerate(names, start=1):
        if count == 1:
            spec = _top(name)
        else:
            folders = spec.submodule_search_locations if spec else None
            whole = ".".join(names[:count])
            spec = PathFinder.find_spec(whole, folders) if folders else None
        if spec is None:
            return []
        if spec.has_location and spec.origin:
            found.append(Path(spec.origin).resolve())
        elif count == len(names):
            return []
    return found


def _top(name: str) -> ModuleSpec | None:
    try:
        return find_spec(name)
    except (ImportError, ValueError):  # a module without a specification
        return None


def _change(then: Code, now: Code) -> str:
    """Return how code differs from what was written down, "" if it does not."""
    if then.place != now.place:
        return f"was {then.place} when its run was started, and is {now.place} now"
    if then.sha256 != now.sha256:
        return (
            f"has changed since its run was started: sha256 {then.sha256[:_SHOWN]} "
            f"then, {now.sha256[:_SHOWN]} now"
        )
    return ""


def _entry(run_id: str, state: Path | None = None) -> Path:
    # A run id comes from the file that is judged, so it is no part of a path.
    name = hashlib.sha256(run_id.encode()).hexdigest()
    return (state or state_folder()) / "trusted" / f"{name}.json"


def _read(path: Path) -> dict[str, Code]:
    """Return what is written down of a run; nothing if others could have written it."""
    try:
        if not (_is_own(path.parent) and _is_own(path)):
            return {}
        code = parse_json(path.read_bytes())["code"]
        return {
            str(name): Code(str(item["place"]), str(item["sha256"]))
            for name, item in code.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _is_own(path: Path) -> bool:
    found = path.stat()
    return found.st_uid == os.geteuid() and not found.st_mode & _OTHERS_WRITE
