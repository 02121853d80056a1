"""The Flower app that a worker runs, which plays jobs, and how it travels there.

Workers import this module and none of Flower's simulation, whose SuperLink and database
are some 500 modules.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from ray import cloudpickle

from fedprune.common.errors import PayloadError, Reason
from fedprune.common.flower.payload import ARRAY, RECORD, check_payload, payload_array
from fedprune.common.profiling.activities import Activity
from fedprune.common.profiling.recorder import Recorder, during
from fedprune.common.system.memory import keep_memory
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.common.text import error_line
from fedprune.simulations.engines.jobs import decode_job, encode_part
from fedprune.simulations.engines.pool import Play
from fedprune.simulations.engines.worker import Worker

Job = Callable[[bytes], bytes]

MAX_BYTES = (1 << 31) - 1


class Player:
    """Plays the clients of a job in a worker, whose networks stay built.

    Args:
        task: The task.
        home: Folder of the clients' states.
    """

    def __init__(self, task: LoadedTask, home: str) -> None:
        self._task, self._home = task, home
        self._worker: Worker | None = None
        self._recorder: Recorder | None = None

    def __call__(self, data: bytes) -> bytes:
        """Return the encoded partial aggregate of an encoded job."""
        if self._worker is None:
            keep_memory()
            self._worker = Worker(self._task, Path(self._home), travels=True)
            if self._task.config.run.profile:
                self._recorder = Recorder(
                    Activity.IDLE, sampled=True, before=Activity.STARTING
                )
        if self._recorder is None:
            return encode_part(self._worker.play(decode_job(data)))
        with self._recorder.active(), during(Activity.JOBS):
            part = self._worker.play(decode_job(data))
        return encode_part(replace(part, profile=self._recorder.take()))


def to_content(blob: bytes) -> RecordDict:
    """Wrap bytes as the content of a message: one array with our own stype."""
    return RecordDict({RECORD: ArrayRecord({ARRAY: payload_array(blob, Array)})})


def from_content(message: Message, max_bytes: int) -> bytes:
    """Return the bytes of a message.

    Raises:
        PayloadError: If it has any other content.
    """
    try:
        array = message.content.array_records[RECORD][ARRAY]
    except Exception as error:  # the sender chooses the content
        raise PayloadError(Reason.BAD_FRAME, "message", error_line(error)) from error
    return check_payload(array.stype, array.data, max_bytes)


def client_app(job: Job) -> ClientApp:
    """Return the app of a worker node, which answers a job's bytes with bytes."""
    app = ClientApp()

    @app.train()
    def play(message: Message, context: Context) -> Message:
        del context
        answer = job(from_content(message, MAX_BYTES))
        return Message(to_content(answer), reply_to=message)

    return app


def packed(job: Job) -> bytes:
    """Return what makes, in a worker, the function that plays Flower's messages."""
    return bytes_of(partial(_play_of, job))


def bytes_of(value: object) -> bytes:
    """Return a value as the bytes of cloudpickle: both ends are ours."""
    found: bytes = cloudpickle.dumps(value)  # type: ignore[no-untyped-call]
    return found


def _play_of(job: Job) -> Play:
    app = client_app(job)

    def play(data: bytes) -> bytes:
        message, context = cloudpickle.loads(data)
        return bytes_of((app(message=message, context=context), context))

    return play
