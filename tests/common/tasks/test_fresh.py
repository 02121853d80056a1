"""Fresh weights: another draw than the first one, for the widths of now."""

import numpy as np
import pytest
import torch
from helpers.tiny_federation import Tiny, make_config, make_task, tiny_structure
from torch import nn

from fedprune.common.errors import ConfigError
from fedprune.common.models.flat import get_weights
from fedprune.common.pruning.remap import remap
from fedprune.common.structure.tracing.find import find_structure
from fedprune.common.tasks.fresh import draw_fresh
from fedprune.common.tasks.loaded import LoadedTask

FIRST = Tiny()  # weights that every call of Loaded returns: as pretrained ones


class Loaded(Tiny):
    """A network whose code loads the same weights every time."""

    def __init__(self):
        super().__init__()
        self.load_state_dict(FIRST.state_dict())


class Stuck(Loaded):
    """One with weights that no module can draw again."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, 3))

    def forward(self, x):
        return super().forward(x) * self.scale


def half():
    structure = tiny_structure()
    keep = structure.full()
    for group in structure.groups:
        keep[group.units[2:]] = False
    return keep


def weights(factory=Tiny, keep=None, **changes):
    structure = tiny_structure()
    mask = structure.full() if keep is None else keep
    return draw_fresh(make_task(factory, **changes), structure, mask).weights


class Orthogonal(nn.Linear):
    """A layer that draws by linear algebra, whose last bits depend on threads."""

    def reset_parameters(self):
        nn.init.orthogonal_(self.weight)
        nn.init.zeros_(self.bias)


class Drawn(nn.Module):
    """A network of such layers."""

    def __init__(self):
        super().__init__()
        self.first, self.last = Orthogonal(16, 128), Orthogonal(128, 3)
        self.middle = Orthogonal(128, 128)

    def forward(self, x):
        x = torch.relu(self.first(x.flatten(1)))
        return self.last(torch.relu(self.middle(x)))


ONCE = Drawn()


class DrawnOnce(Drawn):
    """One whose weights only its modules draw again."""

    def __init__(self):
        super().__init__()
        self.load_state_dict(ONCE.state_dict())


def first_weights(task, structure):
    del structure
    return get_weights(task.build_model())


def fresh_weights(task, structure):
    return draw_fresh(task, structure, structure.full()).weights


@pytest.mark.parametrize("draw", [first_weights, fresh_weights])
@pytest.mark.parametrize("factory", [Drawn, DrawnOnce])
def test_weights_do_not_depend_on_the_number_of_threads(factory, draw):
    structure = find_structure(Drawn().eval(), torch.zeros(2, 1, 4, 4))
    before, found = torch.get_num_threads(), set()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.add(draw(make_task(factory), structure).tobytes())
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert len(found) == 1


@pytest.mark.parametrize("factory", [Tiny, Loaded])
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(factory):
    one, two = weights(factory), weights(factory)
    assert one.tobytes() == two.tobytes()
    assert not np.array_equal(one, weights(factory, run__seed=1))


@pytest.mark.parametrize("factory", [Tiny, Loaded])
def test_they_are_not_the_first_weights_of_the_run(factory):
    task = make_task(factory)
    first, fresh = get_weights(task.build_model()), weights(factory)
    matrices = np.abs(first) % 1 != 0  # the ones and zeros of norms stay
    assert np.mean(first[matrices] == fresh[matrices]) < 0.01


@pytest.mark.parametrize("factory", [Tiny, Loaded])
def test_they_have_the_size_of_the_cut_network_and_its_spread(factory):
    structure, keep = tiny_structure(), half()
    found = weights(factory, keep)
    spec = structure.spec(keep)
    assert len(found) == spec.size
    start = sum(
        t.size
        for t in spec.tensors[: [t.name for t in spec.tensors].index("conv1.weight")]
    )
    own = found[start : start + 2 * 2 * 9]
    # PyTorch draws uniformly up to one over the root of the inputs: 2 x 9 of them.
    assert np.abs(own).max() <= 1 / np.sqrt(2 * 9)
    assert np.abs(own).max() > 0.7 / np.sqrt(2 * 9)


def test_the_cut_of_a_dense_draw_is_not_what_is_drawn():
    structure, keep = tiny_structure(), half()
    sliced = remap(weights(), structure, structure.full(), keep)
    assert not np.array_equal(sliced, weights(keep=keep))


def test_parameters_that_nothing_draws_are_named():
    structure = find_structure(Stuck().eval(), torch.zeros(2, 1, 4, 4))
    task = make_task(Stuck)
    with pytest.raises(ConfigError, match=r"^scale cannot be drawn again: .*restart"):
        draw_fresh(task, structure, structure.full())


def test_the_file_of_the_first_weights_is_not_read_again(tmp_path):
    config = make_config(task__weights=str(tmp_path / "none.safetensors"))
    task = LoadedTask(config, Tiny)
    structure = tiny_structure()
    found = draw_fresh(task, structure, structure.full())
    assert np.array_equal(found.weights, weights())


def test_the_global_generators_stay_where_they_were():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    weights(Loaded, half())
    assert torch.equal(before, torch.get_rng_state())
