from dataclasses import fields, replace
from hashlib import blake2b

import numpy as np
import pytest
from helpers.codec.examples import (
    KNOWN,
    PLAN,
    SPEC,
    STRUCTURE,
    assert_same_delta,
    assert_same_statistics,
    make_broadcast,
    make_expected,
    make_plan,
    make_update,
)
from helpers.codec.examples import SETTINGS as EXAMPLE
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprune.common import codec
from fedprune.common.codec import frame
from fedprune.common.codec.fields import SETTINGS
from fedprune.common.config import load_config
from fedprune.common.errors import ConfigError, DataError, PayloadError
from fedprune.common.messages import Phase, TrainSettings, Validation
from fedprune.common.spec import PrunePlan

BIG = 1 << 20


def assert_same(found, wanted, skip=()):
    for field in fields(wanted):
        if field.name not in skip:
            assert getattr(found, field.name) == getattr(wanted, field.name), field.name


def assert_same_plan(found, wanted):
    assert found.digest == wanted.digest
    assert found.keep.dtype == bool
    np.testing.assert_array_equal(found.keep, wanted.keep)
    assert_same(found, wanted, skip=("keep",))


def assert_same_broadcast(found, wanted):
    assert_same_plan(found.plan, wanted.plan)
    assert_same_statistics(found.statistics, wanted.statistics)
    assert_same(found, wanted, skip=("plan", "statistics"))


def assert_same_round(found, wanted):
    assert_same_broadcast(found.broadcast, wanted.broadcast)
    assert (found.teacher_broadcast is None) == (wanted.teacher_broadcast is None)
    if wanted.teacher_broadcast is not None:
        assert_same_broadcast(found.teacher_broadcast, wanted.teacher_broadcast)
    assert (found.targets is None) == (wanted.targets is None)
    if wanted.targets is not None:
        assert found.targets.dtype == bool
        np.testing.assert_array_equal(found.targets, wanted.targets)
    moments = found.teacher_statistics, wanted.teacher_statistics
    assert (moments[0] is None) == (moments[1] is None)
    if moments[1] is not None:
        assert_same_statistics(*moments)
    skip = ("broadcast", "teacher_broadcast", "teacher_statistics", "targets")
    assert_same(found, wanted, skip=skip)


def assert_same_update(found, wanted):
    assert_same_delta(found.delta, wanted.delta)
    assert_same_statistics(found.statistics, wanted.statistics)
    assert (found.importance is None) == (wanted.importance is None)
    if wanted.importance is not None:
        assert found.importance.tobytes() == wanted.importance.tobytes()
    assert_same(found, wanted, skip=("delta", "statistics", "importance"))


def test_a_round_plan_comes_back():
    plan = make_plan()
    assert_same_round(codec.decode_plan(codec.encode_plan(plan), BIG), plan)


def test_the_least_round_plan_comes_back():
    first = PrunePlan(structure=STRUCTURE, keep=np.ones(0, dtype=bool))
    plan = replace(
        make_plan(),
        acknowledged=0,
        structure_json=b"",
        broadcast=replace(make_broadcast(), plan=first, statistics=None, weights=b""),
        teacher=b"",
        teacher_broadcast=None,
        targets=None,
    )
    assert_same_round(codec.decode_plan(codec.encode_plan(plan), BIG), plan)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), max_size=40), st.booleans(), st.sampled_from(Phase))
def test_any_prune_plan_comes_back(keep, rollback, phase):
    pruned = replace(PLAN, keep=np.array(keep, dtype=bool), rollback=rollback)
    plan = replace(
        make_plan(), phase=phase, broadcast=replace(make_broadcast(), plan=pruned)
    )
    found = codec.decode_plan(codec.encode_plan(plan), BIG)
    assert_same_round(found, plan)


def test_the_decoded_weights_have_the_digest_that_was_promised():
    broadcast = codec.decode_plan(codec.encode_plan(make_plan()), BIG).broadcast
    weights = codec.decode_weights(broadcast.weights, SPEC)
    codec.check_weights(weights, broadcast.digest)


def test_the_shared_part_is_encoded_once_and_addressed_to_each_client():
    plan = make_plan()
    shared = codec.encode_shared(plan)
    for client_id, acknowledged in (("a", 0), ("b", 2)):
        wanted = replace(plan, client_id=client_id, acknowledged=acknowledged)
        data = codec.address_plan(shared, client_id, acknowledged)
        assert data == codec.encode_plan(wanted)
        assert_same_round(codec.decode_plan(data, BIG), wanted)


def test_a_plan_that_clients_would_refuse_is_not_encoded():
    for change in ({"lr": 0.0}, {"penalty": "l3"}, {"batch": 0}):
        plan = replace(make_plan(), settings=replace(EXAMPLE, **change))
        with pytest.raises(ConfigError, match=f"settings.{next(iter(change))}"):
            codec.encode_plan(plan)


@pytest.mark.parametrize("client_id", ["", "a/b", "..", "a\nb", "x" * 129, "a\\b"])
def test_a_client_name_that_could_be_a_path_is_not_encoded(client_id):
    with pytest.raises(ConfigError, match="client_id"):
        codec.encode_plan(replace(make_plan(), client_id=client_id))


def test_a_setting_given_as_an_int_travels_as_a_float():
    plan = replace(make_plan(), settings=replace(EXAMPLE, decay=1, lr=1))
    found = codec.decode_plan(codec.encode_plan(plan), BIG).settings
    assert type(found.decay) is float
    assert found.lr == 1.0


def test_the_settings_on_the_wire_are_all_settings_in_order():
    assert list(SETTINGS) == [field.name for field in fields(TrainSettings)]


@pytest.mark.parametrize(
    ("key", "values"),
    {
        "client.epochs": (1, 100_000, 100_001),
        "client.batch": (0, 1, 2**24, 2**24 + 1),
        "client.clip": (-0.1, 0.0, 1e300),
        "client.validation": (-0.1, 0.0, 0.999, 1.0),
        "client.score_examples": (0, 1, 2**24, 2**24 + 1),
        "client.optimizer": ("sgd", "adam", "adamw", "rmsprop", "lion"),
        "client.weight_decay": (-0.1, 0.0, 1e300),
        "client.proximal": (-0.1, 0.0, 1e300),
        "client.precision": ("float32", "bf16", "fp16"),
        "run.seed": (-1, 0, 2**63 - 1, 2**63),
    }.items(),
)
def test_a_configuration_and_the_wire_take_the_same_values(key, values):
    name = key.partition(".")[2]
    for value in values:
        plan = replace(make_plan(), settings=replace(EXAMPLE, **{name: value}))
        try:
            load_config(None, {key: value})
        except ConfigError:
            with pytest.raises(ConfigError, match=f"settings.{name}"):
                codec.encode_plan(plan)
        else:
            found = codec.decode_plan(codec.encode_plan(plan), BIG)
            assert getattr(found.settings, name) == value


MORE = {
    "optimizer": "adam",
    "weight_decay": 0.01,
    "proximal": 0.1,
    "precision": "bf16",
    "frozen": ("conv1", "layers.0"),
    "quantise": "int8",
}


@pytest.mark.parametrize("name", [*MORE, "all"])
def test_settings_with_a_default_travel_where_one_of_them_differs(name):
    changes = MORE if name == "all" else {name: MORE[name]}
    plan = replace(make_plan(), settings=replace(EXAMPLE, **changes))
    data = codec.encode_plan(plan)
    assert_same_round(codec.decode_plan(data, BIG), plan)
    assert len(data) > len(codec.encode_plan(make_plan()))


def test_64_frozen_modules_fit_into_a_plan_and_65_are_refused():
    names = tuple(f"{n:03d}" + "x" * 125 for n in range(65))
    plan = replace(make_plan(), settings=replace(EXAMPLE, frozen=names[:64]))
    assert_same_round(codec.decode_plan(codec.encode_plan(plan), BIG), plan)
    with pytest.raises(ConfigError, match=r"settings.frozen.*65 names"):
        codec.encode_plan(replace(plan, settings=replace(EXAMPLE, frozen=names)))
    with pytest.raises(ConfigError, match=r"task.freeze: found .* 64 at most"):
        load_config(None, {"task.freeze": names})


def test_a_stored_broadcast_comes_back():
    broadcast = make_broadcast()
    found = codec.decode_broadcast(codec.encode_broadcast(broadcast))
    assert_same_broadcast(found, broadcast)


@pytest.mark.parametrize("values", ["int8", "float32"])
@settings(max_examples=20, deadline=None)
@given(count=st.integers(0, 60), seed=st.integers(0, 2**32))
def test_an_update_comes_back(values, count, seed):
    update = make_update(count, values, seed)
    data = codec.encode_update(update, KNOWN)
    assert_same_update(codec.decode_update(data, make_expected(values)), update)
    assert codec.encode_update(make_update(count, values, seed), KNOWN) == data


def test_the_least_update_comes_back():
    update = replace(
        make_update(0),
        importance=None,
        statistics=None,
        validation=Validation(loss_sum=0.0, metric_sum=0.0, count=0),
    )
    data = codec.encode_update(update, KNOWN)
    expected = make_expected(scored=False, measured=False)
    assert_same_update(codec.decode_update(data, expected), update)


def test_a_client_may_abstain_from_scoring():
    update = replace(make_update(6), importance=None)
    data = codec.encode_update(update, KNOWN)
    assert codec.decode_update(data, make_expected()).importance is None


def test_exactly_the_allowed_share_of_entries_is_accepted():
    # ceil(0.1 * 133) = 14
    update = make_update(14)
    assert len(update.delta.indices) == 14
    data = codec.encode_update(update, KNOWN)
    assert codec.decode_update(data, make_expected(update_density=0.1))
    more = codec.encode_update(make_update(15), KNOWN)
    with pytest.raises(PayloadError, match=r"delta.count.*15; want 0..14"):
        codec.decode_update(more, make_expected(update_density=0.1))


def test_moments_travel_as_float16():
    statistics = replace(make_update(1).statistics, mean=np.float32([1 / 3, 1, 2, 3]))
    update = replace(make_update(6), statistics=statistics)
    found = codec.decode_update(codec.encode_update(update, KNOWN), make_expected())
    assert found.statistics.mean[0] == np.float32(np.float16(1 / 3))


@pytest.mark.parametrize("field", ["mean", "variance"])
@pytest.mark.parametrize("bad", [70000.0, np.nan, np.inf])
def test_a_moment_beyond_float16_is_not_encoded(field, bad):
    statistics = replace(
        make_update(1).statistics, **{field: np.float32([0, bad, 0, 0])}
    )
    with pytest.raises(DataError, match=f"1 entries of {field}"):
        codec.encode_update(replace(make_update(6), statistics=statistics), KNOWN)


def test_the_bound_of_a_value_is_not_rounded():
    update = make_update(6, "float32")
    data = codec.encode_update(update, KNOWN)
    largest = float(np.abs(update.delta.values).max())
    below = np.nextafter(largest, 0.0)  # as float32 it is the value
    assert codec.decode_update(data, make_expected("float32", max_value=largest))
    with pytest.raises(PayloadError, match=r"delta\.values"):
        codec.decode_update(data, make_expected("float32", max_value=below))


@pytest.mark.parametrize("values", ["int8", "float32"])
@pytest.mark.parametrize("count", [0, 6, 60])
def test_fixed_bytes_are_those_that_are_no_entries(values, count):
    data = codec.encode_update(make_update(count, values), KNOWN)
    delta = codec.encode_delta(make_update(count, values).delta, KNOWN)
    entries = codec.delta_parts(delta)["entries"]
    found = codec.decode_update(data, make_expected(values=values))
    assert found.fixed == len(data) - entries


def test_fixed_bytes_do_not_grow_with_the_number_of_entries():
    expected = make_expected(values="float32")
    messages = [
        codec.encode_update(make_update(n, "float32"), KNOWN) for n in range(1, 30)
    ]
    sizes = {codec.decode_update(data, expected).fixed for data in messages}
    assert max(sizes) - min(sizes) <= 2


def test_every_flipped_bit_of_a_plan_is_refused():
    message = codec.encode_plan(make_plan())
    for bit in range(8 * len(message)):
        forged = bytearray(message)
        forged[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises(PayloadError):
            codec.decode_plan(bytes(forged), BIG)


def test_the_shared_part_of_another_plan_is_refused():
    one, other = (codec.encode_shared(replace(make_plan(), round=n)) for n in (4, 5))
    assert len(one) == len(other)
    message = codec.address_plan(one, "edge-03", 0)
    mixed = message.replace(one, other)
    assert mixed != message
    # Each part is whole in itself: the digest of the plan alone tells.
    with pytest.raises(PayloadError, match="damaged"):
        codec.decode_plan(mixed, BIG)


def test_a_plan_is_read_by_what_recalls_it():
    shared, asked = codec.encode_shared(make_plan()), []
    known = codec.read_shared(shared, 0)
    message = codec.address_plan(shared, "edge-03", 2)
    plan = codec.decode_plan(
        message, BIG, max_weights=7, read=lambda *given: asked.append(given) or known
    )
    assert asked == [(shared, 7)]
    assert (plan.client_id, plan.acknowledged) == ("edge-03", 2)
    assert (known.client_id, known.acknowledged) == ("unaddressed", 0)
    assert plan.broadcast is known.broadcast


def test_to_address_a_plan_hashes_none_of_its_shared_part(monkeypatch):
    shared, hashed = codec.encode_shared(make_plan()), []

    class Counting:
        def __init__(self, digest_size):
            self.state = blake2b(digest_size=digest_size)

        def update(self, data):
            hashed.append(len(data))
            self.state.update(data)

        def digest(self):
            return self.state.digest()

    monkeypatch.setattr(frame, "blake2b", Counting)
    codec.address_plan(shared, "edge-03", 0)
    assert sum(hashed) < 60
