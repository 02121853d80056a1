"""Check of an exported file: its outputs and speed beside those of the torch network.

Both get examples of the run, because made-up numbers may lie outside of what a network
takes (ids of tokens, values under a logarithm) and far from what it was trained on.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fedprune.client.rounds.measure import evaluated_batches
from fedprune.common.data.examples import ArrayExamples, Batch, Examples
from fedprune.common.description import Description
from fedprune.common.errors import ConfigError, DataError, FedPruneError
from fedprune.common.models.inputs import arguments, copied, tensors_in
from fedprune.common.system.device import one_thread
from fedprune.common.tasks.counted import chosen, counted, number_of
from fedprune.common.tasks.loaded import LoadedTask, run_network
from fedprune.common.text import first_line
from fedprune.simulations.export.onnx_file import (
    NamedRunner,
    free_lengths,
    input_names,
    named_runner,
    output_names,
    tensors_of,
)

Bound = Callable[[], list[NDArray[Any]]]
Bind = Callable[[Any], Bound]  # inputs -> a function that runs a network on them

_SIZES = (1, 7)  # the batch size is free, so more than one is tried
_MANY = 32  # examples of a check, and of the greater batch that is timed
_SINGLE = 4  # examples of each part that are also looked at alone
_LATENCY_RUNS = 60
_WARM_RUNS = 5
_WHOLE = 1e-3  # largest distance of a stored integer from its float32 form


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckInputs:
    """Inputs of 32 examples, as the network takes them.

    Attributes:
        inputs: A tensor [32, ...], or a tuple or dict of such tensors.
        source: Where they are from, for example "test examples of the run".
        real: Whether they are examples of the data.
        others: Inputs of further examples, one each, of which lengths may differ.
    """

    inputs: Any
    source: str
    real: bool
    others: tuple[Any, ...] = ()

    def first(self, count: int) -> Any:  # noqa: ANN401 - of any network
        """Return the inputs of the first examples."""
        return Batch(self.inputs, None).rows(slice(count)).inputs


def check_inputs(
    task: Callable[[], LoadedTask], shape: Sequence[int], description: Description
) -> CheckInputs:
    """Return test examples of the run; made-up ones where they cannot be loaded.

    Args:
        task: Loads the task of the run, which may fail.
        shape: Shape of one input; () = it is not one tensor.
        description: Preprocessing; made-up pixels are 0..255 before it.

    Raises:
        DataError: If there are neither examples nor a shape.
        ConfigError: The same, where the task of the run must be named.
    """
    kind: type[FedPruneError] = DataError
    try:
        inputs, part, others = _examples(task())
        if not shape or _fits(inputs, others, tuple(shape)):
            return CheckInputs(inputs=inputs, source=part, real=True, others=others)
        reason = f"its data now have inputs {list(inputs.shape[1:])}, the network wants"
        reason += f" {list(shape)}"
    except (Exception, SystemExit) as error:  # a user's own data may raise anything
        reason = first_line(error)
        kind = ConfigError if isinstance(error, ConfigError) else DataError
    if not shape:
        msg = "the inputs of this network are not one tensor, and no example of the "
        msg += f"run can be loaded: {reason}"
        raise kind(msg)
    made = _made(tuple(shape), description)
    source = f"made-up numbers, for the run has no example here: {reason}"
    return CheckInputs(inputs=made, source=source, real=False)


def _fits(inputs: Any, others: tuple[Any, ...], shape: tuple[int, ...]) -> bool:  # noqa: ANN401
    """Return whether inputs have a shape, but for lengths that differ among them."""
    if not isinstance(inputs, Tensor):
        return True
    free = free_lengths([inputs, *others])[0]
    pairs = enumerate(zip(inputs.shape[1:], shape, strict=False), start=1)
    same = inputs.dim() == 1 + len(shape)
    return same and all(one == two or dim in free for dim, (one, two) in pairs)


def _examples(task: LoadedTask) -> tuple[Any, str, tuple[Any, ...]]:
    """Return inputs of test examples, or of training examples without any.

    And some of single examples of both parts, which have lengths of their own.
    """
    examples, part = task.test, "test examples of the run"
    if len(examples) == 0:
        examples, part = task.sample, "training examples of the run"
    if len(examples) == 0:
        msg = f"{task.name} has no example"
        raise DataError(msg)
    places = np.arange(_MANY) % len(examples)
    others = tuple(
        data.batch(np.array([place])).inputs
        for data in (examples, task.sample)
        if not isinstance(data, ArrayExamples)
        for place in range(min(_SINGLE, len(data)))
    )
    return examples.batch(places).inputs, part, others


def _made(shape: tuple[int, ...], description: Description) -> Tensor:
    rng = np.random.default_rng(0)
    if description.stored != "uint8":
        drawn = rng.standard_normal((_MANY, *shape), dtype=np.float32)
        return torch.from_numpy(drawn)
    pixels = torch.from_numpy(rng.integers(0, 256, (_MANY, *shape))).float()
    made: Tensor = description.prepare(pixels)
    return made


def torch_bind(model: nn.Module) -> Bind:
    """Return how a torch network is run on inputs."""

    def bind(inputs: Any) -> Bound:  # noqa: ANN401 - of any network
        def run() -> list[NDArray[Any]]:
            with torch.no_grad():
                return [x.numpy() for x in tensors_in(run_network(model, inputs))]

        return run

    return bind


class OnnxNetwork:
    """An ONNX file, or a form of it, that is called like the network in it.

    Args:
        path: The file.
        model: The network that it was made from.
        inside: The preprocessing in the file, which its inputs are without; None = it
            takes the inputs of the network.
        run: Runs the file, if another runtime than onnxruntime does.
    """

    def __init__(
        self,
        path: Path,
        model: nn.Module,
        inside: Description | None = None,
        run: NamedRunner | None = None,
    ) -> None:
        self._run = run or named_runner(path)
        self._model, self._inside = model, inside

    def named(self, inputs: Any) -> dict[str, NDArray[Any]]:  # noqa: ANN401
        """Return the inputs of the network as those of the file."""
        given = arguments(self._model, inputs)
        tensors = tensors_of(given)
        if self._inside is not None:
            tensors = [stored_values(x, self._inside) for x in tensors]
        names = input_names(self._model, given)
        return {n: x.numpy() for n, x in zip(names, tensors, strict=True)}

    def bind(self, inputs: Any) -> Bound:  # noqa: ANN401 - of any network
        """Return a function that runs the file on the inputs of the network."""
        named = self.named(inputs)
        return lambda: self._run(named)

    def __call__(self, inputs: Any) -> Any:  # noqa: ANN401 - of any network
        """Return the outputs in the form that the network gives them."""
        found = [torch.from_numpy(x) for x in self.bind(inputs)()]
        with torch.no_grad():
            form = self._model(*copied(arguments(self._model, inputs)))
        leaves, spec = pytree.tree_flatten(form)
        if all(isinstance(leaf, Tensor) for leaf in leaves):
            return pytree.tree_unflatten(found, spec)
        return dict(zip(output_names(form), found, strict=True))


def stored_values(inputs: Tensor, description: Description) -> Tensor:
    """Return inputs as they were stored, float32: the preprocessing undone.

    Stored integers come back exactly.
    """
    values: Tensor = description.restore(inputs.double())
    whole = values.round()
    if bool(((values - whole).abs() < _WHOLE).all()):
        values = whole
    return values.float()


def compare(known: Bind, new: Bind, given: CheckInputs) -> dict[str, object]:
    """Return the largest difference of two networks, and their latencies.

    Raises:
        FedPruneError: If one of them does not run, or their outputs differ in shape.
    """
    worst = largest = 0.0
    for inputs in (*map(given.first, _SIZES), *given.others):
        try:
            wanted, found = known(inputs)(), new(inputs)()
        except (RuntimeError, IndexError, ValueError, TypeError) as error:
            msg = f"the network does not run on {given.source}: {first_line(error)}"
            raise FedPruneError(msg) from error
        worst = max(worst, _difference(wanted, found))
        largest = max([largest, *(float(np.abs(x).max()) for x in wanted if x.size)])
    torch_ms, new_ms = latencies(known, new, given.first(1))
    torch_many, new_many = latencies(known, new, given.inputs)
    return {
        "checked_on": given.source,
        "max_difference": worst,
        "max_output": largest,
        "latency_ms_torch": torch_ms,
        "latency_ms_exported": new_ms,
        "examples_per_s_torch": _rates(torch_ms, torch_many),
        "examples_per_s_exported": _rates(new_ms, new_many),
    }


def headline(network: Callable[[Any], Any], task: LoadedTask, test: Examples) -> float:
    """Return the mean headline metric of a network, such as its accuracy.

    Args:
        network: Inputs of a batch -> outputs.
        task: Its metrics.
        test: The examples.

    Raises:
        DataError: If there is no example with a target that counts.
    """
    total, count = 0.0, 0
    for places in evaluated_batches(test):
        batch = test.batch(places)
        with torch.no_grad():
            values = next(iter(task.metrics(network(batch.inputs), batch).values()))
        counts = counted(task, batch)
        total += float(chosen(values, counts).double().sum())
        count += number_of(counts, batch)
    if count == 0:
        msg = "there is no test example to measure the accuracy on"
        raise DataError(msg)
    return total / count


def _difference(wanted: list[NDArray[Any]], found: list[NDArray[Any]]) -> float:
    shapes = [x.shape for x in wanted], [x.shape for x in found]
    if shapes[0] != shapes[1]:
        msg = f"its outputs have shapes {shapes[1]}; those of the network {shapes[0]}"
        raise FedPruneError(msg)
    pairs = zip(wanted, found, strict=True)
    parts = [np.abs(a.astype(np.float64) - b) for a, b in pairs]
    return max([0.0, *(float(x.max()) for x in parts if x.size)])


def _rates(one_ms: float, many_ms: float) -> dict[str, float]:
    """Return examples per second by batch size."""
    return {
        "batch 1": round(1e3 / max(one_ms, 1e-6), 1),
        f"batch {_MANY}": round(1e3 * _MANY / max(many_ms, 1e-6), 1),
    }


def latencies(first: Bind, second: Bind, inputs: Any) -> tuple[float, float]:  # noqa: ANN401
    """Return median milliseconds of two networks, in turns, on one thread."""
    taken: tuple[list[float], list[float]] = ([], [])
    bound = first(inputs), second(inputs)
    with one_thread():
        for turn in range(_WARM_RUNS + _LATENCY_RUNS):
            for run, times in zip(bound, taken, strict=True):
                started = time.perf_counter()
                run()
                if turn >= _WARM_RUNS:
                    times.append(time.perf_counter() - started)
    one, two = (round(1e3 * float(np.median(times)), 4) for times in taken)
    return one, two
