"""Hostile clients in a worker: valid messages, of some clients, from some round on."""

from dataclasses import fields, replace

import numpy as np
import pytest
from helpers.tiny_federation import (
    ask_all,
    make_config,
    make_setting,
    make_task,
    start,
    tiny_structure,
)

from fedprune.client.rounds.model_cache import ModelCache
from fedprune.client.rounds.opened import open_plan
from fedprune.client.rounds.round import run_round
from fedprune.client.rounds.store import ClientStore
from fedprune.common import codec
from fedprune.common.config import Attack
from fedprune.common.data.examples import MappedExamples
from fedprune.common.errors import ConfigError
from fedprune.common.messages import ClientUpdate, Phase
from fedprune.common.methods.kinds import ATTACK
from fedprune.common.methods.registry import methods
from fedprune.server.rounds.cycle import Cursor
from fedprune.server.rounds.finish import finish_round
from fedprune.server.rounds.plan import plan_round
from fedprune.server.rounds.records import Status
from fedprune.server.runs.trying import try_network
from fedprune.simulations.engines import worker as worker_module
from fedprune.simulations.engines.hostile.clients import HostileClients
from fedprune.simulations.engines.hostile.names import check_attack, hostile_names
from fedprune.simulations.engines.hostile.poisoning import triggered_examples
from fedprune.simulations.engines.hostile.seen import dense

NAMES = ("client-000", "client-001", "client-002", "client-003")
LIAR = NAMES[3]
# Which fields of an answer an attack changes, by the start of its name.
CHANGED = {
    "moments": {"statistics"},
    "validation-": {"validation"},
    "scores-": {"importance"},
    "examples": {"delta", "num_examples"},
    "label-flip": {"delta", "loss", "importance"},
    "backdoor": {"delta", "loss", "importance", "statistics", "validation"},
}


def same(first, second):
    if isinstance(first, np.ndarray):
        return np.array_equal(first, second)
    if hasattr(first, "__dataclass_fields__"):
        names = [field.name for field in fields(first)]
        return all(same(getattr(first, n), getattr(second, n)) for n in names)
    return first == second


class Federation:
    """A tiny federation in a sparsify or a fine-tune round."""

    def __init__(self, root, phase=Phase.SPARSIFY, **attack):
        changes = {f"attack__{key}": value for key, value in attack.items()}
        self.task = make_task(**changes)
        self.run_spec = make_setting(self.task)
        self.state = replace(
            start(self.task, self.run_spec), cursor=Cursor(phase=phase)
        )
        self.root = root

    def play(self):
        """Play a round; return its answers by client, decoded, and go on."""
        work = plan_round(self.state, self.run_spec)
        found = {}
        real = worker_module.accept_answer

        def kept(data, expected, *rest, **named):
            found[expected.client_id] = codec.decode_update(data, expected)
            return real(data, expected, *rest, **named)

        worker_module.accept_answer = kept
        try:
            answers = ask_all(work, self.task, self.root)
        finally:
            worker_module.accept_answer = real
        assert {r.status for r in answers.records} == {Status.ACCEPTED}
        self.state, _ = finish_round(self.state, work, answers, self.run_spec)
        return found


def deltas(found):
    return {name: dense(update.sparse) for name, update in found.items()}


def differing(honest, found, client):
    names = [field.name for field in fields(ClientUpdate)]
    pairs = [(getattr(honest[client], n), getattr(found[client], n)) for n in names]
    return {n for n, (one, two) in zip(names, pairs, strict=True) if not same(one, two)}


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    phases = (Phase.SPARSIFY, Phase.FINETUNE)
    return {
        phase: Federation(tmp_path_factory.mktemp(phase), phase).play()
        for phase in phases
    }


@pytest.mark.parametrize("kind", methods(ATTACK))
def test_a_hostile_answer_is_a_valid_message_that_says_something_else(
    tmp_path, honest, kind
):
    phase = Phase.FINETUNE if kind == "validation-bad" else Phase.SPARSIFY
    omniscient = "seen" in methods(ATTACK)[kind].needs
    found = Federation(tmp_path, phase, kind=kind, omniscient=omniscient).play()
    before = honest[phase]
    wanted = next(
        (names for start, names in CHANGED.items() if kind.startswith(start)),
        {"delta"},
    )
    assert differing(before, found, LIAR) == wanted
    assert all(not differing(before, found, name) for name in NAMES[:3])


def test_a_liar_about_cuts_is_honest_before_them(tmp_path, honest):
    found = Federation(tmp_path, kind="validation-bad").play()
    assert not differing(honest[Phase.SPARSIFY], found, LIAR)


def test_a_forged_delta_arrives_as_long_as_it_was_forged(tmp_path, honest):
    found = Federation(tmp_path, kind="sign-flip", scale=10.0).play()
    true, said = (deltas(f)[LIAR] for f in (honest[Phase.SPARSIFY], found))
    assert np.array_equal(np.flatnonzero(true), np.flatnonzero(said))
    assert np.linalg.norm(said) == pytest.approx(10 * np.linalg.norm(true), rel=0.02)
    assert float(true @ said) < 0


def test_clients_are_honest_before_the_first_hostile_round(tmp_path):
    first = Federation(tmp_path / "1", kind="free-rider", from_round=2)
    assert np.any(deltas(first.play())[LIAR])
    assert not np.any(deltas(first.play())[LIAR])


def test_the_residual_of_a_hostile_client_is_that_of_its_honest_answer(tmp_path):
    for name, attack in (("honest", {}), ("hostile", {"kind": "sign-flip"})):
        Federation(tmp_path / name, **attack).play()
    one, two = (
        ClientStore(tmp_path / name / "run-1", LIAR).load_generation(2)
        for name in ("honest", "hostile")
    )
    assert np.any(one.residual)
    assert np.array_equal(one.residual, two.residual)
    assert np.array_equal(one.sent.values, two.sent.values)


def test_without_omniscience_colluders_know_one_another_alone(tmp_path, honest):
    found = deltas(Federation(tmp_path, kind="mimic", clients=2.0).play())
    true = deltas(honest[Phase.SPARSIFY])
    assert np.array_equal(found[NAMES[2]], true[NAMES[2]])
    said = found[NAMES[3]]
    assert float(said @ true[NAMES[2]]) > 0.95 * float(said @ said)


def test_a_mimic_sends_the_delta_of_the_first_client(tmp_path, honest):
    found = deltas(Federation(tmp_path, kind="mimic", omniscient=True).play())
    true = deltas(honest[Phase.SPARSIFY])[NAMES[0]]
    cosine = found[LIAR] @ true
    cosine /= np.linalg.norm(found[LIAR]) * np.linalg.norm(true)
    assert cosine > 0.95


@pytest.mark.slow
def test_what_hostile_clients_know_does_not_depend_on_who_ran_before(tmp_path):
    """Later rounds have residuals: both orders see them as the round before left."""
    both = []
    for order in (1, -1):
        played = Federation(tmp_path / f"{order}", kind="alie", clients=2.0, scale=3.0)
        found = [_in_order(played, order) for _ in range(3)]
        both.append(found)
    for one, two in zip(*both, strict=True):
        assert all(np.array_equal(one[name], two[name]) for name in NAMES)


def _in_order(played, order):
    """Play a round with the clients in an order, each in a worker of its own."""
    work = plan_round(played.state, played.run_spec)
    parts, found = [], {}
    for assignment in work.request.assignments[::order]:
        request = replace(work.request, assignments=(assignment,))
        worker = worker_module.Worker(played.task, played.root)
        part = worker.play(replace(request, individual_updates=True))
        (one,) = part.individual_updates
        found[one.client_id] = one.delta
        parts.append(part)
    from fedprune.server.rounds.waiting.collecting import collect

    class Played:
        def ask(self, _work):
            yield from parts

    answers = collect(work, Played())
    played.state, _ = finish_round(played.state, work, answers, played.run_spec)
    return {name: dense(delta) for name, delta in found.items()}


def test_the_last_delta_of_a_free_rider_is_the_honest_one_of_its_last_round(tmp_path):
    rider = Federation(tmp_path, Phase.WARMUP, kind="free-rider-old")
    assert not np.any(deltas(rider.play())[LIAR])
    state = rider.state
    work = plan_round(state, rider.run_spec)
    task = rider.task
    hostile = HostileClients(task, tmp_path)
    cache = ModelCache(task)
    message = codec.address_plan(work.request.variants[0], LIAR, 1)
    plan = codec.decode_plan(message, work.request.max_bytes)
    store = ClientStore(tmp_path / plan.run_id, LIAR, durable=False)
    opened = open_plan(plan, cache, store)
    assignment = next(o for o in work.request.assignments if o.client_id == LIAR)
    expected = work.expected(assignment)
    last = store.load_generation(plan.round)
    sent = last.sent_values(tiny_structure().spec(last.keep))
    found = codec.decode_update(
        hostile.answer(opened, expected, cache, store), expected
    )
    assert dense(found.sparse) == pytest.approx(sent, rel=0.02)
    again = codec.decode_update(run_round(opened, cache, store), expected)
    assert not np.array_equal(dense(again.sparse), dense(found.sparse))


@pytest.mark.parametrize(
    ("clients", "wanted"),
    [(1.0, NAMES[3:]), (2.0, NAMES[2:]), (0.3, NAMES[2:]), (0.25, NAMES[3:])],
)
def test_the_last_clients_are_hostile(clients, wanted):
    attack = Attack(kind="noise", clients=clients)
    assert hostile_names(NAMES[::-1], attack) == wanted
    assert hostile_names(NAMES, Attack(clients=clients)) == ()


@pytest.mark.parametrize(
    ("share", "count"), [(0.07, 7), (0.29, 29), (0.071, 8), (1e-12, 1)]
)
def test_a_share_of_a_hundred_clients_is_rounded_up_from_what_was_written(share, count):
    names = [f"{number:03}" for number in range(100)]
    assert len(hostile_names(names, Attack(kind="noise", clients=share))) == count


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"attack.clients": 5.0}, "attack.clients: found 5, want <= task.clients = 4"),
        ({"attack.clients": 1.5}, "found 1.5, want a whole number, or a share below 1"),
        ({"attack.from_round": 99}, "attack.from_round: found 99, want <= all 7"),
        ({"attack.kind": "sign"}, "found .sign., want one of .none., .alie."),
    ],
)
def test_an_attack_that_cannot_happen_is_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        make_config(**changes)


def test_natural_clients_are_counted_at_the_start():
    task = make_task(attack__kind="noise", attack__clients=3.0)
    task.__dict__["clients"] = NAMES[:2]
    with pytest.raises(ConfigError, match=r"clients is 3, and .* has 2 clients"):
        check_attack(task)


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        ({"kind": "backdoor", "target": 3}, "attack.target is 3; want a class below 3"),
        ({"kind": "noise"}, ""),
    ],
)
def test_an_attack_is_tried_before_the_run(attack, words):
    task = make_task(**{f"attack__{key}": value for key, value in attack.items()})
    if words:
        with pytest.raises(ConfigError, match=words):
            check_attack(task)
    else:
        said = (
            "attack.kind is 'noise': client-003, 1 of 4 clients, hostile from round 1"
        )
        assert check_attack(task) == f"{said} on"
    assert check_attack(make_task()) == ""


def test_data_that_are_no_arrays_cannot_be_poisoned():
    examples = MappedExamples(
        data=[1], rows=np.arange(1), collate=list, labels=np.int64([0])
    )
    with pytest.raises(ConfigError, match="'backdoor' needs data in arrays"):
        triggered_examples(examples, 0)


def test_triggered_examples_are_those_of_other_classes():
    task = make_task()
    found = triggered_examples(task.test, 2)
    assert set(found.targets.tolist()) == {2}
    assert len(found) == np.count_nonzero(task.test.targets != 2)


def test_a_server_of_devices_refuses_hostile_clients():
    task = make_task(attack__kind="noise")
    with pytest.raises(ConfigError, match="devices are never made hostile"):
        try_network(task, task.build_model(), data=False)
    assert try_network(task, task.build_model()).structure == tiny_structure()
