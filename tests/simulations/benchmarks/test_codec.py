"""The codec benchmark on a tiny network: rivals by hand, figures by their names."""

from dataclasses import replace

import numpy as np
import pytest

from fedprune.common import codec
from fedprune.common.codec import Layout, SideInformation
from fedprune.common.messages import SparseDelta
from fedprune.common.spec import ModelSpec, TensorSpec
from fedprune.simulations.benchmarks import codec as benchmark
from fedprune.simulations.benchmarks.kit.codec.bounds import order0_bytes
from fedprune.simulations.benchmarks.kit.codec.rivals import rivals
from fedprune.simulations.benchmarks.kit.codec.sets import Reference

SPEC = ModelSpec(
    tensors=(TensorSpec(name="w", shape=(40, 50)), TensorSpec(name="v", shape=(9, 7))),
    moments=0,
    units=0,
)


def reference():
    rng = np.random.default_rng(3)
    base, moved = rng.normal(size=(2, SPEC.size)).astype(np.float32)
    weights = (base + 0.1 * moved) * (rng.random(SPEC.size) < 0.3)
    return Reference(spec=SPEC, base=base, weights=weights.astype(np.float32))


def test_rivals_pay_for_positions_levels_and_scales():
    sparse = SparseDelta(
        size=SPEC.size,
        indices=np.array([3, 4, 61]),
        values=np.array([1, -1, 1], np.float32),
    )
    delta = codec.quantise_delta(sparse, SPEC, "int8")
    gaps = np.array([3, 0, 56])
    rice = min(sum((gaps >> k) + k + 1) for k in range(10)) / 8
    found = rivals(delta)
    assert found["raw list"] == 3 * 5 + 2
    assert found["Golomb"] == pytest.approx(rice + 3 + 2)
    assert found["deflate"] < found["zstd"] < SPEC.size


def test_a_reference_gives_its_update_and_its_largest_entries():
    held = reference()
    assert np.array_equal(held.update().indices, np.flatnonzero(held.weights))
    top = held.top(0.1)
    delta = held.weights - held.base
    assert len(top.indices) == SPEC.size // 10
    assert np.abs(top.values).min() >= np.delete(np.abs(delta), top.indices).max()


def test_figures_of_a_case_are_bytes_over_bounds():
    case = benchmark.cases("tiny", reference())[0]
    plain, weights = benchmark.sizes([case])
    wanted = len(codec.encode_delta(case.delta, case.side_info["plain"]))
    bound = order0_bytes(case.delta, Layout(SPEC))
    assert plain.value == pytest.approx(wanted / bound)
    assert plain.goal == ""
    assert weights.goal == "<= 0.62"
    assert "withdrawn" not in weights.detail
    was = benchmark.sizes([replace(case, name="resnet update")])[1]
    assert was.name == "resnet update, weights: bytes / order-0 bound"
    assert was.detail.endswith(
        "withdrawn: context, by the last delta too, 0.5444, 2400564 B"
    )
    several = benchmark.sizes([case, case])[0]
    assert several.value == pytest.approx(plain.value)
    assert f"{2 * wanted} B in 2 draws" in several.detail
    assert 0.9 < benchmark.coder(case).value < 1.3
    assert benchmark.agreed(case).value > 0.5
    assert benchmark.fixed(Layout(SPEC)).value < 200


def test_the_ideal_length_is_below_the_bytes_and_counts_an_agreed_mask_out():
    case = benchmark.cases("tiny", reference())[0]
    known = case.side_info["plain"]
    mask = np.isin(np.arange(SPEC.size), case.delta.indices)
    held = SideInformation(layout=known.layout, base=known.base, mask=mask)
    ideal = codec.ideal_bytes(case.delta, known)
    payload = codec.delta_parts(codec.encode_delta(case.delta, known))["entries"]
    assert 0.9 * payload < ideal < payload
    assert codec.ideal_bytes(case.delta, held) < ideal
