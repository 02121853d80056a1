"""The folder of a proof of concept: places of its files, and what it was made with."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fedprune.common.data.partition import client_ids
from fedprune.common.errors import ConfigError, IntegrityError
from fedprune.common.system.atomic import write_json_atomic
from fedprune.common.system.paths import make_private_folder
from fedprune.server.runs.folder import RunFolder, read_json_object

FORMAT = "fedprune-poc/1"
_DATA, _CLIENTS = "digits", 3
# Keys that have an option of their own.
_OPTIONS = {"task.clients": "--clients N", "task.data": "--data SOURCE"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of a proof of concept, as it is made.

    Attributes:
        clients: Number of devices, >= 1.
        data: Data source that is dealt out to them, as ``task.data``.
        overrides: "key=value" texts that replace keys of its configuration.
    """

    clients: int = _CLIENTS
    data: str = _DATA
    overrides: tuple[str, ...] = ()

    @property
    def ids(self) -> list[str]:
        """Names of the devices: those of the clients of a simulation."""
        return client_ids(self.clients)


@dataclass(frozen=True, slots=True)
class PocFolder:
    """Paths of the files of a proof of concept.

    Attributes:
        path: The folder, absolute.
    """

    path: Path

    @property
    def settings(self) -> Path:
        """Its settings; a folder that has them is one of ``fedprune poc``."""
        return self.path / "poc.json"

    @property
    def lock(self) -> Path:
        """Held while it works."""
        return self.path / "lock"

    @property
    def config(self) -> Path:
        """Configuration of the server and of every device."""
        return self.path / "fedprune.toml"

    @property
    def instructions(self) -> Path:
        """Instructions: files and commands of each real machine."""
        return self.path / "README.md"

    @property
    def certs(self) -> Path:
        """Certificates of the server, and a folder of keys for each device."""
        return self.path / "certs"

    @property
    def data(self) -> Path:
        """A file of examples for each device."""
        return self.path / "data"

    @property
    def server(self) -> Path:
        """State folder of the server."""
        return self.path / "server"

    @property
    def runs(self) -> Path:
        """Folder of the run folders."""
        return self.path / "runs"

    def examples(self, name: str) -> Path:
        """Return the file of a device's examples."""
        return self.data / f"{name}.npz"

    def keys(self, name: str) -> Path:
        """Return the folder of a device's keys."""
        return self.certs / "clients" / name

    def device(self, name: str) -> Path:
        """Return the state folder of a device."""
        return self.path / "devices" / name

    def log(self, name: str) -> Path:
        """Return the file of what a process has printed."""
        return self.path / "logs" / f"{name}.log"

    def last_run(self) -> RunFolder | None:
        """Return the run that was started last, None before the first.

        Raises:
            IntegrityError: If it cannot be read.
        """
        found = sorted(self.runs.glob("*/manifest.json"))
        return RunFolder.open(found[-1].parent) if found else None


def open_folder(
    path: Path,
    *,
    clients: int | None,
    data: str | None,
    overrides: Sequence[str],
) -> tuple[PocFolder, Settings]:
    """Return the folder of a proof of concept with its settings; made when absent.

    Args:
        path: The folder.
        clients: Number of devices; None = as before, else three.
        data: Data source; None = as before, else the digits.
        overrides: Keys of its configuration that are replaced.

    Raises:
        ConfigError: If the folder has other content, or was made with other settings,
            or an override has an option of its own.
        IntegrityError: If its settings cannot be read.
    """
    _check_overrides(overrides)
    folder = PocFolder(path.resolve())
    if folder.settings.is_file():
        made = _read(folder.settings)
        wanted = Settings(
            clients=made.clients if clients is None else clients,
            data=made.data if data is None else data,
            overrides=tuple(overrides) or made.overrides,
        )
        if wanted != made:
            msg = (
                f"{path} was made with {_shown(made)}; want the same, or another folder"
            )
            raise ConfigError(msg)
        return folder, made
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        msg = f"{path} exists and was not made by fedprune poc; want another folder"
        raise ConfigError(msg)
    settings = Settings(
        clients=_CLIENTS if clients is None else clients,
        data=data or _DATA,
        overrides=tuple(overrides),
    )
    return folder, settings


def _check_overrides(overrides: Sequence[str]) -> None:
    """Refuse keys that devices, keys and data parts follow from.

    Raises:
        ConfigError: With the option that sets them.
    """
    for text in overrides:
        key = text.partition("=")[0].strip()
        if key in _OPTIONS:
            msg = f"--set {text}: keys and data parts would not follow; want "
            msg += f"{_OPTIONS[key]} in its place"
            raise ConfigError(msg)


def keep_settings(folder: PocFolder, settings: Settings) -> None:
    """Make the folder, and write down what it is made with."""
    make_private_folder(folder.path)
    write_json_atomic(folder.settings, {"format": FORMAT, **asdict(settings)})


def _read(path: Path) -> Settings:
    found = read_json_object(path)
    clients, data, overrides = (found.get(k) for k in ("clients", "data", "overrides"))
    if (
        found.get("format") == FORMAT
        and type(clients) is int
        and clients >= 1
        and isinstance(data, str)
        and isinstance(overrides, list)
    ):
        texts = tuple(map(str, overrides))
        return Settings(clients=clients, data=data, overrides=texts)
    msg = f"{path}: not the settings of fedprune poc; want another folder"
    raise IntegrityError(msg)


def _shown(settings: Settings) -> str:
    words = [f"--clients {settings.clients}", f"--data {settings.data}"]
    return " ".join([*words, *(f"--set {text}" for text in settings.overrides)])
