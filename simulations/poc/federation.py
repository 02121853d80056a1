"""The processes of a proof of concept: started, watched, ended in order."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fedprune.common.errors import (
    ConfigError,
    DataError,
    FedPruneError,
    IntegrityError,
    RoundError,
)
from fedprune.common.system.lock import hold, holder
from fedprune.common.system.logs import NewLines
from fedprune.common.system.processes import LOCK, Process, Supervisor
from fedprune.common.text import without_time
from fedprune.server.runs.folder import RunFolder
from fedprune.simulations.poc import commands
from fedprune.simulations.poc.folder import PocFolder, Settings

_RESTART_S = 2.0
_LEFT_S = 20.0  # until the processes of a killed call have ended
_POLL_S = 0.2
_KINDS: dict[int, type[FedPruneError]] = {
    kind.exit_code: kind
    for kind in (ConfigError, DataError, RoundError, IntegrityError)
}
# Another start of a device would end the same way.
_HOPELESS = (ConfigError.exit_code, DataError.exit_code)
_ADVICE = "; resume with: "
_ERROR, _WARNING = (
    "error: ",
    "warning: ",
)  # of what devices print; the rest is in their logs

Show = Callable[[str], None]


@dataclass(slots=True, kw_only=True)
class Federation:
    """One run of a server and its devices on this machine.

    Attributes:
        folder: Folder of all files, which are made.
        settings: What it was made with.
        port: Free port of the loopback for the server.
        show: Prints one line of the progress.
    """

    folder: PocFolder
    settings: Settings
    port: int
    show: Show
    _ended: int | None = None
    _errors: dict[str, str] = field(default_factory=dict)
    _lines: dict[str, NewLines] = field(default_factory=dict)

    def carry_out(self, unfinished: RunFolder | None) -> RunFolder:
        """Carry out one run to its end, and end all processes.

        Args:
            unfinished: A stopped run that is resumed; None = a new one.

        Returns:
            The run.

        Raises:
            FedPruneError: If it fails, with the exit code of its cause.
            KeyboardInterrupt: If it is interrupted; all processes have ended then.
        """
        with self._alone():
            names = (commands.SERVER, *self.settings.ids)
            self._lines = {name: NewLines(self.folder.log(name)) for name in names}
            with Supervisor(self._policy) as supervisor:
                supervisor.start(commands.server(self.folder, self.port, unfinished))
                for name in self.settings.ids:
                    supervisor.start(commands.device(self.folder, self.port, name))
                supervisor.run(self._is_over)
            self._forward()
        if self._ended:
            raise self._failure(commands.SERVER, self._ended)
        found = self.folder.last_run()
        if found is None:
            msg = f"the server has left no run in {self.folder.runs}"
            raise FedPruneError(msg)
        return found

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the folder, once the processes of a killed call have left it."""
        with hold(self.folder.lock, advice="one call at a time works in a folder"):
            own = self.folder
            states = [own.server, *(own.device(name) for name in self.settings.ids)]
            end = time.monotonic() + _LEFT_S
            for state in states:
                while (pid := holder(state / LOCK)) is not None:
                    if time.monotonic() > end:
                        msg = f"{state} is in use by process {pid}; end it first"
                        raise ConfigError(msg)
                    time.sleep(_POLL_S)
            yield

    def _is_over(self) -> bool:
        self._forward()
        return self._ended is not None

    def _forward(self) -> None:
        """Show what the server prints, and the warnings of devices; note errors."""
        for name, lines in self._lines.items():
            for line in lines.read():
                text = without_time(line)
                if text.startswith(_ERROR):
                    self._errors[name] = text.removeprefix(_ERROR)
                elif name == commands.SERVER:
                    self.show(line)
                elif text.startswith(_WARNING):
                    self.show(f"{name}: {line}")

    def _policy(self, process: Process, code: int) -> float:
        """Restart a device that dies, as a service manager would.

        Raises:
            FedPruneError: If another start would end the same way.
        """
        self._forward()
        if process.name == commands.SERVER:
            self._ended = code
            return math.inf
        if code == 0:
            return math.inf
        if code in _HOPELESS:
            raise self._failure(process.name, code)
        why = self._errors.pop(process.name, f"it ended with {code}")
        self.show(f"{process.name}: {why}; it is restarted")
        return _RESTART_S

    def _failure(self, name: str, code: int) -> FedPruneError:
        """Return the error of a process that ended."""
        said = self._errors.get(name, "").partition(_ADVICE)[0]
        why = said or f"it ended with {code}"
        msg = f"{name}: {why}; its log: {self.folder.log(name)}"
        return _KINDS.get(code, FedPruneError)(msg)
