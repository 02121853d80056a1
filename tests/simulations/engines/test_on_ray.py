"""Flower's simulation in its own thread: lent, noticed when it ends, and ended."""

import os
import subprocess
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
from helpers.tiny_federation import ask_all, make_setting, make_task, start
from ray._private.node import Node

from fedprune.common.config import Config
from fedprune.common.errors import FedPruneError
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.server.rounds.plan import plan_round
from fedprune.server.rounds.waiting.collecting import collect
from fedprune.simulations.engines.engines import EngineSpec

pytest.importorskip("ray")
from flwr.app import Error, Message
from flwr.server.superlink.fleet.vce.backend import raybackend
from flwr.supercore.task_identity import TaskIdentity

from fedprune.simulations.engines import flower as flower_module
from fedprune.simulations.engines import interrupt, on_ray, player
from fedprune.simulations.engines.pool import Loss, Pool


@pytest.fixture(autouse=True)
def in_a_run(monkeypatch):
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


class Grid:
    """A grid with two nodes."""

    def get_node_ids(self):
        return [8, 5]


def flower_of(monkeypatch, simulate):
    monkeypatch.setattr(flower_module, "run_simulation", simulate)
    return flower_module.Simulation(bytes, Pool(2))


def lend(server_app, **_):
    """Call a server app back with a grid, as Flower does."""
    server_app._main(Grid(), None)


def test_the_grid_is_lent_until_the_run_has_ended(monkeypatch):
    flower = flower_of(monkeypatch, lend)
    before = threading.active_count()
    assert sorted(flower.start().get_node_ids()) == [5, 8]
    flower.check()
    assert threading.active_count() == before + 1
    flower.end()
    assert threading.active_count() == before
    with pytest.raises(FedPruneError, match="ended before the run"):
        flower.check()


def test_a_simulation_that_fails_ends_the_run_with_its_reason(monkeypatch):
    def fail(**_):
        message = "no actors"
        raise RuntimeError(message)

    flower = flower_of(monkeypatch, fail)
    with pytest.raises(FedPruneError, match="Flower's simulation failed: no actors"):
        flower.start()
    flower.end()


def test_a_simulation_without_a_grid_ends_the_run(monkeypatch):
    flower = flower_of(monkeypatch, lambda **_: None)
    with pytest.raises(FedPruneError, match="Flower's simulation ended before the run"):
        flower.start()


def test_while_it_runs_flower_makes_workers_of_this_pool(monkeypatch):
    before, made = raybackend.RayBackend, []

    def simulate(**given):
        made.append(raybackend.RayBackend({}))
        lend(**given)

    simulation = flower_of(monkeypatch, simulate)
    simulation.start()
    simulation.end()
    assert made[0].num_workers == 2
    assert made[0].is_worker_idle()
    assert raybackend.RayBackend is before


def test_a_message_of_flower_is_played_in_a_worker_and_comes_back(monkeypatch):
    """From the backend through the pool into what a worker unpacks, and back."""
    pool = Pool(1)
    monkeypatch.setattr(pool, "start", lambda packed: setattr(pool, "packed", packed))
    moved = []

    def play(job, data):
        moved.append(job)
        return flower_module.cloudpickle.loads(pool.packed)()(data)

    monkeypatch.setattr(pool, "play", play)
    message = Message(player.to_content(b"abc"), 7, "train")
    message.metadata.__dict__["_message_id"] = "m1"
    with flower_module._backend_of(pool, bytes.upper):
        backend = raybackend.RayBackend({})
        backend.build(lambda: None)
        answer, _ = backend.process_message(message, None)
    assert player.from_content(answer, 10) == b"ABC"
    assert answer.metadata.reply_to_message_id == "m1"
    assert moved == ["m1"]


def test_a_worker_imports_no_superlink_and_no_database(tmp_path):
    job = tmp_path / "job"
    job.write_bytes(player.packed(player.Player(LoadedTask(Config()), str(tmp_path))))
    code = """
import pathlib, sys
from ray import cloudpickle
cloudpickle.loads(pathlib.Path(sys.argv[1]).read_bytes())()
print("fedprune.simulations.engines.worker" in sys.modules)
print("flwr.server.superlink.fleet.vce" in sys.modules)
print("sqlalchemy" in sys.modules)
"""
    found = subprocess.run(
        [sys.executable, "-c", code, str(job)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert found.stdout.split() == ["True", "False", "False"]


def test_workers_are_ended_and_ray_goes_down_when_a_block_fails(monkeypatch, tmp_path):
    engine_spec = EngineSpec(task=make_task(), root=tmp_path, workers=2, ray_address="")
    monkeypatch.setattr(flower_module, "run_simulation", lend)
    monkeypatch.setattr(on_ray, "_start_ray", lambda *_: None)
    seen = []
    monkeypatch.setattr(Pool, "end", lambda _: seen.append("workers"))
    monkeypatch.setattr(on_ray.ray, "shutdown", lambda: seen.append("ray"))
    with pytest.raises(KeyboardInterrupt), on_ray.ray_engine(engine_spec):
        raise KeyboardInterrupt
    assert seen == ["workers", "ray"]
    with on_ray.ray_engine(engine_spec) as engine:
        assert engine._nodes == [5, 8]
    assert seen == ["workers", "ray"] * 2


def test_there_is_a_worker_for_each_core_that_this_process_may_use(
    monkeypatch, tmp_path
):
    started = []

    def start(engine_spec, workers, gpus):
        started.append(workers)
        raise KeyboardInterrupt

    monkeypatch.setattr(on_ray, "_start_ray", start)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 7}, raising=False)
    for wanted in (0, 5):
        engine_spec = EngineSpec(
            task=make_task(), root=tmp_path, workers=wanted, ray_address=""
        )
        with pytest.raises(KeyboardInterrupt), on_ray.ray_engine(engine_spec):
            pass
    assert started == [2, 5]


@pytest.mark.parametrize("before", [None, "/else/where"])
def test_a_local_ray_has_no_helpers_and_workers_find_our_modules(
    monkeypatch, tmp_path, before
):
    engine_spec = EngineSpec(task=make_task(), root=tmp_path, workers=2, ray_address="")
    real = {name: getattr(Node, name) for name in on_ray._OF_CLUSTERS}
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if before is not None:
        monkeypatch.setenv("PYTHONPATH", before)
    begun = []

    def init(**arguments):
        begun.append((os.environ["PYTHONPATH"], arguments))
        for name in real:
            assert getattr(Node, name)(None, include_dashboard=False) is None

    monkeypatch.setattr(on_ray.ray, "init", init)
    on_ray._start_ray(engine_spec, 2, 0)
    ((path, arguments),) = begun
    assert "runtime_env" not in arguments
    wanted = [part for part in [*sys.path, before] if part]
    assert path.split(os.pathsep) == wanted
    assert os.environ.get("PYTHONPATH") == before
    assert {name: getattr(Node, name) for name in real} == real


def test_a_busy_machine_may_need_more_than_one_start_of_ray(monkeypatch, tmp_path):
    engine_spec = EngineSpec(task=make_task(), root=tmp_path, workers=2, ray_address="")
    begun = []

    def init(**arguments):
        begun.append(arguments)
        if len(begun) < needed:
            msg = "The current node timed out during startup."
            raise Exception(msg)  # noqa: TRY002 - as Ray does

    monkeypatch.setattr(on_ray, "_quiet", lambda: None)
    monkeypatch.setattr(on_ray.ray, "shutdown", lambda: None)
    monkeypatch.setattr(on_ray.ray, "init", init)
    needed = 3
    on_ray._start_ray(engine_spec, 2, 0)
    assert len(begun) == 3
    assert begun[0]["address"] == "local"
    begun.clear()
    needed = 4
    with pytest.raises(FedPruneError, match="3 times: Exception: The current node"):
        on_ray._start_ray(engine_spec, 2, 0)
    assert len(begun) == 3


def test_a_process_keeps_the_worker_of_its_run(tmp_path, monkeypatch):
    made = []

    class Worker:
        def __init__(self, *given, travels):
            made.append((*given, travels))

        def play(self, request):
            return request

    monkeypatch.setattr(player, "Worker", Worker)
    monkeypatch.setattr(player, "decode_job", bytes.upper)
    monkeypatch.setattr(player, "encode_part", lambda part: part + b"!")
    task = make_task()
    play = player.Player(task, str(tmp_path))
    assert [play(b"a"), play(b"b")] == [b"A!", b"B!"]
    assert made == [(task, tmp_path, True)]


class Round:
    """A round of the tiny federation on a grid whose nodes are in this process."""

    def __init__(self, folder, **changes):
        self.task = make_task(**changes)
        run_spec = make_setting(self.task)
        self.work = plan_round(start(self.task, run_spec), run_spec)
        self.folder = folder
        self.player = player.Player(self.task, str(folder / "ray"))
        self.most, self.sent, self.waiting, self.lengths = 0, [], {}, []
        self.twice, self.errors, self.told = False, False, []

    def engine(self, **changes):
        engine_spec = EngineSpec(
            task=self.task, root=self.folder, workers=2, ray_address="", **changes
        )
        return on_ray.RayEngine(self, self, engine_spec)

    # Flower's simulation

    def start(self):
        return self

    def check(self):
        pass

    # Its grid

    def get_node_ids(self):
        return [5, 8]

    def push_messages(self, messages):
        for message in messages:
            name = f"m{len(self.sent)}"
            message.metadata.__dict__["_message_id"] = name
            self.sent.append((message.metadata.dst_node_id, message))
            self.waiting[name] = message
            self.most = max(self.most, len(self.waiting))
            yield name

    def pull_messages(self, names):
        assert set(names) == set(self.waiting)
        name = min(names)
        message = self.waiting.pop(name)
        if self.errors:
            return [Message(Error(code=0, reason="no memory"), reply_to=message)]
        data = player.from_content(message, 1 << 30)
        played = self.player(data)
        self.lengths.append(len(played))
        content = player.to_content(played)
        reply = Message(content, reply_to=message)
        return [reply, reply] if self.twice else [reply]

    # Its workers

    def losses(self):
        told, self.told = self.told, []
        return told

    def moved(self):
        return 1000


def bits(answers):
    return answers.total.delta_sum.tobytes(), answers.total.num_clients


@pytest.fixture
def quick(monkeypatch):
    """Let the deal take the few examples for many: each client is a job then."""
    monkeypatch.setattr(on_ray.time, "sleep", lambda _: None)
    real = on_ray.deal

    def deal(assignments, costs, workers, *, epochs, most):
        return real(assignments, costs, workers, epochs=epochs * 500, most=most)

    monkeypatch.setattr(on_ray, "deal", deal)


def test_jobs_in_any_order_give_the_sum_of_one_process(tmp_path, quick):
    one = Round(tmp_path)
    answers = collect(one.work, one.engine())
    assert bits(answers) == bits(ask_all(one.work, one.task, tmp_path / "here"))
    assert len(one.sent) == 4  # one for each client
    assert answers.bytes_simulation == 4 * 1000


def test_no_more_jobs_are_under_way_than_two_a_worker(tmp_path, quick):
    one = Round(tmp_path, task__clients=10, rounds__cohort=10)
    answers = collect(one.work, one.engine())
    assert len(one.sent) == 10
    assert one.most == 4
    assert answers.total.num_clients == 10
    # The next job goes to the node that has answered.
    assert {node for node, _ in one.sent} == {5, 8}


def test_an_answer_that_comes_twice_counts_once(tmp_path, quick):
    one = Round(tmp_path)
    once = collect(one.work, one.engine())
    two = Round(tmp_path / "two")
    two.twice = True
    assert bits(collect(two.work, two.engine())) == bits(once)


def test_single_answers_go_into_as_many_messages_as_they_fit_into(
    tmp_path, monkeypatch
):
    one = Round(tmp_path, robust__aggregate="median")
    whole = collect(one.work, one.engine())
    assert len(one.sent) == 2  # few examples: a job for each worker
    monkeypatch.setattr(on_ray, "MAX_BYTES", max(one.lengths) - 1)
    two = Round(tmp_path / "two", robust__aggregate="median")
    answers = collect(two.work, two.engine())
    assert len(two.sent) == 4
    assert bits(answers) == bits(whole)


@pytest.mark.parametrize(
    ("weights", "singly", "least", "most"),
    [
        (430_500, True, 250, 600),  # LeNet-5
        (11_200_000, True, 20, 32),  # ResNet-18, up to update.max_bytes each
        (11_200_000, False, 5000, 100_000),
        (500_000_000, True, 1, 1),
    ],
)
def test_a_job_has_no_more_clients_than_its_answer_has_room_for(
    weights, singly, least, most
):
    spec = SimpleNamespace(size=weights, units=9600, moments=9600, running_size=0)
    request = SimpleNamespace(
        individual_updates=singly, max_bytes=64 << 20, covariances=(0, 0)
    )
    count = on_ray._clients_of_a_job(SimpleNamespace(spec=spec, request=request))
    assert least <= count <= most
    if count > 1:
        floats = min(4 * weights, request.max_bytes) if singly else 0
        told = 4 * 3 * spec.units
        length = (8 + 1 / 8) * weights + count * (floats + 2 * told)
        assert length < on_ray.MAX_BYTES


def test_a_lost_worker_is_told_with_its_clients_and_nothing_else_changes(
    tmp_path, quick
):
    one = Round(tmp_path)
    one.told = [Loss(job="m0", worker="7 on x", reason="it ended")]
    lost = []
    answers = collect(one.work, one.engine(), lost.append)
    (told,) = lost
    assert (told.worker, told.reason) == ("7 on x", "it ended")
    assert len(told.clients) == 1
    assert bits(answers) == bits(ask_all(one.work, one.task, tmp_path / "here"))


def test_a_job_that_cannot_be_played_ends_the_run(tmp_path, quick):
    one = Round(tmp_path)
    one.errors = True
    with pytest.raises(FedPruneError, match="a worker failed: no memory"):
        collect(one.work, one.engine())


def test_no_deadline_leaves_a_client_out_and_the_limit_ends_the_run(
    tmp_path, quick, monkeypatch
):
    hours = iter(range(0, 10**9, 3600))
    monkeypatch.setattr(interrupt.time, "monotonic", lambda: next(hours))
    one = Round(tmp_path)
    hasty = replace(one.work.patience, deadline_s=1.0)
    answers = collect(replace(one.work, patience=hasty), one.engine())
    assert answers.total.num_clients == 4
    two = Round(tmp_path / "two")
    with pytest.raises(FedPruneError, match=r"7000 s of run\.limit_s"):
        collect(two.work, two.engine(limit_s=7000.0))


def test_the_object_store_grows_with_the_network_and_the_workers():
    assert on_ray._store(2, 0) == 128 << 20
    assert on_ray._store(2, 11_170_000) == (128 << 20) + 2 * 48 * 11_170_000
