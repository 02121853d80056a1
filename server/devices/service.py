"""A server of real devices: Flower's SuperLink, its executor, and runs on them."""

import signal
import sys
import time
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from fedprune.common.config import Config
from fedprune.common.errors import (
    ConfigError,
    DataError,
    FedPruneError,
    IntegrityError,
    RoundError,
)
from fedprune.common.pruning.latency import load_table
from fedprune.common.system.atomic import write_json_atomic
from fedprune.common.system.lock import hold
from fedprune.common.system.paths import make_private_folder
from fedprune.common.system.processes import (
    ALIVE,
    LOCK,
    Process,
    Supervisor,
    environment,
    tail,
)
from fedprune.common.text import at_time, not_installed, printable, without_time
from fedprune.common.trust import named_code, record_code
from fedprune.server.devices.preflight import check_port
from fedprune.server.devices.run_config import resume_command
from fedprune.server.devices.stopped import End, note_stop
from fedprune.server.devices.superlink import Link, parse_address
from fedprune.server.runs.events import (
    Follower,
    RunFinished,
    RunStopped,
    describe,
)
from fedprune.server.runs.events.presence import Presence
from fedprune.server.runs.folder import RunFolder, read_json_object

_START_S = 180.0  # a busy machine takes long to import Flower
_POLL_S = 0.3
_RESTART_S = 2.0
_PICK_UP_S = 90.0  # until Flower is asked whether a run that has not begun still exists
_ATTEMPTS = 3
_QUICK_S = 10.0
_EXIT_CODES: dict[object, type[FedPruneError]] = {
    kind.exit_code: kind
    for kind in (ConfigError, DataError, RoundError, IntegrityError)
}


class Service:
    """A running server; use it as a context.

    Args:
        link: Its SuperLink: address and state folder.
        metrics: "HOST:PORT" of a Prometheus endpoint, or "".
        quiet: Whether nothing is printed while it works.
    """

    def __init__(self, link: Link, *, metrics: str, quiet: bool) -> None:
        self._link = link
        self._metrics = metrics
        self._quiet = quiet
        self._started = 0.0
        self._supervisor = Supervisor(self._policy, link.state / ALIVE)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Start all processes and register the clients.

        Raises:
            ConfigError: If address, port or state folder cannot be used.
            FedPruneError: If it does not start in time.
        """
        self._check()
        with ExitStack() as stack:
            make_private_folder(self._link.state)
            lock = self._link.state / LOCK
            stack.enter_context(hold(lock, advice="want another --state"))
            self._link.prepare()
            stack.enter_context(self._supervisor)
            self._started = time.monotonic()
            self._supervisor.start(self._link.superlink())
            self._wait_for_link()
            self._supervisor.start(self._link.executor())
            if self._metrics:
                self._supervisor.start(self._endpoint())
            fresh = self._link.register()
            self._say(f"serving at {self._link.host}:{self._link.port}")
            if fresh:
                self._say(f"clients registered: {', '.join(fresh)}")
            self._stack = stack.pop_all()
        return self

    def _check(self) -> None:
        """Refuse unusable settings, before anything is started."""
        check_port("--listen", self._link.host, self._link.port)
        if not self._metrics:
            return
        check_port("--metrics", *parse_address("--metrics", self._metrics))
        if find_spec("prometheus_client") is None:
            raise ConfigError(not_installed("--metrics", "prometheus-client", "ops"))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End all processes."""
        self._stack.__exit__(kind, error, trace)

    def wait(self) -> None:
        """Serve until Ctrl-C or SIGTERM; SIGHUP registers new keys."""
        signal.signal(signal.SIGHUP, lambda *_: self._register())
        self._say("waiting for fedprune submit")
        self._supervisor.run(lambda: False)

    def _register(self) -> None:
        """Register new keys; a refused key does not end the server."""
        try:
            fresh = self._link.register()
        except FedPruneError as error:
            self._say(f"no key registered: {error}")
        else:
            self._say(f"clients registered: {', '.join(fresh) or 'no new keys'}")

    def carry_out(self, folder: RunFolder) -> dict[str, object]:
        """Execute the run of a run folder; resume it from its checkpoints when it dies.

        Returns:
            The figures of ``summary.json``.

        Raises:
            FedPruneError: If the run fails, with the exit code of its cause.
        """
        follower = Follower(folder.events)
        follower.skip()
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._say("the run's process ended early; the run is resumed")
            number = self._link.submit(folder.path)
            last = self._follow(folder, follower, number)
            if last is None and self._link.was_stopped(number):
                last = note_stop(folder)  # `fedprune stop` may have been killed
            if last is not None:
                summary = _outcome(folder, last, self._link.state)
                return self._with_traffic(folder, number, summary)
        msg = (
            f"the run's process ended {_ATTEMPTS} times; see "
            f"{self._link.state / 'logs'}; resume with: "
            f"{resume_command(folder.path, 'serve', self._link.state)}"
        )
        raise FedPruneError(msg)

    def _with_traffic(
        self, folder: RunFolder, number: int, summary: dict[str, object]
    ) -> dict[str, object]:
        """Add the transport's byte counts beside our own."""
        up, down = self._link.traffic(number)
        whole = {**summary, "transport_bytes_up": up, "transport_bytes_down": down}
        write_json_atomic(folder.summary, whole)
        return whole

    def _follow(self, folder: RunFolder, follower: Follower, number: int) -> End | None:
        """Print a run's events; return the last, None when it ended without one."""
        started, seen, presence = time.monotonic(), False, Presence()
        while True:
            self._supervisor.check()
            alive = folder.holder() is not None
            for event in follower.new():
                for line in presence.lines(event):
                    self._say(line)
                if isinstance(event, End):
                    return event
            seen = seen or alive
            if not alive and seen:
                return None
            if not seen and time.monotonic() - started > _PICK_UP_S:
                # A busy machine is slow; a second run would block this one.
                if number not in self._link.running():
                    return None
                started = time.monotonic()
            time.sleep(_POLL_S)

    def _wait_for_link(self) -> None:
        end = time.monotonic() + _START_S
        while not self._link.answers():
            self._supervisor.check()
            if time.monotonic() > end:
                msg = f"the SuperLink did not come up within {_START_S:g} s"
                raise FedPruneError(msg)
            time.sleep(_POLL_S)

    def _policy(self, process: Process, code: int) -> float:
        """Restart policy: restart a process, unless it never came up."""
        if time.monotonic() - self._started < _QUICK_S and process.name == "superlink":
            msg = f"{process.name} ended with {code}: {_last_line(process.log)}"
            raise FedPruneError(msg)
        self._say(f"{process.name} ended with {code}; it is restarted")
        return _RESTART_S

    def _endpoint(self) -> Process:
        return Process(
            name="metrics",
            command=(
                # -P: nothing is imported from the working folder.
                *(sys.executable, "-P", "-m", "fedprune.server.devices.metrics"),
                *(self._metrics, str(self._link.state)),
            ),
            environment=environment(self._link.home),
            log=self._link.state / "logs" / "metrics.log",
        )

    def _say(self, text: str) -> None:
        if not self._quiet:
            print(at_time(text), flush=True)  # noqa: T201 - the server's own output


def new_folder(config: Config, state: Path) -> RunFolder:
    """Make the folder of a run that is to be submitted to the server of ``state``."""
    folder = RunFolder.create(
        Path(config.run.dir),
        config.run.name,
        config=config,
        latency=load_table(config),
    )
    for where in (None, state):
        record_code(folder.run_id, named_code(config), where)
    return folder


def _outcome(folder: RunFolder, last: End, state: Path) -> dict[str, object]:
    if isinstance(last, RunFinished):
        return read_json_object(folder.summary)
    if isinstance(last, RunStopped):
        command = resume_command(folder.path, "serve", state)
        msg = f"{describe(last)}; resume with: {command}"
        raise FedPruneError(msg)
    kind = _EXIT_CODES.get(last.exit_code, FedPruneError)
    why = printable(last.text)
    if kind in {FedPruneError, RoundError}:  # a resume cannot mend any other
        why += f"; resume with: {resume_command(folder.path, 'serve', state)}"
    raise kind(why)


def _last_line(log: Path | None) -> str:
    lines = [line for line in tail(log).splitlines() if line.strip()]
    return without_time(lines[-1]) if lines else "no output"
