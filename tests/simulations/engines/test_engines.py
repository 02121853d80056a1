"""Engines: each client is played exactly once, and fails alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.tiny_federation import ask_all, make_setting, make_task, start
from xxhash import xxh3_128_digest

from fedprune.client.rounds import model_cache
from fedprune.client.rounds import round as client_round
from fedprune.client.rounds import store as store_module
from fedprune.common import codec
from fedprune.common.aggregate import Accumulator
from fedprune.common.errors import FedPruneError, StorageError
from fedprune.common.system.memory import SpareMemory
from fedprune.server.rounds.plan import plan_round
from fedprune.server.rounds.records import Status
from fedprune.simulations.engines import interrupt
from fedprune.simulations.engines import worker as worker_module
from fedprune.simulations.engines.dealing import assign
from fedprune.simulations.engines.engines import (
    EngineSpec,
    engine_for,
)
from fedprune.simulations.engines.jobs import (
    decode_job,
    decode_part,
    encode_job,
    encode_part,
)
from fedprune.simulations.engines.worker import Worker
from fedprune.simulations.faults.virtual import VirtualTime


class Round:
    """The first round of the tiny federation."""

    def __init__(self, **changes):
        self.task = make_task(**changes)
        self.run_spec = make_setting(self.task)
        self.work = plan_round(start(self.task, self.run_spec), self.run_spec)

    def ask(self, root):
        return ask_all(self.work, self.task, root)


def bits(total):
    return (
        total.delta_sum.tobytes(),
        (total.num_examples, total.num_clients),
    )


def without_time(records):
    return [
        replace(r, seconds=0.0, importance=None, statistics=None)
        for r in sorted(records, key=lambda r: r.client_id)
    ]


def test_all_clients_answer_and_are_accepted(tmp_path):
    one = Round()
    answers = one.ask(tmp_path)
    assert [r.client_id for r in answers.records] == list(one.run_spec.clients)
    assert {r.status for r in answers.records} == {Status.ACCEPTED}
    assert all(r.bytes_up > r.bytes_fixed > 0 for r in answers.records)
    assert all(r.bytes_down > 1000 for r in answers.records)
    assert answers.total.num_clients == 4
    assert answers.bytes_simulation == 0


def test_engines_of_one_configuration_give_the_same_bits(tmp_path):
    one = Round().ask(tmp_path / "one")
    two = Round().ask(tmp_path / "two")
    assert bits(one.total) == bits(two.total)
    assert without_time(one.records) == without_time(two.records)


@pytest.mark.parametrize("workers", [2, 3])
def test_the_number_of_workers_changes_no_bit(tmp_path, workers):
    one = Round()
    whole = one.ask(tmp_path / "one")
    work, records, individual_updates = one.work, [], []
    total = Accumulator(work.spec.size, work.request.limits)
    for hand in assign(work.request.assignments, {"client-002": 50}, workers):
        worker = Worker(one.task, tmp_path / "many", travels=True)
        job = decode_job(encode_job(work.request, hand))
        part = decode_part(encode_part(worker.play(job)), work)
        total.merge(part.total)
        records += part.records
        individual_updates += part.individual_updates
    assert bits(total) == bits(whole.total)
    assert without_time(records) == without_time(whole.records)
    individual_updates.sort(key=lambda individual: individual.client_id)
    names = [s.client_id for s in individual_updates]
    assert names == [s.client_id for s in whole.individual_updates] != []
    alone = Worker(one.task, tmp_path / "alone", travels=True).play(work.request)
    sent = {s.client_id: s.answer for s in alone.individual_updates}
    assert {s.client_id: s.answer for s in individual_updates} == sent
    for mine, theirs in zip(individual_updates, whole.individual_updates, strict=True):
        assert mine.delta.values.tobytes() == theirs.delta.values.tobytes()


@pytest.mark.parametrize("travels", [False, True])
def test_single_answers_wait_as_they_travel_or_as_they_are_added(tmp_path, travels):
    # In another process the deltas would take memory that the answers do not.
    one = Round()
    part = Worker(one.task, tmp_path, travels=travels).play(one.work.request)
    assert len(part.individual_updates) == 4
    for individual, record in zip(part.individual_updates, part.records, strict=True):
        assert individual.client_id == record.client_id
        assert len(individual.answer) == (record.bytes_up if travels else 0)
        assert (individual.delta is individual.delta) is not travels


@pytest.mark.parametrize(("limit", "trims"), [(1, 4), (1 << 20, 0)])
def test_memory_is_bounded_after_each_client_of_a_large_network(
    tmp_path, monkeypatch, limit, trims
):
    calls = []
    monkeypatch.setattr(SpareMemory, "bound", lambda _: calls.append(1))
    monkeypatch.setattr(worker_module, "_LARGE", limit)
    one = Round()
    hand = one.work.request.assignments[:4]
    Worker(one.task, tmp_path).play(replace(one.work.request, assignments=hand))
    assert len(calls) == trims


def test_what_all_clients_share_is_read_and_built_once(tmp_path, monkeypatch):
    read, built = [], []
    for where, name, calls in (
        (worker_module.codec, "read_shared", read),
        (model_cache, "build_penalty", built),
    ):
        real = getattr(where, name)
        monkeypatch.setattr(
            where,
            name,
            lambda *given, real=real, calls=calls: calls.append(1) or real(*given),
        )
    one = Round(rounds__warmup=0, client__strength=0.5)
    worker = Worker(one.task, tmp_path)
    for jobs in (1, 2):
        part = worker.play(one.work.request)
        assert [r.status for r in part.records] == [Status.ACCEPTED] * 4
        assert (len(read), len(built)) == (jobs, 1)
    other = Round(rounds__warmup=0, client__strength=0.25)
    worker.play(other.work.request)
    assert (len(read), len(built)) == (3, 2)


def test_clients_leave_what_they_share_as_it_was(tmp_path, monkeypatch):
    plans, penalties = {}, []
    read, build = worker_module.codec.read_shared, model_cache.build_penalty

    def keep_plan(shared, most):
        plans[shared] = read(shared, most)
        return plans[shared]

    def keep_penalty(*given):
        penalties.append((build(*given), build(*given)))
        return penalties[-1][0]

    monkeypatch.setattr(worker_module.codec, "read_shared", keep_plan)
    monkeypatch.setattr(model_cache, "build_penalty", keep_penalty)
    one = Round(rounds__warmup=0, client__strength=0.5)
    Worker(one.task, tmp_path).play(one.work.request)
    ((shared, plan),) = plans.items()
    assert codec.encode_shared(plan) == shared == one.work.request.variants[0]
    ((used, fresh),) = penalties
    for mine, theirs in zip(used.units, fresh.units, strict=True):
        assert torch.equal(mine.thresholds, theirs.thresholds)
        assert torch.equal(mine.sizes, theirs.sizes)


def test_a_damaged_plan_is_found_beside_a_whole_one(tmp_path):
    one = Round()
    request, (whole,) = one.work.request, one.work.request.variants
    place = len(whole) // 2
    damaged = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
    assignments = [
        replace(found, variant=number % 2)
        for number, found in enumerate(request.assignments)
    ]
    job = replace(request, variants=(whole, damaged), assignments=tuple(assignments))
    part = Worker(one.task, tmp_path).play(job)
    assert [r.status for r in part.records] == [Status.ACCEPTED, Status.REFUSED] * 2
    assert "digest" in part.records[1].reason


def test_a_worker_keeps_nothing_shared_of_the_job_before(tmp_path):
    first, second = Round(), Round(client__lr=0.01)
    worker = Worker(first.task, tmp_path)
    for one in (first, second):
        worker.play(one.work.request)
        kept = [(digest, size) for digest, size, _ in worker._shared._values]
        sent = one.work.request.variants
        assert kept == [(xxh3_128_digest(shared), len(shared)) for shared in sent]


def test_single_answers_are_handed_back_only_when_they_are_needed(tmp_path):
    assert Round(robust__max_norm=0.0).ask(tmp_path / "mean").individual_updates == ()
    answers = Round(robust__aggregate="median").ask(tmp_path / "median")
    assert [u.client_id for u in answers.individual_updates] == [
        r.client_id for r in answers.records
    ]
    assert all(
        len(individual.delta.indices) for individual in answers.individual_updates
    )


@pytest.mark.parametrize(
    "error",
    [
        KeyError("label"),
        IndexError("Target 7 is out of bounds"),
        OSError("disk"),
        SystemExit(0),
    ],
    ids=["KeyError", "IndexError", "OSError", "SystemExit"],
)
def test_whatever_happens_to_one_client_stays_with_it(tmp_path, monkeypatch, error):
    one = Round()
    train = client_round.train
    played = []

    def fail_once(*given):
        played.append(len(played))
        if len(played) == 2:
            raise error
        return train(*given)

    monkeypatch.setattr(client_round, "train", fail_once)
    answers = one.ask(tmp_path)
    failed = answers.records[1]
    assert failed.status is Status.FAILED
    assert failed.reason.startswith(
        f"client client-001 failed: {type(error).__name__}: "
    )
    assert (failed.bytes_up, failed.num_examples) == (0, 0)
    assert failed.bytes_down > 0
    others = {r.status for r in answers.records if r is not failed}
    assert others == {Status.ACCEPTED}
    assert answers.total.num_clients == 3


def write_fails(folder, monkeypatch):
    """Let the disk be full for one client."""
    write = store_module.write_bytes_atomic

    def full(path, data, **options):
        if path.parent.name == "client-001":
            message = "no space left"
            raise StorageError(message)
        write(path, data, **options)

    monkeypatch.setattr(store_module, "write_bytes_atomic", full)


def folder_fails(folder, monkeypatch):
    """Put a file where one client's folder is to be."""
    del monkeypatch
    (folder / "run-1").mkdir()
    (folder / "run-1" / "client-001").write_bytes(b"")


@pytest.mark.parametrize("fail", [write_fails, folder_fails])
def test_a_disk_that_fails_ends_the_run_and_leaves_no_client_out(
    tmp_path, monkeypatch, fail
):
    fail(tmp_path, monkeypatch)
    with pytest.raises(StorageError) as caught:
        Round().ask(tmp_path)
    assert caught.value.exit_code == 5  # resumable


def test_a_client_without_data_fails_by_name_and_the_round_goes_on(tmp_path):
    one = Round()
    one.task.__dict__["parts"]["client-000"] = np.zeros(0, dtype=np.int64)
    answers = one.ask(tmp_path)
    assert answers.records[0].status is Status.FAILED
    assert "has no training example" in answers.records[0].reason
    assert answers.total.num_clients == 3


def test_a_client_that_cannot_read_its_plan_refuses_it(tmp_path):
    one = Round(device__max_bytes=1024)
    answers = one.ask(tmp_path)
    assert {r.status for r in answers.records} == {Status.REFUSED}
    assert "the client refused the plan" in answers.records[0].reason
    assert answers.total.num_clients == 0


def test_the_in_process_engine_is_made_for_its_place(tmp_path):
    one = Round()
    engine_spec = EngineSpec(task=one.task, root=tmp_path, workers=0, ray_address="")
    with engine_for(engine_spec, "inprocess") as engine:
        assert isinstance(engine, VirtualTime)


def test_time_that_is_over_ends_the_run_at_the_next_client(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(interrupt.time, "monotonic", lambda: now[0])
    one = Round()
    engine_spec = EngineSpec(
        task=one.task, root=tmp_path, workers=0, ray_address="", limit_s=60.0
    )
    played = []

    def slow(*given):
        played.append(given)
        now[0] += 25.0
        raise KeyError

    monkeypatch.setattr(worker_module, "run_round", slow)
    over = pytest.raises(FedPruneError, match=r"60 s of run\.limit_s")
    with engine_for(engine_spec, "inprocess") as engine, over as caught:
        list(engine.ask(one.work))
    assert len(played) == 3
    assert caught.value.exit_code == 5
