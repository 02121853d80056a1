"""The Flower app of the server: the same rounds, one client for each node."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from common import codec
from common.aggregate import Accumulator
from common.app_config import read_app_config
from common.atomic import write_json_atomic
from common.config import config_to_toml
from common.errors import PayloadError, RoundError
from common.files import write_plan_file
from common.messages import (
    ClientRecord,
    ModelSpec,
    RoundPlan,
    Status,
    Vector,
    digest_of,
)
from common.models.flat import get_weights
from common.pruning.trace import find_structure
from common.task import Task
from common.transport import ARRAY, HELLO, RECORD, STYPE, check_payload
from server.accept import accept_answer, failure, refusal
from server.asking import Asking, Order, Part, expect
from server.events import EventLog
from server.federation import run_federation
from server.runfolder import RunFolder
from server.state import model_sha256

app = ServerApp()

_POLL_S = 0.1
_ENROL_S = 300.0
_HELLO_S = 60.0


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Enrol the clients, run the federation, leave its folder."""
    config = read_app_config(context.run_config)
    task = Task(config)
    clients = enrol(grid, task.clients)
    structure = find_structure(
        task.build_model(), task.example(), ignore=config.task.ignore
    )
    folder = RunFolder.create(
        Path(str(context.run_config.get("run-dir") or config.run.dir)),
        config.run.name,
        config=config_to_toml(config),
    )
    folder.structure.write_bytes(structure.to_json())
    with folder.locked(), EventLog(folder.events) as log:
        log.write("run_started", run_id=folder.run_id, clients=len(clients))
        state, final = run_federation(
            name="main",
            config=config,
            clients=task.clients,
            structure=structure,
            weights=get_weights(task.build_model()),
            folder=folder,
            engine=GridEngine(grid, clients),
            log=log,
            evaluate=None,
            token=digest_of(folder.run_id.encode()).hex()[:16],
        )
        summary = {
            "rounds": state.round,
            "bytes_up": state.totals.bytes_up,
            "bytes_down": state.totals.bytes_down,
            "refused": state.totals.refused,
            "model_sha256": model_sha256(final),
        }
        write_plan_file(folder.plan, final.plan, structure)
        write_json_atomic(folder.summary, summary)
        log.write("run_finished", summary=summary)


def enrol(grid: Grid, wanted: Sequence[str]) -> dict[str, int]:
    """Wait for as many nodes as there are clients; ask each which client it is.

    Returns:
        Client id -> node id.

    Raises:
        RoundError: If too few nodes come, or they are not the clients of the run.
    """
    end = time.monotonic() + _ENROL_S
    while len(nodes := sorted(grid.get_node_ids())) < len(wanted):
        if time.monotonic() > end:
            msg = (
                f"{len(nodes)} of {len(wanted)} clients (task.clients) connected "
                f"within {_ENROL_S:g} s"
            )
            raise RoundError(msg)
        time.sleep(_POLL_S)
    messages = [Message(RecordDict(), node, f"query.{HELLO}") for node in nodes]
    found: dict[str, int] = {}
    for reply in grid.send_and_receive(messages, timeout=_HELLO_S):
        if reply.has_error():
            continue
        name = str(reply.content.config_records[RECORD]["client-id"])
        if name in found:
            msg = f"two nodes say that they are client '{name}'; give each its own id"
            raise RoundError(msg)
        found[name] = reply.metadata.src_node_id
    if missing := sorted(set(wanted) - set(found)):
        msg = f"no node is client {', '.join(missing)}; there are {sorted(found)}"
        raise RoundError(msg)
    return {name: found[name] for name in wanted}


class GridEngine:
    """Asks one client through each Flower node; answers are added as they come.

    Args:
        grid: Flower's grid.
        nodes: Client id -> node id.
    """

    def __init__(self, grid: Grid, nodes: dict[str, int]) -> None:
        self._grid = grid
        self._nodes = nodes

    def ask(
        self, asking: Asking, plan: RoundPlan, spec: ModelSpec, weights: Vector
    ) -> Iterator[Part]:
        """Ask every client and yield one part with all that came in time."""
        total = Accumulator(spec.size, spec.moments, asking.limits)
        records: list[ClientRecord] = []
        singles: list[tuple[str, bytes]] = []
        started = time.monotonic()
        sent = self._send(asking)
        waiting = dict(sent)
        while waiting and time.monotonic() - started < asking.deadline_s:
            for reply in self._grid.pull_messages(list(waiting)):
                order, length = waiting.pop(reply.metadata.reply_to_message_id)
                expected = expect(plan, spec, weights, asking, order.client_id)
                data, record = _payload(reply, order, length, asking.max_bytes)
                if record is None:
                    record, _ = accept_answer(
                        data,
                        expected,
                        total,
                        bytes_down=length,
                        seconds=time.monotonic() - started,
                    )
                records.append(record)
                if asking.singles and record.status is Status.ACCEPTED:
                    singles.append((order.client_id, data))
            time.sleep(_POLL_S)
        for order, length in waiting.values():
            why = f"no answer within {asking.deadline_s:g} s"
            records.append(failure(order.client_id, why, length))
        yield Part(records=tuple(records), total=total, singles=tuple(singles))

    def _send(self, asking: Asking) -> dict[str, tuple[Order, int]]:
        """Send each client its plan; return message id -> (order, length)."""
        messages, orders = [], []
        for order in asking.orders:
            blob = codec.address_plan(
                asking.variants[order.variant], order.client_id, order.acknowledged
            )
            array = Array("uint8", (len(blob),), STYPE, blob)
            content = RecordDict({RECORD: ArrayRecord({ARRAY: array})})
            node = self._nodes[order.client_id]
            messages.append(Message(content, node, "train", group_id=str(asking.round)))
            orders.append((order, len(blob)))
        return dict(zip(self._grid.push_messages(messages), orders, strict=True))


def _payload(
    reply: Message, order: Order, length: int, max_bytes: int
) -> tuple[bytes, ClientRecord | None]:
    """Return the bytes of a reply, or the record of why there are none."""
    if reply.has_error():
        return b"", failure(order.client_id, str(reply.error.reason), length)
    try:
        array = reply.content.array_records[RECORD][ARRAY]
        return check_payload(array.stype, array.data, max_bytes), None
    except (KeyError, PayloadError) as error:
        return b"", refusal(order.client_id, str(error), b"", length)
