"""The folder of a run: its files, its manifest, and the lock of its writer.

::

    runs/<time>-<name>-<id>/
        manifest.json   format, run id, versions, command, seeds, data fingerprint
        config.toml     merged, can be run again
        events.jsonl    one line an event: the source of everything below
        metrics.csv     one row a round
        checkpoints/    safetensors + journal; what noise hides: releases
        clients/        residuals and caches of simulated clients, by federation
        structure.json  plan.json
        latency.json    its latency table, if any
        model/          final, before_cut, the controls (safetensors; onnx on demand)
        summary.json    report.html
        profile/        where the time went, with run.profile
        tracking/       files of its trackers, with run.track
"""

import re
import secrets
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from fedprune.common.config import Config, config_to_toml
from fedprune.common.errors import ConfigError, IntegrityError
from fedprune.common.pruning.latency import LatencyTable
from fedprune.common.system.atomic import write_bytes_atomic, write_json_atomic
from fedprune.common.system.json_file import read_json
from fedprune.common.system.lock import hold, holder
from fedprune.common.system.paths import check_folder, why_no_folder
from fedprune.common.text import printable

RUN_FORMAT = "fedprune-run/1"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """One run on disk.

    Attributes:
        path: The folder.
    """

    path: Path

    @classmethod
    def create(
        cls,
        base: Path,
        name: str = "",
        *,
        manifest: Mapping[str, object] | None = None,
        config: Config | None = None,
        latency: LatencyTable | None = None,
        structure: bytes = b"",
    ) -> Self:
        """Make a new folder ``<time>-<name>-<id>`` under ``base``.

        Args:
            base: Folder of the run folders; made when absent.
            name: A word for the user; other characters than letters, digits, ``.``
                and ``_`` become ``-``; empty leaves it out.
            manifest: Manifest of the run at its start; ``format``, ``run_id`` and
                ``started`` are added.
            config: Content of ``config.toml``.
            latency: The table of its latency budget, or None; kept in the folder.
            structure: JSON of the original network's structure, where known.

        Raises:
            ConfigError: If the folder cannot be made.
        """
        now = datetime.now(UTC)
        word = re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.")
        # The id distinguishes two runs of the same second; it is no part of the
        # reproducible state.
        parts = [now.strftime("%Y-%m-%dT%H-%M-%S"), word, secrets.token_hex(2)]
        run_id = "-".join(part for part in parts if part)
        folder = cls(base / run_id)
        try:
            folder.path.mkdir(parents=True)
            for place in (folder.checkpoints, folder.model, folder.clients):
                place.mkdir()
        except OSError as error:
            why = why_no_folder(folder.path, error)
            msg = f"cannot make the run folder {folder.path}: {why}"
            raise ConfigError(msg) from error
        if latency is not None:
            latency.save(folder.latency)
        text = "" if config is None else config_to_toml(folder.own(config))
        write_bytes_atomic(folder.config, text.encode())
        if structure:
            write_bytes_atomic(folder.structure, structure)
        head = {"format": RUN_FORMAT, "run_id": run_id, "started": now.isoformat()}
        write_json_atomic(folder.manifest, {**head, **(manifest or {})})
        return folder

    @classmethod
    def open(cls, path: Path) -> Self:
        """Return the run folder at ``path``.

        Raises:
            ConfigError: If there is none.
            IntegrityError: If its manifest is broken or of another format, or
                something in it is not a plain file or folder.
        """
        folder = cls(path)
        if not path.is_dir():
            check_folder(path, _wanted(path))
            msg = f"{path}: no such run folder"
            raise ConfigError(msg)
        _refuse_links(path)
        if not folder.manifest.is_file():
            msg = f"{path} is not a run folder: it has no manifest.json"
            raise ConfigError(msg)
        found = folder.read_manifest().get("format")
        if found != RUN_FORMAT:
            shown = printable(repr(found), 80)
            msg = f"{folder.manifest}: format is {shown}; want {RUN_FORMAT!r}"
            raise IntegrityError(msg)
        return folder

    def own(self, config: Config) -> Config:
        """Return the configuration with the folder's own latency table, if it has one.

        The run uses that copy, wherever the folder is and even if the original file
        changed.
        """
        if not self.latency.is_file():
            return config
        change = {"latency_table": str(self.latency.resolve())}
        prune = config.prune.model_copy(update=change)
        return config.model_copy(update={"prune": prune})

    @property
    def run_id(self) -> str:
        """Name of the run: the folder's own name when it was made."""
        return str(self.read_manifest().get("run_id", self.path.name))

    @property
    def manifest(self) -> Path:
        """The manifest: format, run id, versions, command, seeds, data fingerprint."""
        return self.path / "manifest.json"

    @property
    def config(self) -> Path:
        """The merged configuration."""
        return self.path / "config.toml"

    @property
    def events(self) -> Path:
        """The event log."""
        return self.path / "events.jsonl"

    @property
    def metrics(self) -> Path:
        """One row a round."""
        return self.path / "metrics.csv"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints and their journal."""
        return self.path / "checkpoints"

    @property
    def clients(self) -> Path:
        """Folder of the simulated clients' state."""
        return self.path / "clients"

    @property
    def structure(self) -> Path:
        """The structure of the original network."""
        return self.path / "structure.json"

    @property
    def latency(self) -> Path:
        """The run's copy of its latency table."""
        return self.path / "latency.json"

    @property
    def plan(self) -> Path:
        """The newest prune plan."""
        return self.path / "plan.json"

    @property
    def model(self) -> Path:
        """Folder of the networks."""
        return self.path / "model"

    @property
    def summary(self) -> Path:
        """The figures of a finished run."""
        return self.path / "summary.json"

    @property
    def profile(self) -> Path:
        """Folder of the profile, with ``run.profile``."""
        return self.path / "profile"

    @property
    def tracking(self) -> Path:
        """Folder of the trackers' files, with ``run.track``."""
        return self.path / "tracking"

    @property
    def report(self) -> Path:
        """The report, human-readable."""
        return self.path / "report.html"

    @property
    def lock_file(self) -> Path:
        """The lock file of the writer; never removed, or two could lock it."""
        return self.path / ".lock"

    def read_manifest(self) -> dict[str, object]:
        """Return the manifest.

        Raises:
            IntegrityError: If it is not a JSON object.
        """
        return read_json_object(self.manifest)

    def check_noted(
        self, noted: Container[str], keys: Iterable[str], where: Path
    ) -> None:
        """Refuse a started run without the entries that a resume is compared with.

        Args:
            noted: Names of the entries written when it started.
            keys: Names of the entries that are needed.
            where: The file of the entries.

        Raises:
            IntegrityError: If a key or the structure is missing.
        """
        gone = [f"'{key}' in {where.name}" for key in keys if key not in noted]
        gone += [] if self.structure.is_file() else [self.structure.name]
        if gone:
            msg = f"{self.path} cannot continue: it lacks {', '.join(gone)}, so it"
            msg += " cannot be compared with the run that started; restore the file, or"
            msg += " start a new run"
            raise IntegrityError(msg)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder while the block runs: it has one writer at most.

        The lock ends with the process, however it ends.

        Raises:
            ConfigError: If another process has locked it; its pid is named.
        """
        with hold(self.lock_file, advice="wait for it, stop it, or start another run"):
            yield

    def holder(self) -> int | None:
        """Return the pid of the process that has locked it, None without one."""
        return holder(self.lock_file)


def read_json_object(path: Path) -> dict[str, object]:
    """Return the JSON object in ``path``.

    Raises:
        IntegrityError: If it cannot be read or is another JSON value.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        msg = f"{path}: holds a {type(value).__name__}; want a JSON object"
        raise IntegrityError(msg)
    return value


def _wanted(path: Path) -> str:
    """Return what is wanted in place of a file: the run folder that it lies in."""
    around = (place for place in path.parents if RunFolder(place).manifest.is_file())
    found = next(around, None)
    return "a run folder" if found is None else f"the run folder: {found}"


def _refuse_links(path: Path) -> None:
    """Refuse a folder with links: a resumed run writes into its files.

    Raises:
        IntegrityError: If it has a link, a pipe or a device.
    """
    for item in path.rglob("*"):
        if item.is_symlink() or not (item.is_file() or item.is_dir()):
            msg = f"{item} is a link or not a plain file; a run folder has files and"
            msg += " folders of its own: remove it, or copy what it points at"
            raise IntegrityError(msg)
