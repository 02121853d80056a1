"""Trust in named code: files are data, and code that they name runs on consent only.

A model file and a run folder's configuration may *name* code: ``module:function``,
``file.py:function``, or a network that a library would download.  Such code runs only
if a command of this user started the run, which is recorded in this user's own state
folder and nowhere else::

    $FEDPRUNE_STATE, or $XDG_STATE_HOME/fedprune, or ~/.local/state/fedprune     0700
        trusted/<sha256 of the run id>.json                                     0600
            {"run_id": ..., "code": {reference: {"place": ..., "sha256": ...}}}
        server-<digest of a server's folder>/trusted/...       of runs it may execute

So a run is resumed without a question where it was started, if its code has the same
place and content; a run id, file or folder of another user is refused.  The digest
covers the syntax of ``file.py`` (comments aside), whose bytes are then compiled
directly, never read from a ``.pyc``; of ``package.module`` it covers the source files
of the package and of the module, which are located without importing either.  A module
is imported as Python does it, so bytecode beside its source counts as installed, and
the imports of that code are not checked: this user has installed both.
"""

import ast
import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path

from fedprune.common.config import Config, own_methods
from fedprune.common.errors import ConfigError, FedPruneError
from fedprune.common.parsing import parse_json
from fedprune.common.system.atomic import write_bytes_atomic
from fedprune.common.system.paths import is_private, make_private_folder
from fedprune.common.user_code import (
    DATA_KINDS,
    MODEL_LIBRARIES,
    RANDOM,
    TASK_PREFIX,
    is_file_reference,
    split_blocks,
    split_reference,
)

STATE_VARIABLE = "FEDPRUNE_STATE"

_SHOWN = 8
_NAMED = 32  # hex digits that name a server's folder


@dataclass(frozen=True, slots=True)
class Code:
    """A piece of code on this machine: its source file and digest.

    Attributes:
        place: Its source file; "" for a network that a library fetches.
        sha256: Digest of its source, hex; "" for a network that a library fetches.
    """

    place: str
    sha256: str


def code_of_model(name: str) -> str:
    """Return the code reference in a model's name, "" for other networks.

    >>> code_of_model("net.py:make[-blocks.1]"), code_of_model("timm:resnet18")
    ('net.py:make', '')

    Raises:
        ConfigError: If the part in brackets is not a list of blocks.
    """
    whole, _ = split_blocks(name)
    if whole.startswith(TASK_PREFIX):
        return whole.removeprefix(TASK_PREFIX)
    known = ":" not in whole or whole.partition(":")[0] in MODEL_LIBRARIES
    return "" if known else whole


def code_of_data(source: str) -> str:
    """Return the code reference in a data source, "" for names, files, folders."""
    known = ":" not in source or source.partition(":")[0] in DATA_KINDS
    return "" if known else source


def named_code(
    config: Config, *, factory: bool = False, task: bool = False
) -> dict[str, str]:
    """Return the code references that a configuration would run or fetch, by key.

    Args:
        config: The configuration.
        factory: Whether the caller makes the network, so that ``task.model`` does not
            count.
        task: Whether the caller has the task, so that ``task.use`` does not count.
    """
    model, data = config.task.model, config.task.data
    found = {"task.model": code_of_model(model) or _fetched(model)}
    if factory:
        found = {}
    use = config.task.use
    # "python" = the caller's own
    found["task.use"] = use if ":" in use and not task else ""
    found |= {"task.data": code_of_data(data), **own_methods(config)}
    found["task.tokenizer"] = config.task.tokenizer
    return {key: name for key, name in found.items() if name}


def record_code(
    run_id: str, named: Mapping[str, str], server: Path | None = None
) -> None:
    """Record the code of a run that a command of this user starts.

    If the record cannot be written, the run starts nevertheless, and resuming it needs
    ``--trust-code``.

    Args:
        run_id: Name of the run.
        named: Code references by key.
        server: Folder of the server that is to execute it, or None.
    """
    if not named:
        return
    with suppress(FedPruneError, OSError):
        path = _entry(run_id, server)
        for folder in (state_folder(), path.parent.parent, path.parent):
            make_private_folder(folder)
        code = {name: asdict(_code(key, name)) for key, name in named.items()}
        text = json.dumps({"run_id": run_id, "code": code}, indent=1)
        write_bytes_atomic(path, text.encode(), mode=0o600)


def check_code(
    where: Path,
    run_id: str,
    named: Mapping[str, str],
    *,
    trust_code: bool,
    server: Path | None = None,
) -> None:
    """Refuse code that a file or a run folder names, unless this user has recorded it.

    Args:
        where: The file or folder, for messages.
        run_id: Name of the run that it states; "" = none.
        named: Code references by key.
        trust_code: Whether the user asked to run it without a record.
        server: Folder of a server: code recorded for it counts too.

    Raises:
        ConfigError: If it names code that is not recorded here, or has changed.
    """
    if trust_code or not named:
        return
    known = _read(_entry(run_id))
    if server is not None:
        known |= _read(_entry(run_id, server))
    for key, reference in named.items():
        mend = "pass --trust-code (in Python trust_code=True"
        mend += ", or your own factory)" if key.endswith("model") else ")"
        if reference not in known:
            what = "what is fetched" if _is_fetched(key, reference) else "code"
            msg = (
                f"{where} names {what}: {key} is '{reference}'; files are data, and no "
                f"command of yours started its run here; to run it, {mend}"
            )
            raise ConfigError(msg)
        change = _change(known[reference], _code(key, reference))
        if change:
            msg = f"{where}: {key} '{reference}' {change}; to run it, {mend}"
            raise ConfigError(msg)


def state_folder() -> Path:
    """Return the path of this user's state folder, which may not exist yet.

    Raises:
        ConfigError: If the variable is a relative path.
    """
    own = os.environ.get(STATE_VARIABLE, "")
    if own:
        if not Path(own).is_absolute():
            msg = f"{STATE_VARIABLE} is '{own}'; want an absolute path"
            raise ConfigError(msg)
        return Path(own)
    base = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".local/state") / "fedprune"


def server_ledger(server: Path) -> Path:
    """Return the folder of code recorded for a server, inside this user's state folder.

    A server's folder may have been copied from another user, so no file in it makes
    code trusted.

    Args:
        server: The server's folder.
    """
    name = hashlib.sha256(os.fsencode(server.resolve())).hexdigest()[:_NAMED]
    return state_folder() / f"server-{name}"


def _fetched(model: str) -> str:
    """Return the name of a network for which a library would fetch files, or ""."""
    whole, _ = split_blocks(model)
    library = whole.partition(":")[0]
    # Random weights need no download, except for the configuration of "hf:".
    offline = whole.endswith(RANDOM) and library != "hf"
    return whole if library in MODEL_LIBRARIES and not offline else ""


def _is_fetched(key: str, reference: str) -> bool:
    """Return whether a library fetches it; references of other keys are code."""
    return key.endswith("model") and not code_of_model(reference)


def _code(key: str, reference: str) -> Code:
    """Return place and digest of a reference's current code, without running it.

    Raises:
        ConfigError: If there is no such source file.
    """
    if _is_fetched(key, reference):
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
        digest.update(hashlib.sha256(_program(part)).digest())
    return Code(str(paths[-1]), digest.hexdigest())


def _program(source: bytes) -> bytes:
    """Return the syntax of a source file: comments and layout do not change it.

    Docstrings count, which code may read.  What is no Python counts byte by byte.
    """
    try:
        return ast.dump(ast.parse(source)).encode()
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return source


def _sources(module: str) -> list[Path]:
    """Return the source files of a module's packages and its own, without importing.

    ``find_spec`` of a dotted name imports its parents, so only the first part is
    located by it, and the rest in the search folders of its parent.
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
    """Return the difference of code from the recorded code in words, "" if equal."""
    if then.place != now.place:
        return f"was {then.place} when its run was started, and is {now.place} now"
    if then.sha256 != now.sha256:
        return (
            f"has changed since its run was started: sha256 {then.sha256[:_SHOWN]} "
            f"then, {now.sha256[:_SHOWN]} now"
        )
    return ""


def _entry(run_id: str, server: Path | None = None) -> Path:
    folder = state_folder() if server is None else server_ledger(server)
    # A run id comes from the file under check, so it may not be part of a path.
    name = hashlib.sha256(run_id.encode()).hexdigest()
    return folder / "trusted" / f"{name}.json"


def _read(path: Path) -> dict[str, Code]:
    """Return the recorded code of a run; empty unless only this user can write it."""
    try:
        if not (is_private(path.parent) and is_private(path)):
            return {}
        code = parse_json(path.read_bytes())["code"]
        return {
            str(name): Code(str(item["place"]), str(item["sha256"]))
            for name, item in code.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
