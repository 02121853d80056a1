"""A few bytes that announce a large network: refused before anything is allocated."""

import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.tiny_federation import Tiny, make_task, tiny_structure

from fedprune.client.device.task import take_final
from fedprune.client.rounds.model_cache import ModelCache
from fedprune.common import codec
from fedprune.common.artifacts import read_model_file, write_model_file
from fedprune.common.artifacts.load import KEEP_KEY, STRUCTURE_KEY, load_model
from fedprune.common.artifacts.packed_file import (
    pack,
    quantise_network,
    read_packed,
    write_packed,
)
from fedprune.common.codec.frame import Kind, seal, unseal
from fedprune.common.description import Description
from fedprune.common.errors import IntegrityError, PayloadError, Reason
from fedprune.common.models.capped import ByteLimit
from fedprune.common.models.flat import get_state, get_weights, model_spec
from fedprune.common.models.registry import build_model
from fedprune.common.spec import PrunePlan, digest_of
from fedprune.common.structure.structure import Structure
from fedprune.common.structure.tracing.find import find_structure
from fedprune.simulations.cli import run_command_line
from fedprune.simulations.inspection.artifacts import inspect_path

SHAPE = (1, 16, 16)
ALLOWED = 8 << 20
torch.eye(1, device="meta")  # imports torch's rules for shapes, 60 MB of Python


@pytest.fixture(autouse=True)
def peak():
    """Refuse a test in which numpy or Python took more than a few megabytes."""
    tracemalloc.start()
    yield
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < ALLOWED


def huge(text, size=1 << 15):
    """Return a structure's JSON whose first tensor has size * size entries."""
    found = json.loads(text)
    found["tensors"][0][1] = [size, size]
    return json.dumps(found, sort_keys=True, separators=(",", ":")).encode()


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A ``.fpz`` of an uncut LeNet."""
    model = build_model("lenet5", num_outputs=10, input_shape=SHAPE, seed=0).eval()
    structure = find_structure(model, torch.zeros(2, *SHAPE))
    path = tmp_path_factory.mktemp("models") / "whole.fpz"
    blob = quantise_network(get_weights(model), model_spec(model, units=0), "grid")
    whole = pack(
        description=Description(),
        name="lenet5",
        input_shape=SHAPE,
        num_outputs=10,
        structure=structure,
        plan=PrunePlan(structure=structure.digest, keep=structure.full()),
        blob=blob,
        statistics=get_state(model, ()),
    )
    write_packed(path, whole)
    return path


def test_a_packed_file_that_announces_4_gigabytes_is_refused(packed, tmp_path, capsys):
    model = codec.decode_model(packed.read_bytes())
    path = tmp_path / "bomb.fpz"
    text = huge(model.structure_json)
    path.write_bytes(codec.encode_model(replace(model, structure_json=text)))
    with pytest.raises(IntegrityError, match=r"announces a network of 4\d{9} bytes"):
        load_model(path)
    with pytest.raises(IntegrityError, match=r"bomb\.fpz: .*TOO_LARGE"):
        inspect_path(path)
    assert run_command_line(["inspect", str(path)]) == 6
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_bound_of_a_file_is_the_callers(packed):
    assert read_packed(packed).weights.size > 0
    assert load_model(packed, max_bytes=1 << 20) is not None
    with pytest.raises(IntegrityError, match="want at most 1000 "):
        load_model(packed, max_bytes=1000)


def model_file(path, **changes):
    """Write a model file that stands alone, with other metadata."""
    model = build_model("lenet5", num_outputs=10, input_shape=SHAPE, seed=0)
    structure = find_structure(model, torch.zeros(2, *SHAPE))
    text = changes.pop("structure_json", structure.to_json())
    keep = structure.full()
    metadata = {
        "model": "lenet5",
        "input_shape": json.dumps(SHAPE),
        "num_outputs": "10",
        "structure": digest_of(text).hex(),
        "plan": PrunePlan(structure=digest_of(text), keep=keep).digest.hex(),
        KEEP_KEY: np.packbits(keep).tobytes().hex(),
        STRUCTURE_KEY: text.decode(),
    }
    tensors = {key: value.numpy() for key, value in model.state_dict().items()}
    write_model_file(path, tensors, metadata | changes)
    return path


def test_a_model_file_loads_within_bounds(tmp_path):
    path = model_file(tmp_path / "good.safetensors")
    assert isinstance(load_model(path), torch.nn.Module)
    assert read_model_file(path)[1]["model"] == "lenet5"


def test_a_model_file_whose_structure_is_huge_is_refused(tmp_path):
    text = huge(Structure.from_json(tiny_structure().to_json()).to_json())
    path = model_file(tmp_path / "bomb.safetensors", structure_json=text)
    with pytest.raises(IntegrityError, match="announces a network of"):
        load_model(path)


SIZES = {
    "outputs": {"num_outputs": str(1 << 24)},
    "inputs": {"input_shape": "[1, 4096, 4096]"},
    "a perceptron": {"model": "mlp", "input_shape": "[1, 4096, 4096]"},
}


@pytest.mark.parametrize("change", SIZES.values(), ids=SIZES)
def test_a_model_file_that_builds_a_huge_network_is_refused(change, tmp_path):
    path = model_file(tmp_path / "bomb.safetensors", **change)
    with pytest.raises(IntegrityError, match="takes more than 268435456 bytes"):
        load_model(path)


NUMBERS = {
    "many outputs": ({"num_outputs": "9" * 5000}, "num_outputs"),
    "digits of another script": ({"num_outputs": "\u00b2"}, "num_outputs"),
    "a large input": ({"input_shape": "[65536, 65536]"}, "want at most"),
    "many dimensions": ({"input_shape": str([1] * 5000)}, "want at most"),
    "a long number": ({"input_shape": f"[{'9' * 4000}]"}, "want a JSON list"),
}


@pytest.mark.parametrize(("change", "message"), NUMBERS.values(), ids=NUMBERS)
def test_sizes_in_metadata_are_numbers_within_bounds(change, message, tmp_path):
    with pytest.raises(IntegrityError, match=message) as caught:
        model_file(tmp_path / "bomb.safetensors", **change)
    assert len(str(caught.value)) < 300


def test_a_packed_files_input_has_bounded_size(packed):
    items = unseal(packed.read_bytes(), Kind.MODEL, 1 << 24)
    forged = seal(Kind.MODEL, [items[0], [1 << 20, 1 << 20], *items[2:]])
    with pytest.raises(PayloadError) as caught:
        codec.decode_model(forged)
    assert caught.value.field == "model.input_shape"


def test_the_run_of_a_packed_file_travels_only_where_it_is_needed(packed):
    model = codec.decode_model(packed.read_bytes())
    assert codec.encode_model(model) == packed.read_bytes()
    named = codec.encode_model(replace(model, run="2026-a"))
    assert codec.decode_model(named).run == "2026-a"
    items = unseal(named, Kind.MODEL, 1 << 24)
    for last in ("", b"x", 5, "a\nb"):
        with pytest.raises(PayloadError):
            codec.decode_model(seal(Kind.MODEL, [*items[:-1], last]))


def test_a_tensor_is_measured_before_it_is_made():
    with ByteLimit(4000, "here"):
        assert torch.empty(1000).numel() == 1000
    with (
        pytest.raises(IntegrityError, match="here: its network takes more than 4000"),
        ByteLimit(4000, "here"),
    ):
        torch.nn.Linear(1 << 20, 1 << 20)
    assert torch.nn.Linear(2, 2).weight.numel() == 4


SMALL, MANY = torch.ones(1), 1 << 50  # bytes that no machine has
MAKERS = {
    "empty": lambda: torch.empty(MANY),
    "zeros": lambda: torch.zeros(MANY),
    "ones": lambda: torch.ones(MANY),
    "full": lambda: torch.full((MANY,), 2.0),
    "eye": lambda: torch.eye(1 << 30),
    "rand": lambda: torch.rand(MANY),
    "randn of a generator": lambda: torch.randn(MANY, generator=torch.Generator()),
    "arange": lambda: torch.arange(MANY),
    "linspace": lambda: torch.linspace(0, 1, MANY),
    "randperm": lambda: torch.randperm(MANY),
    "tril_indices": lambda: torch.tril_indices(1 << 20, 1 << 20),
    "empty_strided": lambda: torch.empty_strided((2,), (MANY,)),
    "Tensor": lambda: torch.Tensor(MANY),
    "FloatTensor": lambda: torch.FloatTensor(MANY),
    "new": lambda: SMALL.new(MANY),
    "new_empty": lambda: SMALL.new_empty(MANY),
    "new_zeros": lambda: SMALL.new_zeros(MANY),
    "new_ones": lambda: SMALL.new_ones(MANY),
    "new_full": lambda: SMALL.new_full((MANY,), 2.0),
    "empty_like": lambda: torch.empty_like(SMALL.expand(MANY)),
    "zeros_like": lambda: torch.zeros_like(SMALL.expand(MANY)),
    "rand_like": lambda: torch.rand_like(SMALL.expand(MANY)),
    "repeat": lambda: SMALL.repeat(MANY),
    "tile": lambda: SMALL.tile(MANY),
    "repeat_interleave": lambda: SMALL.repeat_interleave(MANY),
    "expand and contiguous": lambda: SMALL.expand(MANY).contiguous(),
    "expand and clone": lambda: SMALL.expand(MANY).clone(),
    "expand and reshape": lambda: torch.ones(2, 1).expand(2, MANY).t().reshape(-1),
    "expand and double": lambda: SMALL.expand(MANY).double(),
    "expand and add": lambda: SMALL.expand(MANY) + 1,
    "an outer product": lambda: SMALL.expand(1 << 25)[:, None] * SMALL.expand(1 << 25),
    "concatenation": lambda: torch.cat([SMALL.expand(MANY)] * 2),
    "padding": lambda: torch.nn.functional.pad(SMALL, (MANY, 0)),
    "one_hot": lambda: torch.nn.functional.one_hot(torch.zeros(1, dtype=int), MANY),
    "an output that is given": lambda: torch.zeros(MANY, out=torch.empty(0)),
    "resize_": lambda: torch.empty(0).resize_(MANY),
    "a parameter": lambda: torch.nn.Parameter(SMALL.repeat(MANY)),
    "an embedding": lambda: torch.nn.Embedding(MANY, 1),
}  # fmt: skip


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_whatever_makes_a_tensor_is_measured_first(make):
    with (
        pytest.raises(IntegrityError, match="here: its network takes more than 4000"),
        ByteLimit(4000, "here"),
    ):
        make()


def test_what_cannot_be_foreseen_counts_when_it_is_there():
    ones = torch.ones(1000)
    for make in (ones.nonzero, ones.to_sparse().to_dense):
        with pytest.raises(IntegrityError), ByteLimit(1000, "here"):
            make()


@pytest.mark.parametrize("name", ["lenet5", "small-resnet", "mlp"])
def test_a_limit_changes_nothing_of_what_is_built_and_counts_it_once(name):
    def built():
        return build_model(name, num_outputs=3, input_shape=(1, 32, 32), seed=0)

    wanted = get_weights(built())
    torch.manual_seed(1)
    drawn, before = torch.rand(3), torch.manual_seed(1).get_state()
    with ByteLimit(int(1.05 * wanted.nbytes), "here"):
        found = built()
        torch.empty(1 << 40, device="meta")
        assert torch.equal(torch.random.get_rng_state(), before)
        assert torch.equal(torch.rand(3), drawn)
    again = get_weights(found).view(np.int32)  # bits, without another copy
    assert np.array_equal(again, wanted.view(np.int32))


STRUCTURES = {
    "a billion weights": huge(tiny_structure().to_json()),
    "another name": tiny_structure().to_json().replace(b"fc.bias", b"fc.bies"),
    "moments it does not have": tiny_structure().to_json().replace(
        b'["bn1",8]', b'["bn7",8]'
    ),
}  # fmt: skip


@pytest.mark.parametrize("text", STRUCTURES.values(), ids=STRUCTURES)
def test_a_device_compares_a_structure_with_its_own_network_first(text, tmp_path):
    cache = ModelCache(make_task())
    with pytest.raises(PayloadError, match="not this client's network") as caught:
        cache.structure(digest_of(text), text)
    assert caught.value.reason is Reason.MISMATCH
    with pytest.raises(PayloadError, match="want the same task"):
        take_final(tmp_path, cache, text, b"")
    # What was built to compare is what is cut afterwards.
    own = tiny_structure()
    cache.structure(own.digest, own.to_json())
    spare = cache._spare
    weights = get_weights(Tiny())
    assert cache.network(own, own.full(), weights, None) is spare
    assert cache.network(own, own.full(), weights, None) is spare
