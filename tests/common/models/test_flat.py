import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedprune.common.errors import ConfigError
from fedprune.common.models.flat import (
    get_statistics,
    get_weights,
    model_spec,
    norm_modules,
    set_statistics,
    set_weights,
)
from fedprune.common.models.registry import NETWORKS, build_model

torch.set_num_threads(1)


def network():
    return nn.Sequential(
        nn.Conv2d(1, 3, 2),
        nn.BatchNorm2d(3),
        nn.BatchNorm2d(3, track_running_stats=False),
        nn.GroupNorm(1, 3),
        nn.Flatten(),
        nn.Linear(3, 2),
        nn.BatchNorm1d(2, affine=False),
    )


def vectors(length):
    bits = st.binary(min_size=4 * length, max_size=4 * length)
    return bits.map(lambda data: np.frombuffer(data, dtype="<f4"))


SIZE = get_weights(network()).size


@given(vectors(SIZE))
@settings(max_examples=50)
def test_weights_that_were_set_are_got_back_bit_for_bit(weights):
    model = network()
    set_weights(model, weights)
    assert get_weights(model).tobytes() == weights.tobytes()


@given(vectors(5), vectors(5))
@settings(max_examples=50)
def test_statistics_that_were_set_are_got_back_bit_for_bit(mean, variance):
    model = network()
    set_statistics(model, mean, variance)
    got = get_statistics(model)
    assert (got[0].tobytes(), got[1].tobytes()) == (mean.tobytes(), variance.tobytes())


@pytest.mark.parametrize("name", NETWORKS)
def test_flat_weights_lie_in_the_order_of_named_parameters(name):
    model = build_model(name, num_outputs=2, input_shape=(1, 16, 16), seed=0)
    flat, start = get_weights(model), 0
    for weight in model.parameters():
        piece = flat[start : start + weight.numel()]
        assert np.array_equal(piece, weight.detach().numpy().ravel())
        start += weight.numel()
    assert start == flat.size
    assert flat.dtype == np.float32
    assert flat.flags.c_contiguous


def test_what_is_got_is_a_copy_in_both_directions():
    for model in (network(), nn.Linear(2, 1, bias=False)):
        before = get_weights(model)
        changed = get_weights(model)
        changed[:] = 7
        assert (get_weights(model) == before).all()
        given_weights = before.copy()
        set_weights(model, given_weights)
        given_weights[:] = 0
        assert (get_weights(model) == before).all()


def test_setting_weights_keeps_the_tensors_and_their_gradients():
    model = network()
    places = [(weight, weight.data_ptr()) for weight in model.parameters()]
    set_weights(model, np.arange(SIZE, dtype=np.float32))
    for weight, (same, place) in zip(model.parameters(), places, strict=True):
        assert weight is same
        assert weight.data_ptr() == place
        assert weight.requires_grad
        assert weight.is_leaf


def test_logical_order_holds_whatever_the_memory_format():
    model = nn.Conv2d(3, 4, 2)
    expected = get_weights(model)
    model = model.to(memory_format=torch.channels_last)
    assert (get_weights(model) == expected).all()
    set_weights(model, expected[::-1].copy())
    assert (get_weights(model) == expected[::-1]).all()


class Wrapped(torch.Tensor):
    """A tensor whose values lie in another one."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        plain = [item.inner if isinstance(item, cls) else item for item in args]
        return cls(func(*plain, **(kwargs or {})))


def test_tensors_whose_values_lie_elsewhere_are_written():
    model = nn.Module()
    model.weight = nn.Parameter(Wrapped(torch.zeros(2, 3)))
    weights = np.arange(6, dtype=np.float32)
    set_weights(model, weights)
    np.testing.assert_array_equal(model.weight.inner.flatten(), weights)
    np.testing.assert_array_equal(get_weights(model), weights)


def test_a_backward_pass_refuses_weights_that_were_set_since():
    model = nn.Linear(2, 1)
    loss = model(torch.ones(1, 2, requires_grad=True)).sum()
    set_weights(model, np.zeros(3, np.float32))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_float64_network_takes_float32_weights_exactly():
    model = network().double()
    weights = np.linspace(-1, 1, SIZE, dtype=np.float32)
    set_weights(model, weights)
    assert (get_weights(model) == weights).all()


@pytest.mark.parametrize("length", [0, SIZE - 1, SIZE + 1])
def test_weights_of_another_length_are_refused_and_nothing_is_written(length):
    model = network()
    before = get_weights(model)
    with pytest.raises(ConfigError, match=rf"\({length},\); the network takes"):
        set_weights(model, np.zeros(length, np.float32))
    assert (get_weights(model) == before).all()


@pytest.mark.parametrize("lengths", [(4, 5), (5, 4), (6, 5)])
def test_statistics_of_another_length_are_refused_and_nothing_is_written(lengths):
    model = network()
    before = get_statistics(model)
    with pytest.raises(ConfigError, match="the network takes"):
        set_statistics(model, *(np.full(n, 3, np.float32) for n in lengths))
    for now, then in zip(get_statistics(model), before, strict=True):
        assert (now == then).all()


def test_only_batch_norm_with_running_statistics_counts():
    model = network()
    assert [name for name, _ in norm_modules(model)] == ["1", "6"]
    model[1].running_mean += 2
    model[6].running_var *= 3
    mean, variance = get_statistics(model)
    assert mean.tolist() == [2, 2, 2, 0, 0]
    assert variance.tolist() == [1, 1, 1, 3, 3]


def test_a_network_without_batch_norm_has_empty_statistics():
    model = build_model("lenet5", num_outputs=2, input_shape=(1, 16, 16), seed=0)
    mean, variance = get_statistics(model)
    assert (mean.shape, variance.shape) == ((0,), (0,))
    set_statistics(model, mean, variance)
    assert norm_modules(model) == []


@pytest.mark.parametrize("name", NETWORKS)
def test_the_spec_agrees_with_the_flat_vectors(name):
    model = build_model(name, num_outputs=2, input_shape=(1, 16, 16), seed=0)
    spec = model_spec(model, 7)
    assert spec.size == get_weights(model).size
    assert spec.moments == get_statistics(model)[0].size
    assert spec.units == 7
    assert [t.name for t in spec.tensors] == [n for n, _ in model.named_parameters()]
    assert [t.shape for t in spec.tensors] == [
        tuple(w.shape) for w in model.parameters()
    ]
    assert int(spec.row_lengths.sum()) == spec.size
