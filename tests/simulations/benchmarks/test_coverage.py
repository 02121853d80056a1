"""The list of networks: a part of it measured, and brute force for channels."""

import json
from dataclasses import asdict
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from fedprune.common.errors import ConfigError, IntegrityError
from fedprune.simulations.benchmarks import coverage
from fedprune.simulations.benchmarks.kit.coverage.brute import removable_channel
from fedprune.simulations.benchmarks.kit.coverage.figures import figures
from fedprune.simulations.benchmarks.kit.coverage.measure import measure
from fedprune.simulations.benchmarks.kit.coverage.nets.entry import (
    HUGGING_FACE,
    ORIGINS,
    OWN,
    TIMM,
    TORCHVISION,
    noise,
)
from fedprune.simulations.benchmarks.kit.coverage.nets.listing import all_entries
from fedprune.simulations.benchmarks.kit.coverage.rival import cut_by_rival
from fedprune.simulations.benchmarks.kit.coverage.row import (
    BREAKS,
    EXACT,
    NOTHING,
    REFUSED,
    WRONG,
    Row,
    append_row,
    read_rows,
)

LIST = all_entries()
NEEDS = {TIMM: "timm", TORCHVISION: "torchvision", HUGGING_FACE: "transformers"}
LEAST = {TIMM: 90, TORCHVISION: 40, HUGGING_FACE: 40, OWN: 60}
# Of the small networks those that are not cut.  The first three branch on their data;
# of the others brute force finds no channel, but for the Fourier layer.
UNCUT = {
    "own/packed LSTM": REFUSED,
    "own/mixture of experts, routed": REFUSED,
    "own/early exit": REFUSED,
    "own/global response norm": NOTHING,
    "own/MLP, layer norm": NOTHING,
    "own/linear layer alone": NOTHING,
    "own/gMLP": NOTHING,
    "own/Fourier layer": NOTHING,
    "own/capsules": NOTHING,
}
SMALL = [key for key in LIST if key.startswith(f"{OWN}/")] + [
    *("hf/bert", "hf/gpt2", "hf/llama", "hf/t5", "hf/vit", "hf/swin"),
    *("torchvision/resnet18", "torchvision/squeezenet1_1", "torchvision/googlenet"),
    *("timm/beit_base_patch16_224", "timm/levit_128s", "timm/cspnext_tiny"),
]


def outcome(key, steps=()):
    """Return what is measured of one network of the list, in this process."""
    entry = LIST[key]
    package = NEEDS.get(entry.origin)
    # Found, not imported: torchvision needs the way of common.models.zoo.
    if package is not None and find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    found = {}
    measure(entry, steps, found.update)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("key", SMALL)
def test_a_network_of_the_reduced_list_is_cut_exactly(key):
    found = outcome(key)
    assert found["outcome"] == UNCUT.get(key, EXACT), found
    if found["outcome"] == EXACT:
        assert found["units"] > 0
        assert found["difference"] <= 1e-9
        # Otherwise the comparison saw nothing; the adapter starts without effect.
        assert found["change"] > 0 or key == "own/low-rank adapter"


def test_the_list_has_networks_of_every_origin_and_names_their_source():
    counts = {o: sum(e.origin == o for e in LIST.values()) for o in ORIGINS}
    assert all(counts[origin] >= least for origin, least in LEAST.items()), counts
    assert all(entry.source for entry in LIST.values())


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(2, 5, 3), nn.Conv2d(5, 3, 1)

    def forward(self, x):
        return self.two(self.one(x).relu()).mean((2, 3))


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.norm, self.two = (
            nn.Linear(4, 6),
            nn.LayerNorm(6),
            nn.Linear(6, 3),
        )

    def forward(self, x):
        return self.two(self.norm(self.one(x)))


def test_brute_force_finds_the_channel_of_two_convolutions():
    torch.manual_seed(0)
    found = removable_channel(Plain(), noise(2, 6, 6))
    assert found.finished
    assert {(e.module, e.name, e.dim) for e in found.edits} == {
        ("one", "weight", 0),
        ("one", "bias", 0),
        ("two", "weight", 1),
    }


@pytest.mark.slow
def test_brute_force_finds_no_channel_before_a_layer_norm():
    torch.manual_seed(0)
    found = removable_channel(Normed(), noise(4))
    assert found.finished
    assert found.edits == ()


def test_brute_force_leaves_the_network_as_it_was():
    torch.manual_seed(0)
    network = Plain()
    before = {name: item.clone() for name, item in network.state_dict().items()}
    removable_channel(network, noise(2, 6, 6))
    after = network.state_dict()
    assert all(torch.equal(item, after[name]) for name, item in before.items())


def test_a_search_without_time_decides_nothing():
    found = removable_channel(Normed(), noise(4), seconds=0.0)
    assert not found.finished


def test_torch_pruning_is_compared_in_the_same_way():
    pytest.importorskip("torch_pruning")
    torch.manual_seed(0)
    assert cut_by_rival(Plain().eval(), noise(2, 6, 6))[0] == EXACT
    assert cut_by_rival(Normed().eval(), noise(4))[0] != EXACT


def test_rows_are_written_and_read_back_the_later_one_counts(tmp_path):
    path = tmp_path / "deep" / "rows.jsonl"
    assert read_rows(path) == {}
    append_row(path, Row(key="own/a", outcome=REFUSED))
    append_row(path, Row(key="own/a", outcome=EXACT, units=3))
    assert read_rows(path) == {"own/a": Row(key="own/a", outcome=EXACT, units=3)}


@pytest.mark.parametrize("line", ["{", '{"key": "own/a"}', "[]", '{"x": 1}'])
def test_a_line_that_is_no_row_is_named(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    good = json.dumps(asdict(Row(key="own/a", outcome=EXACT)))
    path.write_text(f"{good}\n{line}\n", encoding="utf-8")
    with pytest.raises(IntegrityError, match=r"rows.jsonl, line 2"):
        read_rows(path)


def test_only_networks_without_a_removable_channel_are_left_out():
    def counts(outcome, **known):
        return Row(key="own/a", outcome=outcome, **known).counts

    assert counts(EXACT)
    assert counts(WRONG, fx=False, export=False)
    assert counts(NOTHING, fx=True, removable="one.weight:0")
    assert counts(NOTHING, fx=True, removable="", undecided=True)
    assert counts(REFUSED, fx=False, export=True)
    assert not counts(NOTHING, fx=True, removable="")
    assert not counts(REFUSED, fx=False, export=False)


def test_the_shares_count_what_is_exact_of_what_counts():
    rows = [
        Row(key="own/a", outcome=EXACT, units=1),
        Row(key="own/b", outcome=BREAKS),
        Row(key="own/c", outcome=NOTHING, fx=True, removable=""),
        Row(key="timm/d", outcome=EXACT, units=1),
    ]
    found = {figure.name: figure for figure in figures(rows)}
    assert found["own: cut and exact"].value == 50
    assert found["all: cut and exact"].value == pytest.approx(200 / 3)
    assert found["all: cut and exact"].met is False
    assert "own/c" in found["own: cut and exact"].detail
    assert found["cut networks that fail"].value == 1


def test_a_name_that_fits_no_network_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="no network of the list"):
        coverage.measure(tmp_path / "rows.jsonl", "no such network")


@pytest.mark.slow
def test_a_second_run_measures_nothing_again(tmp_path, capfd):
    path = tmp_path / "rows.jsonl"
    coverage.measure(path, "own/MLP", ())
    lines = path.read_text("utf-8").splitlines()
    assert lines
    capfd.readouterr()
    coverage.measure(path, "own/MLP", ())
    assert path.read_text("utf-8").splitlines() == lines
    assert capfd.readouterr().err == ""
