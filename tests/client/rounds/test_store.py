"""Client store between rounds: exact, crash-safe, acknowledgement-safe."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.codec.dense import dense as dense_delta
from helpers.tiny_federation import (
    make_setting,
    make_task,
    plan_for,
    start,
    tiny_structure,
)
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedprune.client.rounds.broadcasts import DecodedBroadcast
from fedprune.client.rounds.opened import OpenedPlan
from fedprune.client.rounds.send import _residual
from fedprune.client.rounds.steps.generations import (
    Generation,
    encode_generation,
    from_bfloat16,
    on_disk,
    stored_bytes,
    to_bfloat16,
)
from fedprune.client.rounds.store import ClientStore, Upkeep
from fedprune.common import codec
from fedprune.common.codec.delta.quantise import VALUES
from fedprune.common.config import Update
from fedprune.common.errors import PayloadError, Reason
from fedprune.common.messages import QuantisedDelta, SparseDelta
from fedprune.common.pruning.plan import child_plan, full_plan, rollback_plan
from fedprune.common.pruning.remap import remap
from fedprune.common.sparsity.sparsify import sparsify
from fedprune.common.spec import ModelSpec, PrunePlan, TensorSpec
from fedprune.server.rounds.plan import plan_round

FLOATS = arrays(
    np.float32,
    st.integers(1, 20),
    elements=st.floats(-(2.0**100), 2.0**100, width=32),
)


@pytest.mark.slow
@given(values=FLOATS)
def test_bfloat16_rounds_as_torch_does(values):
    bits = torch.from_numpy(values).to(torch.bfloat16).view(torch.uint16).numpy()
    assert to_bfloat16(values).tolist() == bits.tolist()


def test_bfloat16_rounds_long_vectors_as_torch_does():
    values = np.random.default_rng(0).normal(size=100_001).astype(np.float32)
    bits = torch.from_numpy(values).to(torch.bfloat16).view(torch.uint16).numpy()
    np.testing.assert_array_equal(to_bfloat16(values), bits)


@given(values=FLOATS)
def test_rounding_to_bfloat16_twice_changes_nothing(values):
    once = from_bfloat16(to_bfloat16(values))
    assert from_bfloat16(to_bfloat16(once)).tobytes() == once.tobytes()


def test_bfloat16_rounds_ties_to_even():
    ties = np.float32([1 + 2**-8, 1 + 3 * 2**-8, -(1 + 2**-8), 1 + 2**-8 + 2**-20])
    rounded = from_bfloat16(to_bfloat16(ties))
    assert rounded.tolist() == [1.0, 1 + 2**-6, -1.0, 1 + 2**-7]


def entries(size, indices, values):
    """Return a sent delta of floats."""
    none = np.zeros(0, dtype=np.uint8)
    return QuantisedDelta(
        size=size, indices=indices, values=values, scales=none, kind="float32"
    )


def dense(generation):
    spec = tiny_structure().spec(generation.keep)
    return generation.sent_values(spec)


def make_generation(round_, keep=None, seed=0):
    structure = tiny_structure()
    keep = structure.full() if keep is None else keep
    size = structure.spec(keep).size
    rng = np.random.default_rng(seed + round_)
    residual = from_bfloat16(to_bfloat16(rng.normal(size=size).astype(np.float32)))
    indices = np.sort(rng.choice(size, 20, replace=False)).astype(np.int64)
    values = rng.normal(size=20).astype(np.float32)
    # What was sent is kept back nowhere: an honest residual is 0 there.
    residual[indices] = 0.0
    sent = entries(size, indices, values)
    return Generation(round=round_, keep=keep, sent=sent, residual=residual)


def assert_same(found, wanted):
    assert found is not None
    assert found.round == wanted.round
    assert found.keep.dtype == np.bool_
    np.testing.assert_array_equal(found.keep, wanted.keep)
    np.testing.assert_array_equal(dense(found), dense(wanted))
    assert found.sent.indices.dtype == np.int64
    np.testing.assert_array_equal(found.residual, wanted.residual)


def test_a_generation_comes_back_as_it_was_saved(tmp_path):
    keep = tiny_structure().full()
    keep[3] = keep[12] = False
    saved = make_generation(4, keep)
    ClientStore(tmp_path, "client-000").save_generation(saved)
    assert_same(ClientStore(tmp_path, "client-000").load_generation(5), saved)


def test_a_generation_that_sent_nothing_comes_back(tmp_path):
    nothing = np.zeros(0)
    saved = make_generation(1)
    size = len(saved.residual)
    sent = entries(size, nothing.astype(np.int64), nothing.astype(np.float32))
    saved = replace(saved, sent=sent)
    store = ClientStore(tmp_path, "a")
    store.save_generation(saved)
    assert_same(store.load_generation(2), saved)


def test_the_newest_generation_before_the_asked_round_counts(tmp_path):
    store = ClientStore(tmp_path, "a")
    for round_ in (2, 3, 5):
        store.save_generation(make_generation(round_))
    newest = {before: store.load_generation(before) for before in (2, 3, 4, 5, 6, 99)}
    rounds = {before: found and found.round for before, found in newest.items()}
    assert rounds == {2: None, 3: 2, 4: 3, 5: 3, 6: 5, 99: 5}


def test_clients_do_not_share_generations(tmp_path):
    ClientStore(tmp_path, "a").save_generation(make_generation(1))
    assert ClientStore(tmp_path, "b").load_generation(9) is None


@pytest.mark.parametrize("damage", ["truncated", "empty", "no tensors", "foreign"])
def test_an_unreadable_generation_counts_as_never_written(tmp_path, damage):
    store = ClientStore(tmp_path, "a")
    store.save_generation(make_generation(1))
    store.save_generation(make_generation(2))
    (path,) = tmp_path.glob("a/round-00002*")
    data = path.read_bytes()
    bad = {
        "truncated": data[:-1],
        "empty": b"",
        "no tensors": b"\2" + bytes(7) + b"{}",
        "foreign": b"not a tensor file at all",
    }
    path.write_bytes(bad[damage])
    found = store.load_generation(9)
    assert found is not None
    assert found.round == 1


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_single_flipped_bit_is_noticed(tmp_path_factory, place, bit):
    root = tmp_path_factory.mktemp("state")
    store = ClientStore(root, "a")
    keep = np.ones(16, dtype=bool)
    store.save_generation(make_generation(7, keep))
    (path,) = root.glob("a/round-*")
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    path.write_bytes(bytes(data))
    found = store.load_generation(9)
    if found is not None:  # a flip in the padding of the header means nothing
        assert_same(found, make_generation(7, keep))


def test_old_generations_go_but_three_checkpoints_can_be_resumed(tmp_path):
    store = ClientStore(tmp_path, "a")
    for round_ in range(1, 21):
        store.save_generation(make_generation(round_))
    # Killed in round 20 the checkpoints are those of 19, 18 and 17.
    for asked in (20, 19, 18):
        found = store.load_generation(asked)
        assert found is not None
        assert found.round == asked - 1
    # While round 20 was played, three checkpoints stood: of 19, 18 and 17.
    assert len(list(tmp_path.glob("a/*"))) == 4


def test_the_newest_of_the_old_generations_stays_for_a_client_seldom_asked(tmp_path):
    store = ClientStore(tmp_path, "a")
    for round_ in (3, 9, 30):
        store.save_generation(make_generation(round_))
    found = store.load_generation(28)
    assert found is not None
    assert found.round == 9
    assert store.load_generation(9) is None


def test_shared_files_are_kept_once_for_all_clients_of_a_host(tmp_path):
    made = []

    def make():
        made.append(1)
        return b"content"

    assert ClientStore(tmp_path, "a").load_shared("x.bin", bytes) is None
    for name in "aab":
        ClientStore(tmp_path, name).save_shared("x.bin", bytes, make)
    assert made == [1]
    assert ClientStore(tmp_path, "b").load_shared("x.bin", bytes) == b"content"


def test_a_damaged_shared_file_is_written_again(tmp_path):
    def read(data):
        if data != b"content":
            raise PayloadError(Reason.BAD_DIGEST, "content", "cut off")
        return data

    store = ClientStore(tmp_path, "a")
    store.save_shared("x.bin", read, lambda: b"content")
    (tmp_path / "shared" / "x.bin").write_bytes(b"cont")
    assert store.load_shared("x.bin", read) is None
    store.save_shared("x.bin", read, lambda: b"content")
    assert store.load_shared("x.bin", read) == b"content"


def owed(tmp_path, generations, *, round_, acknowledged, plan=None, decay=1.0):
    """Return what earlier rounds owe to a plan of ``round_``."""
    task = make_task(update__decay=decay)
    run_spec = make_setting(task)
    work = plan_round(start(task, run_spec), run_spec)
    structure = run_spec.structure
    plan = full_plan(structure) if plan is None else plan
    asked = replace(
        plan_for(work),
        round=round_,
        acknowledged=acknowledged,
        broadcast=replace(work.plan.broadcast, plan=plan),
    )
    store = ClientStore(tmp_path, asked.client_id)
    for generation in generations:
        store.save_generation(generation)
    spec = structure.spec(plan.keep)
    decoded = DecodedBroadcast(
        came=asked.broadcast.weights, spec=spec, weights=work.weights
    )
    opened = OpenedPlan(
        plan=asked, structure=structure, decoded=decoded, side_info=decoded.side_info
    )
    return _residual(opened, store)


def test_an_acknowledged_round_owes_its_residual(tmp_path):
    last = make_generation(3)
    found = owed(tmp_path, [last], round_=4, acknowledged=3)
    np.testing.assert_array_equal(found, last.residual)


@pytest.mark.parametrize("acknowledged", [0, 2])
def test_a_round_that_was_not_acknowledged_owes_what_it_sent_too(
    tmp_path, acknowledged
):
    last = make_generation(3)
    found = owed(
        tmp_path, [make_generation(2), last], round_=4, acknowledged=acknowledged
    )
    np.testing.assert_array_equal(found, last.residual + dense(last))


def test_generations_of_the_asked_round_and_later_ones_are_ignored(tmp_path):
    side_info, *unknown = (make_generation(round_) for round_ in (3, 4, 5))
    found = owed(tmp_path, [side_info, *unknown], round_=4, acknowledged=3)
    np.testing.assert_array_equal(found, side_info.residual)


def test_a_client_without_a_generation_owes_nothing(tmp_path):
    assert not owed(tmp_path, [], round_=4, acknowledged=0).any()


def test_the_residual_fades_by_the_decay_for_each_round_away(tmp_path):
    last = make_generation(3)
    found = owed(tmp_path, [last], round_=6, acknowledged=3, decay=0.5)
    np.testing.assert_array_equal(found, last.residual / 8)


def cut(structure, plan: PrunePlan, *units) -> PrunePlan:
    keep = plan.keep.copy()
    keep[list(units)] = False
    return child_plan(structure, plan, keep)


def test_a_cut_slices_the_residual_with_the_weights(tmp_path):
    structure = tiny_structure()
    smaller = cut(structure, full_plan(structure), 1, 9)
    last = make_generation(3)
    found = owed(tmp_path, [last], round_=4, acknowledged=3, plan=smaller)
    wanted = remap(last.residual, structure, structure.full(), smaller.keep)
    np.testing.assert_array_equal(found, wanted)
    assert len(found) == structure.spec(smaller.keep).size


def test_units_that_come_back_owe_nothing_and_the_others_all(tmp_path):
    structure = tiny_structure()
    full = full_plan(structure)
    smaller = cut(structure, full, 1, 9)
    back = rollback_plan(structure, smaller, full)
    last = make_generation(3, smaller.keep)
    found = owed(tmp_path, [last], round_=4, acknowledged=3, plan=back)
    forth = remap(found, structure, back.keep, smaller.keep)
    np.testing.assert_array_equal(forth, last.residual)
    assert np.count_nonzero(found) == np.count_nonzero(last.residual)


def test_units_that_come_back_without_a_rollback_are_refused(tmp_path):
    structure = tiny_structure()
    full = full_plan(structure)
    smaller = cut(structure, full, 1)
    with pytest.raises(PayloadError, match="is no rollback") as caught:
        owed(
            tmp_path,
            [make_generation(3, smaller.keep)],
            round_=4,
            acknowledged=3,
            plan=full,
        )
    assert caught.value.field == "plan.keep"


def test_a_client_that_missed_the_rollback_accepts_the_plans_cut_from_it(tmp_path):
    structure = tiny_structure()
    full = full_plan(structure)
    smaller = cut(structure, full, 1, 9)
    again = cut(structure, rollback_plan(structure, smaller, full), 9)
    last = make_generation(3, smaller.keep)
    found = owed(tmp_path, [last], round_=6, acknowledged=3, plan=again)
    assert len(found) == structure.spec(again.keep).size


def spec_of(*shapes):
    tensors = [TensorSpec(name=f"t{n}", shape=s) for n, s in enumerate(shapes)]
    return ModelSpec(tensors=tuple(tensors), moments=0, units=0)


LARGE = spec_of((300, 400), (400,), (20, 30, 3, 3))


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("density", [0.01, 0.07, 1.0])
def test_what_was_sent_comes_back_bit_for_bit_and_takes_what_was_estimated(
    tmp_path, values, density
):
    total = np.random.default_rng(1).normal(size=LARGE.size).astype(np.float32) / 50
    quantised = codec.quantise_delta(sparsify(total, density), LARGE, values)
    keep = np.ones(40, dtype=bool)
    saved = Generation(round=3, keep=keep, sent=quantised, residual=total)
    ClientStore(tmp_path, "a").save_generation(saved)
    found = ClientStore(tmp_path, "a").load_generation(4)
    wanted = dense_delta(codec.dequantise_delta(quantised, LARGE))
    assert found.sent_values(LARGE).tobytes() == wanted.tobytes()
    (path,) = tmp_path.glob("a/*")
    update = Update(values=values)
    estimate = stored_bytes(LARGE, len(keep), update.values, density)
    taken = on_disk(path.stat().st_size)
    assert taken <= estimate
    if len(quantised.indices) > 0.9 * density * LARGE.size:
        assert estimate == pytest.approx(taken, rel=0.05)
    else:  # entries that are rounded to zero are not sent
        assert (values, density) == ("step", 1.0)


@pytest.mark.parametrize("values", ["int8", "float32"])
def test_no_file_is_beyond_its_estimate_where_a_block_ends(values):
    """Its header is longer than that of empty arrays, by the digits of their sizes."""
    for size in range(1150, 2500, 3):
        spec = ModelSpec(
            tensors=(TensorSpec(name="w", shape=(size,)),), moments=0, units=4
        )
        ones = np.ones(size, dtype=np.float32)
        every = SparseDelta(size=size, indices=np.arange(size), values=ones)
        saved = Generation(
            round=99_999,
            keep=np.ones(4, dtype=bool),
            sent=codec.quantise_delta(every, spec, values),
            residual=ones,
        )
        taken = on_disk(len(encode_generation(saved)))
        assert taken <= stored_bytes(spec, 4, values, 1.0) <= taken + 4096


def test_a_generation_takes_little_more_than_its_residual(tmp_path):
    total = np.random.default_rng(1).normal(size=LARGE.size).astype(np.float32) / 50
    quantised = codec.quantise_delta(sparsify(total, 0.07), LARGE, "step")
    keep = np.ones(40, dtype=bool)
    saved = Generation(round=3, keep=keep, sent=quantised, residual=total)
    size = len(encode_generation(saved))
    # Two bytes of residual, one bit of position, one byte of each entry.
    assert size / LARGE.size < 2 + 1 / 8 + 0.07 + 0.01


def rounds_of(root, client):
    names = sorted(path.name for path in (root / "run" / client).glob("*"))
    return [int(name.split("-")[1].split(".")[0]) for name in names]


def play(root, upkeep, round_, *clients):
    for client in clients:
        upkeep.before("run", round_, client)
        ClientStore(root / "run", client).save_generation(make_generation(round_))


def test_one_generation_of_each_client_stays_and_those_of_the_last_rounds(tmp_path):
    upkeep = Upkeep(tmp_path)
    clients = [f"client-{number}" for number in range(10)]
    for round_ in range(1, 31):
        first = round_ % 10
        play(tmp_path, upkeep, round_, clients[first], clients[first - 1])
        for client in clients:
            rounds = rounds_of(tmp_path, client)
            assert sum(number <= round_ - 3 for number in rounds) <= 1
    assert sum(len(rounds_of(tmp_path, client)) for client in clients) <= 10 + 3 * 2


def test_a_resumed_server_finds_the_generations_that_its_checkpoint_belongs_to(
    tmp_path,
):
    upkeep = Upkeep(tmp_path)
    play(tmp_path, upkeep, 2, "a", "b")
    for round_ in (6, 7, 8, 9):
        play(tmp_path, upkeep, round_, "a")
    assert rounds_of(tmp_path, "a") == [6, 7, 8, 9]
    assert rounds_of(tmp_path, "b") == [2]
    # While round 9 is played the checkpoints of 8, 7 and 6 stand.
    for resumed in (9, 8, 7):
        found = ClientStore(tmp_path / "run", "a").load_generation(resumed)
        assert found.round == resumed - 1


def test_what_a_process_that_was_killed_left_is_removed_by_the_next_one(tmp_path):
    play(tmp_path, Upkeep(tmp_path), 1, "a", "b")
    play(tmp_path, Upkeep(tmp_path), 2, "a", "b")
    assert rounds_of(tmp_path, "a") == rounds_of(tmp_path, "b") == [1, 2]
    play(tmp_path, Upkeep(tmp_path), 5, "c")
    assert rounds_of(tmp_path, "a") == rounds_of(tmp_path, "b") == [2]


def test_another_federation_is_left_alone(tmp_path):
    upkeep = Upkeep(tmp_path)
    play(tmp_path, upkeep, 1, "a")
    play(tmp_path, upkeep, 2, "a")
    upkeep.before("other", 9, "a")
    assert rounds_of(tmp_path, "a") == [1, 2]
