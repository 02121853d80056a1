"""The client's half of a round: one plan in, one answer out, nothing half done."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.codec.dense import dense
from helpers.tiny_federation import (
    answer_to,
    make_examples,
    make_setting,
    make_task,
    plan_for,
    start,
    tiny_structure,
)

from fedprune.client.rounds import round as rounds
from fedprune.client.rounds.model_cache import ModelCache
from fedprune.client.rounds.opened import open_plan, stored_teacher
from fedprune.client.rounds.store import ClientStore
from fedprune.common import codec
from fedprune.common.data.examples import ArrayExamples
from fedprune.common.errors import DataError, IntegrityError, PayloadError
from fedprune.common.messages import Phase
from fedprune.common.methods.kinds import CHOICE
from fedprune.common.methods.registry import methods
from fedprune.common.models.flat import get_weights
from fedprune.common.pruning.plan import child_plan, rollback_plan
from fedprune.common.pruning.remap import remap
from fedprune.common.sparsity.known_positions import known_positions
from fedprune.common.sparsity.sparsify import COMMON, sparsify
from fedprune.common.spec import PrunePlan
from fedprune.server.rounds.broadcast import encode_network
from fedprune.server.rounds.cycle import Cursor
from fedprune.server.rounds.plan import plan_round
from fedprune.server.rounds.state import Snapshot

SCORING = Cursor(phase=Phase.SPARSIFY, index=1, step=0.5)


class Client:
    """One client of the tiny federation, and the plan that it is sent."""

    def __init__(self, root, examples=None, cursor=SCORING, **changes):
        self.task = make_task(examples=examples, **changes)
        self.run_spec = make_setting(self.task)
        self.state = replace(start(self.task, self.run_spec), cursor=cursor)
        self.work = plan_round(self.state, self.run_spec)
        self.plan = plan_for(self.work)
        self.cache = ModelCache(self.task)
        self.store = ClientStore(root, self.plan.client_id)

    def answer(self, plan=None):
        return answer_to(self.plan if plan is None else plan, self.cache, self.store)

    def decode(self, data):
        asked = replace(self.work, plan=self.plan)
        expected = asked.expected(asked.request.assignments[0])
        return codec.decode_update(data, expected)

    def with_plan(self, prune_plan: PrunePlan, **changes):
        """Return the plan with the network that another prune plan keeps."""
        structure = self.run_spec.structure
        weights = remap(
            self.state.weights, structure, structure.full(), prune_plan.keep
        )
        spec = structure.spec(prune_plan.keep)
        broadcast, _ = encode_network(prune_plan, weights, None, spec, "float32")
        return replace(self.plan, broadcast=broadcast, **changes)


def generations(root):
    return sorted(path.name for path in root.glob("client-*/*"))


def test_an_answer_is_what_the_server_expects_of_it(tmp_path):
    client = Client(tmp_path)
    update = client.decode(client.answer())
    data = client.task.client_data(client.plan.client_id)
    assert update.num_examples == len(data.train) > 0
    assert update.validation.count == len(data.validation) > 0
    assert update.importance is not None
    assert update.importance.shape == (16,)
    assert update.importance.max() > 0
    assert update.statistics is not None
    assert update.statistics.num_examples == len(data.train)
    assert 0 < len(update.delta.indices) <= np.ceil(0.25 * client.work.spec.size)
    assert update.loss > 0


@pytest.mark.parametrize("again", ["same client", "fresh process", "fresh device"])
def test_the_same_plan_twice_gives_the_same_bytes(tmp_path, again):
    client = Client(tmp_path / "one")
    first = client.answer()
    if again == "fresh process":
        client = Client(tmp_path / "one")
    if again == "fresh device":
        client = Client(tmp_path / "other")
    assert client.answer() == first


def test_an_answer_does_not_depend_on_who_was_played_before(tmp_path):
    first = Client(tmp_path / "one")
    alone = first.answer()
    other = Client(tmp_path / "two")
    neighbour = plan_for(other.work, 3)
    answer_to(neighbour, other.cache, ClientStore(tmp_path, neighbour.client_id))
    assert other.answer() == alone


def test_what_is_sent_and_kept_back_is_what_changed_and_was_owed(tmp_path, monkeypatch):
    client = Client(tmp_path)
    client.answer()
    first = client.store.load_generation(2)
    assert first is not None
    trained = []

    def remember(model):
        trained.append(get_weights(model))
        return trained[-1]

    monkeypatch.setattr("fedprune.client.rounds.round.get_weights", remember)
    client.plan = replace(client.plan, round=2, acknowledged=1)
    update = client.decode(client.answer())
    second = client.store.load_generation(3)
    assert second is not None
    sent = dense(codec.dequantise_delta(update.delta, client.work.spec))
    total = trained[0] - client.work.weights + first.residual
    np.testing.assert_array_equal(second.sent_values(client.work.spec), sent)
    # The residual is stored as bfloat16: 8 bits of its mantissa.
    np.testing.assert_allclose(sent + second.residual, total, rtol=2**-8, atol=1e-7)


OWN = [name for name, one in methods(CHOICE).items() if COMMON not in one.needs]


@pytest.mark.parametrize("choice", OWN)
def test_the_entries_are_chosen_as_the_settings_say(tmp_path, monkeypatch, choice):
    client = Client(tmp_path, update__choice=choice, update__values="step")
    trained = []

    def remember(model):
        trained.append(get_weights(model))
        return trained[-1]

    monkeypatch.setattr("fedprune.client.rounds.round.get_weights", remember)
    found = client.decode(client.answer()).delta
    total, layout = trained[0] - client.work.weights, codec.Layout(client.work.spec)
    bits = codec.value_bits("step")
    wanted = {
        name: sparsify(
            total, 0.25, methods(CHOICE)[name], layout=layout, value_bits=bits
        )
        for name in OWN
    }
    assert wanted["rate"].indices.tolist() != wanted["magnitude"].indices.tolist()
    quantised = codec.quantise_delta(wanted[choice], client.work.spec, "step")
    assert found.indices.tolist() == quantised.indices.tolist()
    assert found.values.tolist() == quantised.values.tolist()


def test_shared_entries_are_the_same_for_all_clients_and_travel_without_positions(
    tmp_path,
):
    clients = {
        choice: Client(tmp_path / choice, update__choice=choice, update__values="int8")
        for choice in ("shared", "magnitude")
    }
    answers = {choice: one.answer() for choice, one in clients.items()}
    client = clients["shared"]
    known = client.work.side_info.mask
    assert known is not None
    assert np.count_nonzero(known) == np.ceil(0.25 * client.work.spec.size)
    sent = client.decode(answers["shared"]).sparse
    assert known[sent.indices].all()
    assert len(sent.indices) > 0.9 * np.count_nonzero(known)
    assert len(answers["shared"]) < len(answers["magnitude"])
    other = plan_for(client.work, 3)
    assert other.round == client.plan.round
    decoded = open_plan(other, client.cache, ClientStore(tmp_path, other.client_id))
    np.testing.assert_array_equal(decoded.side_info.mask, known)


def test_what_is_not_shared_in_a_round_waits_in_the_residual(tmp_path):
    client = Client(tmp_path, update__choice="shared")
    client.answer()
    kept = client.store.load_generation(2)
    known = client.work.side_info.mask
    assert np.any(kept.residual[~known])
    client.plan = replace(client.plan, round=2, acknowledged=1)
    again = known_positions(client.plan, None, len(known), "shared")
    assert np.any(again & ~known)


def test_a_smaller_step_error_gives_finer_levels(tmp_path):
    finest = {}
    for error in (0.001, 0.2):
        changes = {"update__values": "step", "update__step_error": error}
        client = Client(tmp_path / str(error), **changes)
        finest[error] = np.abs(client.decode(client.answer()).delta.values).max()
    assert finest[0.001] > 3 * finest[0.2]


def test_what_is_sent_whole_is_not_what_the_residual_overwrites(tmp_path):
    found = {}
    for feedback in (False, True):
        changes = {"update__values": "float32", "update__update_density": 1.0}
        changes["update__error_feedback"] = feedback
        client = Client(tmp_path / str(feedback), **changes)
        found[feedback] = client.decode(client.answer()).delta.values
    assert np.any(found[True])
    np.testing.assert_array_equal(found[True], found[False])


def test_without_error_feedback_nothing_is_kept(tmp_path):
    client = Client(tmp_path, update__error_feedback=False)
    client.answer()
    assert generations(tmp_path) == []


def test_a_client_without_data_abstains_by_name(tmp_path):
    client = Client(tmp_path)
    client.task.__dict__["parts"][client.plan.client_id] = np.zeros(0, dtype=np.int64)
    with pytest.raises(DataError, match="client-000 has no training example"):
        client.answer()
    assert generations(tmp_path) == []


def test_a_client_of_one_class_trains_but_does_not_score(tmp_path):
    examples = make_examples(120)
    one_class = ArrayExamples(
        inputs=examples.inputs, targets=np.ones_like(examples.targets)
    )
    client = Client(tmp_path, examples=one_class)
    update = client.decode(client.answer())
    assert update.importance is None
    assert len(update.delta.indices) > 0


def test_a_client_that_diverged_says_so_and_keeps_no_residual(tmp_path):
    client = Client(tmp_path, client__lr=1e30, client__clip=0.0)
    with pytest.raises(DataError, match=r"client-000 diverged.* lower client\.lr"):
        client.answer()
    assert generations(tmp_path) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 7, -1])
def test_one_weight_that_is_not_finite_stops_a_client(
    tmp_path, monkeypatch, value, place
):
    real = rounds._delta

    def spoiled(network, opened):
        delta = real(network, opened)
        delta[place] = value
        return delta

    monkeypatch.setattr(rounds, "_delta", spoiled)
    with pytest.raises(DataError, match="diverged"):
        Client(tmp_path).answer()
    assert generations(tmp_path) == []


def test_a_closing_round_trains_nothing_sends_nothing_and_owes_as_before(tmp_path):
    client = Client(tmp_path)
    client.answer()
    before = generations(tmp_path)
    closing = Cursor(phase=Phase.FINETUNE, index=3, final=True, closing=True)
    last = Client(tmp_path, cursor=closing)
    last.plan = replace(last.plan, round=2)
    update = last.decode(last.answer())
    assert len(update.delta.indices) == 0
    assert update.statistics is not None
    assert update.validation.count > 0
    assert generations(tmp_path) == before


def cut_plan(*units):
    structure = tiny_structure()
    keep = structure.full()
    keep[list(units)] = False
    full = PrunePlan(structure=structure.digest, keep=structure.full())
    return child_plan(structure, full, keep)


def test_a_plan_that_gives_units_back_needs_the_rollback_flag(tmp_path):
    structure = tiny_structure()
    client = Client(tmp_path)
    smaller = cut_plan(0, 9)
    client.answer(client.with_plan(smaller, round=2))
    full = client.plan.broadcast.plan
    with pytest.raises(PayloadError, match=r"plan\.keep.*is no rollback"):
        client.answer(client.with_plan(full, round=3))
    back = rollback_plan(structure, smaller, full)
    assert client.answer(client.with_plan(back, round=3))


def test_a_client_that_missed_cuts_needs_only_the_newest_plan(tmp_path):
    client = Client(tmp_path)
    client.answer()
    once = cut_plan(0)
    keep = once.keep.copy()
    keep[9] = False
    twice = child_plan(tiny_structure(), once, keep)
    client.plan = client.with_plan(twice, round=5, acknowledged=1)
    spec = tiny_structure().spec(twice.keep)
    weights = codec.decode_weights(client.plan.broadcast.weights, spec)
    client.work = replace(
        client.work, side_info=codec.SideInformation.of(spec, weights)
    )
    assert client.decode(client.answer()).delta.size == spec.size


def test_a_structure_is_asked_for_when_it_is_not_held_and_kept_when_it_is(tmp_path):
    client = Client(tmp_path)
    without = replace(client.plan, structure_json=b"")
    with pytest.raises(IntegrityError, match=r"structure .* is not stored here"):
        client.answer(without)
    first = client.answer()
    assert client.answer(without) == first
    fresh = Client(tmp_path)
    assert fresh.answer(without) == first


def test_another_structure_than_the_promised_one_is_refused_and_not_kept(tmp_path):
    client = Client(tmp_path)
    other = client.plan.structure_json.replace(b'"conv1"', b'"convX"')
    with pytest.raises(PayloadError) as caught:
        client.answer(replace(client.plan, structure_json=other))
    assert caught.value.field == "structure"
    assert not list(tmp_path.glob("shared/*"))
    assert client.answer()


def test_a_damaged_structure_is_replaced_by_the_one_that_is_sent(tmp_path):
    client = Client(tmp_path)
    first = client.answer()
    (path,) = tmp_path.glob("shared/structure-*")
    path.write_bytes(path.read_bytes()[:-9])
    again = Client(tmp_path)
    assert again.answer() == first
    assert Client(tmp_path).answer(replace(again.plan, structure_json=b"")) == first


def test_a_broadcast_of_other_weights_than_promised_is_refused(tmp_path):
    client = Client(tmp_path)
    broadcast = replace(client.plan.broadcast, digest=b"0" * 16)
    with pytest.raises(PayloadError) as caught:
        client.answer(replace(client.plan, broadcast=broadcast))
    assert caught.value.field == "weights"
    assert generations(tmp_path) == []


def test_a_plan_of_another_structure_is_refused(tmp_path):
    client = Client(tmp_path)
    foreign = replace(client.plan.broadcast.plan, structure=b"0" * 16)
    broadcast = replace(client.plan.broadcast, plan=foreign)
    with pytest.raises(PayloadError) as caught:
        client.answer(replace(client.plan, broadcast=broadcast))
    assert caught.value.field == "plan.structure"


def test_targets_of_another_network_are_refused(tmp_path):
    client = Client(tmp_path)
    targets = np.zeros(15, dtype=bool)
    with pytest.raises(PayloadError) as caught:
        open_plan(replace(client.plan, targets=targets), client.cache, client.store)
    assert caught.value.field == "targets"


def taught(root, **changes):
    """Return a client in a fine-tune round whose plan holds its teacher."""
    client = Client(root, **changes)
    broadcast = client.work.plan.broadcast
    teacher = Snapshot(
        round=1,
        plan=broadcast.plan,
        weights=client.work.weights,
        digest=broadcast.digest,
        statistics=None,
    )
    cursor = Cursor(phase=Phase.FINETUNE, index=1)
    client.state = replace(
        client.state, round=1, cursor=cursor, dense=teacher, previous=teacher
    )
    client.work = plan_round(client.state, client.run_spec)
    client.plan = plan_for(client.work)
    return client


def test_a_teacher_is_kept_and_used_without_being_sent_again(tmp_path):
    client = taught(tmp_path)
    assert client.plan.teacher_broadcast is not None
    first = client.answer()
    assert client.answer(replace(client.plan, teacher_broadcast=None)) == first


def test_a_teacher_changes_what_is_learned(tmp_path):
    with_teacher = taught(tmp_path / "one")
    alone = taught(tmp_path / "two", distill__weight=0.0)
    assert not alone.plan.teacher
    one, two = (c.decode(c.answer()).delta for c in (with_teacher, alone))
    assert (one.indices.tolist(), one.values.tolist()) != (
        two.indices.tolist(),
        two.values.tolist(),
    )


def test_a_teacher_that_is_not_held_is_asked_for(tmp_path):
    client = taught(tmp_path)
    with pytest.raises(IntegrityError, match=r"teacher .* is not stored here"):
        client.answer(replace(client.plan, teacher_broadcast=None))


def test_a_broadcast_that_is_to_be_kept_serves_as_the_next_teacher(tmp_path):
    client = Client(tmp_path)
    assert client.plan.keep_broadcast
    client.answer()
    teacher = client.plan.broadcast
    found = stored_teacher(teacher.digest, client.store)
    assert (found.digest, found.weights) == (teacher.digest, teacher.weights)
    np.testing.assert_array_equal(found.plan.keep, teacher.plan.keep)
