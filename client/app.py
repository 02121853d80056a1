"""The Flower app of one client: bytes out of a message, a round, bytes into a message.

A device says in its own node configuration who it is and where its data is
(``client-id``, ``config``, ``data``, ``share``, ``state-dir``), and takes nothing of
that from the server.  A simulated node plays the client of its number
(``partition-id``) with the run's configuration.
"""

import json
from pathlib import Path

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedprune.client.device import node
from fedprune.client.device import task as device
from fedprune.client.rounds.judge import sample_of
from fedprune.client.rounds.opened import open_plan
from fedprune.client.rounds.round import run_round
from fedprune.client.rounds.store import ClientStore
from fedprune.client.rounds.workbench import Workbench
from fedprune.common import codec
from fedprune.common.data.partition import client_ids
from fedprune.common.errors import ConfigError
from fedprune.common.flower.payload import (
    ARRAY,
    DELIVER,
    HELLO,
    LOST,
    NOTES,
    RECORD,
    STRUCTURE,
    STYPE,
    check_payload,
)
from fedprune.common.flower.run_config import read_app_config
from fedprune.common.task import Task

app = ClientApp()

# A node may be served by a fresh process for each message; where it is not, networks
# and data stay built.
_benches: dict[str, Workbench] = {}
_plans: dict[Path, bytes] = {}  # state folder -> the plan that was evaluated last


@app.query(HELLO)
def hello(message: Message, context: Context) -> Message:
    """Tell the server which client this node is."""
    name = _client_id(context)
    held = len(_bench(context).data(name).train)
    answer = ConfigRecord({"client-id": name, "examples": held})
    return Message(RecordDict({RECORD: answer}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer one plan."""
    torch.set_num_threads(1)
    bench = _bench(context)
    plan = codec.decode_plan(
        _read(message, ARRAY, bench.task),
        bench.task.config.update.max_bytes,
        max_weights=bench.size,
    )
    root, name = _root(context), _client_id(context)
    if not (root / plan.run_id).exists():
        device.drop_old_runs(root, plan.run_id)
    store = ClientStore(root / plan.run_id, name)
    blob = run_round(plan, bench, store)
    answer = ArrayRecord({ARRAY: Array("uint8", (len(blob),), STYPE, blob)})
    content = RecordDict({RECORD: answer})
    if store.has_lost(plan.acknowledged):
        content[NOTES] = ConfigRecord({LOST: True})
        text = f"round {plan.round}: the residual of {name} is missing or damaged under"
        print(f"warning: {text} {root / plan.run_id}; it goes on without", flush=True)  # noqa: T201 - the device's own output
    if _is_device(context) and _plans.get(root) != plan.broadcast.plan.digest:
        opened = open_plan(plan, bench, store)
        sample = sample_of(name, bench.task, bench.data(name).train)
        device.note_plan(root, bench, opened.structure, opened.broadcast, sample=sample)
        _plans[root] = plan.broadcast.plan.digest
    return Message(content, reply_to=message)


@app.query(DELIVER)
def deliver(message: Message, context: Context) -> Message:
    """Keep the network that the run ended with."""
    torch.set_num_threads(1)
    bench = _bench(context)
    found = device.take_final(
        _root(context),
        bench,
        _read(message, STRUCTURE, bench.task),
        _read(message, ARRAY, bench.task),
    )
    answer = ConfigRecord({"examples": found.examples, "accuracy": found.accuracy})
    return Message(RecordDict({RECORD: answer}), reply_to=message)


def _read(message: Message, name: str, task: Task) -> bytes:
    array = message.content.array_records[RECORD][name]
    return check_payload(array.stype, array.data, task.config.update.max_bytes)


def _is_device(context: Context) -> bool:
    return node.CLIENT_ID in context.node_config


def _root(context: Context) -> Path:
    where = context.node_config if _is_device(context) else context.run_config
    return Path(str(where.get(node.STATE) or "fedprune-state"))


def _bench(context: Context) -> Workbench:
    own = context.node_config if _is_device(context) else context.run_config
    key = json.dumps(dict(own), sort_keys=True)
    if key not in _benches:
        task = (
            device.device_task(own)
            if _is_device(context)
            else Task(read_app_config(own))
        )
        _benches[key] = Workbench(task)
    return _benches[key]


def _client_id(context: Context) -> str:
    if _is_device(context):
        return str(context.node_config[node.CLIENT_ID])
    number = int(context.node_config.get("partition-id", 0))
    count = _bench(context).task.config.task.clients
    if number >= count:
        msg = f"there is no client for node {number}: task.clients is {count}"
        raise ConfigError(msg)
    return client_ids(count)[number]
