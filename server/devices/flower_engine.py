"""Engine on Flower's grid, one client a node: enrolment, rounds, delivery."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from fedprune.common import codec
from fedprune.common.aggregate import Accumulator
from fedprune.common.codec import Expected
from fedprune.common.config import Config
from fedprune.common.errors import ConfigError, RoundError
from fedprune.common.flower.payload import (
    ARRAY,
    DELIVER,
    HELLO,
    RECORD,
    RUN,
    STRUCTURE,
    about_run,
    check_client_name,
    payload_array,
)
from fedprune.server.devices.replies import (
    UNSENT,
    Reply,
    arrived,
    count_of,
    has_lost,
    payload,
    said,
    send,
    share_of,
    unreadable,
)
from fedprune.server.rounds.answers import (
    accept_answer,
    failure,
    late_answer,
    refusal,
)
from fedprune.server.rounds.engine import (
    Assignment,
    IndividualUpdate,
    PartialAggregate,
    RoundRequest,
    RoundWork,
    decoded_update,
)
from fedprune.server.rounds.records import ClientRecord
from fedprune.server.rounds.waiting.arrivals import Arrivals
from fedprune.server.rounds.waiting.late import LateUpdate, late_update, network_of
from fedprune.server.runs.events import ClientsConnected, EventLog, NetworkDelivered

_POLL_S = 0.2
_HELLO_S = 120.0
_DELIVER_S = 600.0  # where rounds.deadline_s is 0
_ROUNDS_BEHIND = 8  # rounds whose late answers are looked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """A client that has enrolled.

    Attributes:
        node: Its node id.
        examples: Number of training examples that it states, >= 0; the upper limit of
            its weight in the aggregation.
    """

    node: int
    examples: int


def enrol(
    grid: Grid,
    config: Config,
    log: EventLog,
    owners: Mapping[int, str] | None = None,
    labels: tuple[str, ...] = (),
) -> dict[str, Enrolled]:
    """Wait for as many nodes as there are clients; ask each which client it is.

    Args:
        grid: Flower's grid.
        config: Of the run: number of clients, ``rounds.enrol_s``, their data split.
        log: Event log; gets an event as clients enrol.
        owners: Node id -> client whose key it has; None where nodes have no keys.
        labels: Names of the classes, by which nodes number theirs or refuse; () = none.

    Returns:
        Client id -> node.  A node that poses as another client is left out.

    Raises:
        RoundError: If too few nodes enrol in time.
    """
    limit, count = config.rounds.enrol_s, config.task.clients
    end = time.monotonic() + limit
    about = ConfigRecord({**about_run(config, labels)})
    found: dict[str, Enrolled] = {}
    refused: dict[int, str] = {}
    away: dict[int, str] = {}
    said: ClientsConnected | None = None
    while len(found) < count:
        # A node that did not answer in time, or was away, is asked again.
        asked = {client.node for client in found.values()} | set(refused)
        fresh = sorted(set(grid.get_node_ids()) - asked)
        for node, reply in _greet(grid, fresh, about):
            if reply.away:
                away[node] = f"node {node}: {reply.reason}"
                continue
            away.pop(node, None)
            try:
                name, client = _client(node, reply, owners)
            except Exception as error:  # whatever the node has put into it
                refused[node] = f"node {node}: {unreadable(error)}"
                continue
            if found.setdefault(name, client).node != node:
                refused[node] = f"node {node}: another node is client '{name}' already"
        reasons = [*refused.values(), *away.values()]
        now = ClientsConnected(
            connected=tuple(sorted(found)), wanted=count, refused=tuple(sorted(reasons))
        )
        if fresh and now != said:
            log.write(now)
            said = now
        if time.monotonic() > end:
            why = "".join(f"; {text}" for text in reasons)
            msg = (
                f"{len(found)} of {count} clients (task.clients) connected within "
                f"{limit:g} s (rounds.enrol_s): {sorted(found)}{why}"
            )
            raise RoundError(msg)
        time.sleep(_POLL_S)
    return found


def _greet(
    grid: Grid, nodes: list[int], about: ConfigRecord
) -> Iterator[tuple[int, Reply]]:
    """Ask nodes for their client ids; yield each node with its reply."""
    if not nodes:
        return
    messages = [
        Message(RecordDict({RUN: about}), node, f"query.{HELLO}") for node in nodes
    ]
    sent = zip(send(grid, messages), nodes, strict=True)
    waiting = {number: node for number, node in sent if number is not None}
    end = time.monotonic() + _HELLO_S
    while waiting and time.monotonic() < end:
        for reply in arrived(grid, waiting):
            yield waiting.pop(reply.number), reply
        time.sleep(_POLL_S if waiting else 0.0)


def _client(
    node: int, reply: Reply, owners: Mapping[int, str] | None
) -> tuple[str, Enrolled]:
    """Return the client id that a node states, and its enrolment.

    Raises:
        ConfigError: If the id is missing or invalid, the number of examples is missing,
            or the node's key is that of another client.
    """
    if reply.message is None:
        raise ConfigError(reply.reason)
    values = said(reply.message)
    name, examples = values.get("client-id"), values.get("examples")
    if not isinstance(name, str):
        msg = "it does not state its client id"
        raise ConfigError(msg)
    check_client_name(name)
    if type(examples) is not int or examples < 0:
        msg = f"client '{name}' does not state its number of examples"
        raise ConfigError(msg)
    if owners is not None and owners.get(node) != name:
        key = owners.get(node, "no client")
        msg = f"it states the client id '{name}'; its key is that of {key!r}"
        raise ConfigError(msg)
    return name, Enrolled(node=node, examples=examples)


def deliver(
    grid: Grid,
    nodes: Mapping[str, int],
    structure_json: bytes,
    blob: bytes,
    *,
    config: Config,
) -> list[NetworkDelivered]:
    """Send every client the final network of the run.

    Args:
        grid: Flower's grid.
        nodes: Client id -> node id.
        structure_json: The structure.
        blob: The encoded broadcast.
        config: Of the run: ``rounds.deadline_s``, 0 = 600 s, and the clients' data
            split.

    Returns:
        What became of it, for each client in order; where noise hides clients without
        what they measured, which has none.
    """
    arrays = ArrayRecord(
        {
            ARRAY: payload_array(blob, Array),
            STRUCTURE: payload_array(structure_json, Array),
        }
    )
    about = ConfigRecord({**about_run(config)})
    names = {node: name for name, node in nodes.items()}
    messages = [
        Message(RecordDict({RECORD: arrays, RUN: about}), node, f"query.{DELIVER}")
        for node in names
    ]
    size = len(blob) + len(structure_json)
    results = {name: _undelivered(name, size, "no answer") for name in nodes}
    waiting: dict[str, str] = {}
    for number, name in zip(send(grid, messages), names.values(), strict=True):
        if number is None:
            results[name] = _undelivered(name, size, UNSENT)
        else:
            waiting[number] = name
    end = time.monotonic() + (config.rounds.deadline_s or _DELIVER_S)
    while waiting and time.monotonic() < end:
        for reply in arrived(grid, waiting):
            name = waiting.pop(reply.number)
            results[name] = _delivered(name, size, reply)
        time.sleep(_POLL_S)
    found = [results[name] for name in sorted(results)]
    if not config.privacy.hides_clients:
        return found
    return [replace(one, examples=None, accuracy=None) for one in found]


def _delivered(name: str, size: int, reply: Reply) -> NetworkDelivered:
    """Return a client's figures of the delivered network."""
    if reply.message is None:
        return _undelivered(name, size, reply.reason)
    try:
        values = said(reply.message)
        examples, accuracy = count_of(values, "examples"), share_of(values, "accuracy")
    except Exception as error:  # whatever the client has put into it
        return _undelivered(name, size, unreadable(error))
    return NetworkDelivered(
        client=name, bytes_down=size, examples=examples, accuracy=accuracy
    )


def _undelivered(name: str, size: int, why: str) -> NetworkDelivered:
    return NetworkDelivered(client=name, bytes_down=size, reason=why)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Behind:
    """A message whose round has closed without the answer.

    Attributes:
        round: The round.
        network: The network that it trains.
        assignment: The client.
        length: Length of the message, bytes.
        expected: Properties of a valid answer.
    """

    round: int
    network: bytes
    assignment: Assignment
    length: int
    expected: Expected


class FlowerEngine:
    """Asks one client through each Flower node; answers are aggregated as they come.

    Where late answers are used, those of the last rounds are looked for in the next
    ones; a server that starts again has forgotten them.

    Args:
        grid: Flower's grid.
        nodes: Client id -> node id.
    """

    def __init__(self, grid: Grid, nodes: Mapping[str, int]) -> None:
        self._grid = grid
        self._nodes = nodes
        self._behind: dict[str, _Behind] = {}

    def ask(self, work: RoundWork) -> Iterator[PartialAggregate]:
        """Ask every client and yield one partial aggregate of all answers in time.

        The round closes by the rule of ``server/rounds/waiting/closing.py``.  What is
        there at the first poll after its end still counts: a server that is busy with
        some answers makes no others late.
        """
        request = work.request
        total = Accumulator(work.spec.size, request.limits)
        arrivals = Arrivals(work)
        individual_updates: list[IndividualUpdate] = []
        started = time.monotonic()
        waiting = self._send(work, arrivals)
        self._forget(work)
        came: list[LateUpdate] = []
        over = False
        while not over:
            elapsed = time.monotonic() - started
            now = min(elapsed, arrivals.closing.seconds)
            for reply in arrived(self._grid, waiting):
                assignment, length = waiting.pop(reply.number)
                data, lost, record = _payload(
                    reply, assignment, length, request.max_bytes
                )
                delta = None
                if record is None:
                    record, delta = accept_answer(
                        data,
                        work.expected(assignment),
                        total,
                        bytes_down=length,
                        seconds=now,
                    )
                arrivals.add(replace(record, residual_lost=lost), now)
                if request.individual_updates and delta is not None:
                    individual = decoded_update(record.client_id, delta)
                    individual_updates.append(individual)
                if arrivals.complete:
                    break  # before a reply is pulled that would not count
            came += self._late(request)
            over = arrivals.complete or elapsed > arrivals.closing.seconds
            time.sleep(0.0 if over else _POLL_S)
        closing = arrivals.closing
        late = [
            late_answer(assignment.client_id, closing, work.patience, length)
            for assignment, length in waiting.values()
        ]
        if request.uses_late:
            self._remember(work, waiting)
        yield PartialAggregate(
            records=(*arrivals.records, *late),
            total=total,
            individual_updates=tuple(individual_updates),
            closing=closing,
            arrived=tuple(came),
        )

    def _remember(
        self, work: RoundWork, waiting: Mapping[str, tuple[Assignment, int]]
    ) -> None:
        """Keep what is needed to read the answers that a round did not wait for."""
        for number, (assignment, length) in waiting.items():
            self._behind[number] = _Behind(
                round=work.plan.round,
                network=network_of(work.plan),
                assignment=assignment,
                length=length,
                expected=work.expected(assignment),
            )

    def _forget(self, work: RoundWork) -> None:
        """Forget the answers that this round cannot use, and those of long ago."""
        asked = {one.client_id for one in work.request.assignments}
        network, oldest = network_of(work.plan), work.plan.round - _ROUNDS_BEHIND
        self._behind = {
            number: one
            for number, one in self._behind.items()
            if one.network == network
            and one.round >= oldest
            and one.assignment.client_id not in asked
        }

    def _late(self, request: RoundRequest) -> Iterator[LateUpdate]:
        """Yield the valid answers of earlier rounds that have arrived."""
        for reply in arrived(self._grid, self._behind):
            one = self._behind.pop(reply.number)
            data, lost, record = _payload(
                reply, one.assignment, one.length, request.max_bytes
            )
            if record is not None:
                continue
            scratch = Accumulator(one.expected.side_info.layout.size, request.limits)
            record, delta = accept_answer(
                data, one.expected, scratch, bytes_down=one.length, seconds=0.0
            )
            if delta is not None:
                record = replace(record, residual_lost=lost)
                yield late_update(record, delta, one.round, one.network)

    def _send(
        self, work: RoundWork, arrivals: Arrivals
    ) -> dict[str, tuple[Assignment, int]]:
        """Send each client its plan; return message id -> (assignment, length).

        A client whose message Flower does not accept has failed.
        """
        messages, assignments = [], []
        request, group = work.request, str(work.plan.round)
        for assignment in request.assignments:
            blob = codec.address_plan(
                request.variants[assignment.variant],
                assignment.client_id,
                assignment.acknowledged,
            )
            content = RecordDict(
                {RECORD: ArrayRecord({ARRAY: payload_array(blob, Array)})}
            )
            node = self._nodes[assignment.client_id]
            messages.append(Message(content, node, "train", group_id=group))
            assignments.append((assignment, len(blob)))
        waiting = {}
        for number, sent in zip(send(self._grid, messages), assignments, strict=True):
            if number is None:
                arrivals.add(failure(sent[0].client_id, UNSENT, 0), 0.0)
            else:
                waiting[number] = sent
        return waiting


def _payload(
    reply: Reply, assignment: Assignment, length: int, max_bytes: int
) -> tuple[bytes, bool, ClientRecord | None]:
    """Return the bytes of a reply, whether the client's residual is lost, and None.

    For an unusable reply, return a record with the reason instead of None.
    """
    if reply.failed:
        return b"", False, failure(assignment.client_id, reply.reason, length)
    if reply.message is None:
        return b"", False, refusal(assignment.client_id, reply.reason, b"", length)
    try:
        data = payload(reply.message, max_bytes)
        return data, has_lost(reply.message, assignment.acknowledged), None
    except Exception as error:  # whatever the client has put into it
        return b"", False, refusal(assignment.client_id, unreadable(error), b"", length)
