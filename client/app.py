"""The Flower app of one client: bytes out of a message, a round, bytes into a message.

A device's own node configuration states its client id and data (``client-id``,
``config``, ``data``, ``share``, ``state-dir``); the server sets none of these.
A simulated node plays the client of its number (``partition-id``) with the run's
configuration.
"""

from collections.abc import Mapping
from math import nan
from pathlib import Path

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedprune.client.device import labels, node
from fedprune.client.device import task as device
from fedprune.client.rounds.evaluate import with_own_moments
from fedprune.client.rounds.model_cache import ModelCache
from fedprune.client.rounds.opened import open_plan
from fedprune.client.rounds.round import encode, make_update
from fedprune.client.rounds.store import ClientStore
from fedprune.common import codec
from fedprune.common.errors import ConfigError
from fedprune.common.flower.payload import (
    ARRAY,
    DELIVER,
    HELLO,
    LOST,
    NOTES,
    RECORD,
    RUN,
    STRUCTURE,
    check_payload,
    payload_array,
    read_about,
    read_labels,
)
from fedprune.common.flower.run_config import read_app_config
from fedprune.common.messages import ClientUpdate
from fedprune.common.profiling.activities import Activity, sentence
from fedprune.common.profiling.recorder import Recorder, during
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.common.text import say

app = ClientApp()


class _Resident:
    """Model cache of this process, for the node that was served last.

    Flower calls a function for each message, so objects that outlive a message belong
    to the process.  Some processes serve one message only; in those that stay, networks
    and data are built once.
    """

    def __init__(self) -> None:
        self.evaluated = ("", b"")  # the run and the plan that were evaluated last
        self._own: dict[str, object] = {}
        self._cache: ModelCache | None = None

    def cache(self, own: Mapping[str, object], *, is_device: bool) -> ModelCache:
        """Return the model cache for a node's configuration."""
        if self._cache is None or self._own != dict(own):
            task = (
                device.device_task(own)
                if is_device
                else LoadedTask(read_app_config(own))
            )
            self._cache, self._own = ModelCache(task), dict(own)
            self.evaluated = ("", b"")
        return self._cache


_resident = _Resident()


@app.query(HELLO)
def hello(message: Message, context: Context) -> Message:
    """Answer with this node's client id and number of examples.

    Of a client that hides its own answers it is 1, as in each of them.  A device
    numbers its classes as the server does from here on.
    """
    cache, name = _cache(context), _client_id(context)
    cache.follow(*_about(message))
    if _is_device(context):
        names = read_labels(_run_record(message))
        line = labels.agree(_root(context), context.run_id, cache, names)
        if line:
            say(line)
    count = 1 if _hides(cache) else len(cache.data(name).train)
    answer = ConfigRecord({"client-id": name, "examples": count})
    return Message(RecordDict({RECORD: answer}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer one plan; a device says its figures, and where its CPU time went."""
    recorder = Recorder(Activity.OTHER)
    with recorder.active():
        answer, update = _answer(message, context)
    if _is_device(context):
        text = sentence(*recorder.take().beside_training)
        say(f"{update.run_id}, round {update.round}: {_figures(update)}; {text}")
    return answer


def _figures(update: ClientUpdate) -> str:
    """Return the accuracy of the network that came, and the loss of training it."""
    own, loss = update.validation, f"training loss {update.loss:.4f}"
    if not own.count:
        return loss
    accuracy = own.metric_sum / own.count
    return f"accuracy {accuracy:.4f} of {own.count} validation examples, {loss}"


def _answer(message: Message, context: Context) -> tuple[Message, ClientUpdate]:
    """Return the message that answers one plan, and its content."""
    torch.set_num_threads(1)
    with during(Activity.OPENING):
        cache = _cache(context)
        _follow_labels(context, cache)
        plan = codec.decode_plan(
            _read(message, ARRAY, cache.task),
            cache.task.config.device.max_bytes,
            max_weights=cache.size,
        )
        root, name = _root(context), _client_id(context)
        if not (root / plan.run_id).exists():
            device.drop_old_runs(root, plan.run_id)
        store = ClientStore(root / plan.run_id, name)
        opened = open_plan(plan, cache, store)
    update = make_update(opened, cache, store)
    blob = encode(update, opened)
    answer = ArrayRecord({ARRAY: payload_array(blob, Array)})
    content = RecordDict({RECORD: answer})
    if store.has_lost(plan.acknowledged):
        content[NOTES] = ConfigRecord({LOST: True})
        text = f"round {plan.round}: the residual of {name} is missing or damaged under"
        say(f"warning: {text} {root / plan.run_id}; it continues without")
    which = (plan.run_id, plan.broadcast.plan.digest)
    if _is_device(context) and _resident.evaluated != which:
        with during(Activity.EVALUATION):
            model, _ = with_own_moments(opened, cache)
            device.note_plan(root, cache.task, plan.broadcast.plan, model)
        _resident.evaluated = which
    return Message(content, reply_to=message), update


@app.query(DELIVER)
def deliver(message: Message, context: Context) -> Message:
    """Store the final network of the run; say how it does, unless that is hidden."""
    torch.set_num_threads(1)
    cache = _cache(context)
    cache.follow(*_about(message))
    _follow_labels(context, cache)
    found = device.take_final(
        _root(context),
        cache,
        _read(message, STRUCTURE, cache.task),
        _read(message, ARRAY, cache.task),
    )
    if _is_device(context) and found.examples:
        count = f"{found.examples} test examples"
        say(f"final network: accuracy {found.accuracy:.4f} of {count}")
    examples, accuracy = found.examples, found.accuracy
    if _hides(cache):
        examples, accuracy = 0, nan
    answer = ConfigRecord({"examples": examples, "accuracy": accuracy})
    return Message(RecordDict({RECORD: answer}), reply_to=message)


def _read(message: Message, name: str, task: LoadedTask) -> bytes:
    array = message.content.array_records[RECORD][name]
    return check_payload(array.stype, array.data, task.config.device.max_bytes)


def _about(message: Message) -> tuple[int, float]:
    return read_about(_run_record(message))


def _run_record(message: Message) -> dict[str, object]:
    return dict(message.content.config_records.get(RUN, {}))


def _follow_labels(context: Context, cache: ModelCache) -> None:
    """Number a device's classes as it has agreed with the server of this run."""
    if _is_device(context):
        labels.follow(_root(context), context.run_id, cache)


def _hides(cache: ModelCache) -> bool:
    """Return whether this client's own configuration hides its answers."""
    return cache.task.config.privacy.local_noise > 0


def _is_device(context: Context) -> bool:
    return node.CLIENT_ID in context.node_config


def _root(context: Context) -> Path:
    where = context.node_config if _is_device(context) else context.run_config
    return Path(str(where.get(node.STATE) or "fedprune-state"))


def _cache(context: Context) -> ModelCache:
    is_device = _is_device(context)
    own = context.node_config if is_device else context.run_config
    return _resident.cache(own, is_device=is_device)


def _client_id(context: Context) -> str:
    if _is_device(context):
        return str(context.node_config[node.CLIENT_ID])
    number = int(context.node_config.get("partition-id", 0))
    clients = _cache(context).task.clients
    if number >= len(clients):
        msg = f"there is no client for node {number}: the run has {len(clients)}"
        raise ConfigError(msg)
    return clients[number]
