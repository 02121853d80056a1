"""The Flower app of one client: bytes out of a message, a round, bytes into a message.

A node plays the client that its node configuration names (``client-id``), or the
simulated client of its number (``partition-id``).
"""

import json
from pathlib import Path

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client.bench import Workbench
from client.round import run_round
from client.state import ClientStore
from common import codec
from common.app_config import read_app_config
from common.data.partition import client_ids
from common.task import Task
from common.transport import ARRAY, HELLO, RECORD, STYPE, check_payload

app = ClientApp()

# A node may be served by a fresh process for each message; where it is not, networks
# and data stay built.
_benches: dict[str, Workbench] = {}


@app.query(HELLO)
def hello(message: Message, context: Context) -> Message:
    """Tell the server which client this node is."""
    answer = ConfigRecord({"client-id": _client_id(context)})
    return Message(RecordDict({RECORD: answer}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer one plan."""
    torch.set_num_threads(1)
    bench = _bench(context)
    array = message.content.array_records[RECORD][ARRAY]
    limit = bench.task.config.update.max_bytes
    plan = codec.decode_plan(check_payload(array.stype, array.data, limit), limit)
    root = Path(str(context.run_config.get("state-dir") or "fedprune-state"))
    store = ClientStore(root / plan.run_id, _client_id(context))
    blob = run_round(plan, bench, store)
    answer = ArrayRecord({ARRAY: Array("uint8", (len(blob),), STYPE, blob)})
    return Message(RecordDict({RECORD: answer}), reply_to=message)


def _bench(context: Context) -> Workbench:
    key = json.dumps(dict(context.run_config), sort_keys=True)
    if key not in _benches:
        _benches[key] = Workbench(Task(read_app_config(context.run_config)))
    return _benches[key]


def _client_id(context: Context) -> str:
    named = context.node_config.get("client-id")
    if named is not None:
        return str(named)
    number = int(context.node_config.get("partition-id", 0))
    count = int(context.node_config.get("num-partitions", number + 1))
    return client_ids(count)[number]
