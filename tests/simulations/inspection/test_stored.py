"""Inspection of what clients keep between rounds, each file as the store writes it."""

import numpy as np
import pytest
from helpers.codec.examples import make_broadcast
from helpers.tiny_federation import tiny_structure

from fedprune.client.rounds.opened import store_teacher
from fedprune.client.rounds.steps.generations import Generation
from fedprune.client.rounds.store import ClientStore
from fedprune.common import codec
from fedprune.common.errors import IntegrityError
from fedprune.common.messages import GridWeights, QuantisedDelta
from fedprune.common.pruning.plan import full_plan
from fedprune.common.spec import WeightMask
from fedprune.simulations.inspection.artifacts import inspect_path, render

PLAN = full_plan(tiny_structure())
SPEC = tiny_structure().spec(PLAN.keep)


def found_in(folder, pattern):
    (path,) = folder.rglob(pattern)
    return path, dict(inspect_path(path)["rows"])


def stored(tmp_path, largest=100):
    levels = np.zeros(SPEC.size, np.int16)
    levels[3] = largest
    grid = GridWeights(codes=np.ones(SPEC.rows, np.uint8), levels=levels)
    ClientStore(tmp_path, "a").save_broadcast(
        7, grid.name, lambda: codec.encode_stored(PLAN, grid)
    )
    return grid


@pytest.mark.parametrize("largest", [100, 1000])
def test_a_stored_broadcast_tells_round_plan_and_weights(tmp_path, largest):
    grid = stored(tmp_path, largest)
    path, rows = found_in(tmp_path, "held-*.bin")
    assert render(inspect_path(path)).startswith(f"stored broadcast {path}\n")
    assert (rows["round"], rows["plan"]) == ("7", PLAN.digest.hex())
    assert rows["channels"] == f"{len(PLAN.keep)} of {len(PLAN.keep)} kept"
    assert rows["weights"].startswith(f"{SPEC.size:,}, 9")
    assert rows["digest"] == grid.name.hex()


def test_a_message_of_another_name_is_recognised_too(tmp_path):
    stored(tmp_path)
    path, _ = found_in(tmp_path, "held-*.bin")
    other = path.rename(tmp_path / "copy.bin")
    assert inspect_path(other)["what"] == "stored broadcast"


def test_a_teacher_and_a_mask_are_told(tmp_path):
    store, teacher = ClientStore(tmp_path, "a"), make_broadcast()
    store_teacher(teacher.digest, lambda: teacher, store)
    _, rows = found_in(tmp_path, "broadcast-*.bin")
    assert rows["plan"] == teacher.plan.digest.hex()
    mask = WeightMask(plan=PLAN.digest, keep=np.arange(90) % 3 == 0)
    name = f"mask-{mask.digest.hex()}.bin"
    store.save_shared(name, codec.decode_mask, lambda: codec.encode_mask(mask))
    _, rows = found_in(tmp_path, "mask-*.bin")
    assert rows["weights"] == "30 of 90 kept"


def test_the_structure_of_a_store_is_one(tmp_path):
    structure = tiny_structure()
    path = tmp_path / f"structure-{structure.digest.hex()}.json"
    path.write_bytes(structure.to_json())
    info = inspect_path(path)
    assert info["what"] == "structure"
    assert ["digest", structure.digest.hex()] in info["rows"]


def test_a_residual_tells_round_units_entries_and_size(tmp_path):
    sent = QuantisedDelta(
        size=SPEC.size,
        indices=np.arange(5, dtype=np.int64),
        values=np.ones(5, np.float32),
        scales=np.zeros(0, np.uint8),
        kind="float32",
    )
    residual = np.full(SPEC.size, 0.5, np.float32)
    ClientStore(tmp_path, "a").save_generation(
        Generation(round=12, keep=PLAN.keep, sent=sent, residual=residual)
    )
    path, rows = found_in(tmp_path, "round-*.safetensors")
    assert inspect_path(path)["what"] == "residual of a client"
    assert rows["round"] == "12"
    assert rows["sent"] == f"5 of {SPEC.size:,} entries, float32"
    assert rows["residual"].startswith(f"{SPEC.size:,} entries, ")
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(IntegrityError, match=r"round-00012.*digest differs"):
        inspect_path(path)


def test_a_damaged_broadcast_is_named_and_no_pickle(tmp_path):
    stored(tmp_path)
    path, _ = found_in(tmp_path, "held-*.bin")
    data = path.read_bytes()
    for bad in (data[:-1], data[:60] + bytes([data[60] ^ 1]) + data[61:], b"x"):
        path.write_bytes(bad)
        with pytest.raises(IntegrityError, match=rf"^{path}: (?!.*pickle)"):
            inspect_path(path)


def test_a_broadcast_under_the_name_of_another_is_refused(tmp_path):
    stored(tmp_path)
    path, _ = found_in(tmp_path, "held-*.bin")
    other = path.rename(path.with_name(f"held-0000007-{bytes(16).hex()}.bin"))
    with pytest.raises(IntegrityError, match="its name says another one"):
        inspect_path(other)
