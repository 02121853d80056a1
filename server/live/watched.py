"""A run as a live page is told it: followed in its event log, never in its rounds."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from fedprune.common.errors import FedPruneError
from fedprune.common.text import error_line, fit_to_print
from fedprune.server.report import BROKEN, page
from fedprune.server.report.data import live_run
from fedprune.server.report.parts import Document, Panel
from fedprune.server.report.single import single
from fedprune.server.runs.events import ClientAnswered, Event, Follower
from fedprune.server.runs.folder import RunFolder

Source: TypeAlias = Callable[[], Path | None]

_ANSWERS_S = 5.0  # answers alone, without the end of a round, are shown this seldom
_MOST_SPACE_S = 0.9  # between two documents; a round must be seen within 2 s
_SHARE = 0.015  # of the time that the making of documents may take
_MOST_ROUNDS = 50  # rows: the report has all
_WAITING = Document(
    title="No run yet",
    about="This page shows a run as soon as it starts.",
    state="waiting",
    ended=False,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The state of a run, as a page is told it.

    Attributes:
        document: The document.
        tag: Differs when the document does.
        body: The JSON of it.
    """

    document: Document
    tag: str
    body: bytes


class Watched:
    """The run that a page shows; none at first."""

    def __init__(self) -> None:
        self._source: Source = lambda: None
        self._log: _Log | None = None
        self._markup = _Markup()
        self._told = self._markup.tell(_WAITING)
        self._made_at, self._cost = 0.0, 0.0

    def follow(self, source: Source) -> None:
        """Show the run of a folder from now on.

        Args:
            source: Returns the folder, None as long as there is none; asked again each
                time, for a server has one run after the other.
        """
        self._source = source

    def told(self) -> Told:
        """Return the run as it is now, but for what came a moment ago."""
        try:
            path = self._source()
            if path is None:
                return self._told
            if self._log is None or self._log.folder.path != path:
                self._log = _Log(RunFolder(path))
            self._log.read()
            if self._log.is_due(self._made_at, self._cost):
                self._make(self._log)
        except (FedPruneError, OSError, *BROKEN) as error:
            note = f"the run cannot be shown: {error_line(error)}"
            if note not in self._told.document.notes:
                notes = [*self._told.document.notes, note]
                document = replace(self._told.document, notes=notes)
                self._told = self._markup.tell(document)
        return self._told

    def _make(self, log: "_Log") -> None:
        began = time.thread_time()
        log.shown = len(log.events)  # one that fails is tried again with the next event
        try:
            document = single(live_run(log.folder, log.events), rounds=_MOST_ROUNDS)
            self._told = self._markup.tell(document)
        finally:
            self._cost = time.thread_time() - began
            self._made_at = time.monotonic()


class _Log:
    """The events of one run, read as far as they are written."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.events: list[Event] = []
        self.shown = -1  # events that the last document was made of
        self._follower = Follower(folder.events)
        self._file = 0

    def read(self) -> None:
        """Read what is new; all of it when the log was rewritten, as by a resume."""
        try:
            found = self.folder.events.stat().st_ino
        except FileNotFoundError:
            return
        if found != self._file:
            self._file, self.events, self.shown = found, [], -1
            self._follower = Follower(self.folder.events)
        self.events += map(fit_to_print, self._follower.new())

    def is_due(self, made_at: float, cost: float) -> bool:
        """Return whether there is something new that is worth a document."""
        if self.shown < 0:
            return True
        fresh = self.events[self.shown :]
        passed = time.monotonic() - made_at
        if all(isinstance(event, ClientAnswered) for event in fresh):
            return bool(fresh) and passed >= _ANSWERS_S
        return passed >= min(cost / _SHARE, _MOST_SPACE_S)


class _Markup:
    """Makes what a page is told; the markup of parts that are as before is kept."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Panel, str]] = {}

    def tell(self, document: Document) -> Told:
        """Return what a page is told of a document."""
        parts = {part.name: self._part(part) for part in document.parts}
        content = {
            "title": document.title,
            "ended": document.ended,
            "order": [part.name for part in document.parts],
            "half": [part.name for part in document.parts if part.half],
            "parts": {"head": page.head(document), **parts},
            "figures": document.charts,
        }
        text = json.dumps(content, ensure_ascii=False, allow_nan=False)
        body = text.encode(errors="replace")
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        return Told(document=document, tag=tag, body=body)

    def _part(self, part: Panel) -> str:
        # Its markup has the place of a plot, and not its figures.
        bare = None if part.chart is None else replace(part.chart, views={})
        shown = replace(part, chart=bare)
        known = self._known.get(part.name)
        if known is None or known[0] != shown:
            known = self._known[part.name] = (shown, page.part(part))
        return known[1]
