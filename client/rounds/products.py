"""Gate products: first-order change of each example's loss when a channel is removed.

Each example has a factor of 1 on a channel's output at a measuring point.  The gradient
of the example's loss with respect to the factor is the sum over positions of gradient
times value, and one backward gives those of a whole batch (cf. Theis et al. 2018,
arXiv:1801.05787, Eq. 7).  Where a layer's output is not the channel's own (heads inside
an attention, a leading dimension that is not the batch) the same number is computed
from the gradients of its weights, one example at a time.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedprune.common.data.examples import Batch, Examples
from fedprune.common.pruning.importance import MeasurePoint
from fedprune.common.system.device import device_of, wide, wide_type
from fedprune.common.tasks.loaded import LoadedTask, run_network

Sums = dict[str, NDArray[np.float64]]  # tensor -> float64[channels]
Products = dict[str, NDArray[np.float64]]  # tensor -> float64[examples, channels]

_CLOSE = 1e-3  # of a tensor's largest product: float32 sums in another order


def channel_axis(module: nn.Module) -> int:
    """Return the dimension of the channels in a module's output."""
    return -1 if isinstance(module, nn.Linear | nn.Embedding) else 1


def is_shown(model: nn.Module, point: MeasurePoint) -> bool:
    """Return whether a module's output has the channels of a point.

    The rows of an embedding are tokens, not channels of its output.
    """
    if not point.module:
        return False
    return point.dim != 0 or not isinstance(
        model.get_submodule(point.module), nn.Embedding
    )


class Disagreement(Exception):  # noqa: N818 - no error: the slow way is left
    """Factors on outputs do not give the products of a batch."""


class ProductMeter:
    """Measures gate products of one network, in eval mode.

    Args:
        model: The network.
        points: The measuring points.
        task: Has the loss.
    """

    def __init__(
        self, model: nn.Module, points: Sequence[MeasurePoint], task: LoadedTask
    ) -> None:
        self._model = model
        self._points = points
        self._task = task
        self._windows: dict[str, int] = {}  # rows of an output that are one example's

    def can_use_factors(self, examples: Examples) -> bool:
        """Return whether factors on outputs give the same as the weights' gradients.

        Tested with the first, the middle and the last example in one batch, and each
        of them alone.
        """
        shown = [is_shown(self._model, point) for point in self._points]
        if not shown or not all(shown):
            return False
        count = len(examples)
        chosen = np.unique([0, count // 2, count - 1]) if count else np.arange(0)
        if not len(chosen):
            return False
        batch = examples.batch(chosen).to(device_of(self._model))
        together = self.by_factors(batch)
        return together is not None and self._agrees(together, self.by_weights(batch))

    def measure(self, batch: Batch, *, fast: bool, row: int = 0) -> Products:
        """Return the products of a batch.

        Args:
            batch: The examples.
            fast: Whether factors can be used (``can_use_factors``).
            row: The example whose products are measured in both ways, if fast.

        Raises:
            Disagreement: If the two ways differ there, or the batch is laid out in
                another way than those before.
        """
        if not fast:
            return self.by_weights(batch)
        found = self.by_factors(batch)
        one = slice(row, row + 1)
        alone = self.by_weights(batch.rows(one))
        if found is None or not self._agrees(
            {name: value[one] for name, value in found.items()}, alone
        ):
            raise Disagreement
        return found

    def sums(self, batch: Batch) -> Sums:
        """Return the sum of a batch's products over its examples, in one backward."""
        tensors = dict(self._model.named_parameters())
        self._model.zero_grad(set_to_none=True)
        loss = self._task.loss(run_network(self._model, batch.inputs), batch).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        found = {p.tensor: _of_weights(p, tensors) for p in self._points}
        self._model.zero_grad(set_to_none=True)
        return found

    def _agrees(self, fast: Products, slow: Products) -> bool:
        """Return whether two measurements of the same examples are close.

        By tensor and example: a branch of little effect may be laid out another way.
        """
        noise = _CLOSE * max(
            (float(np.abs(value).max(initial=0.0)) for value in slow.values()),
            default=0.0,
        )
        return all(
            bool(
                np.all(
                    np.abs(fast[name] - value)
                    <= _CLOSE * np.maximum(np.abs(value).max(axis=1), noise)[:, None]
                )
            )
            for name, value in slow.items()
        )

    def by_factors(self, batch: Batch) -> Products | None:
        """Return the products of a batch in one backward, or None if impossible."""
        with self._factors(batch.size) as factors:
            outputs = run_network(self._model, batch.inputs)
        if len(factors) < len(self._points):
            return None
        loss = self._task.loss(outputs, batch).sum()
        found = torch.autograd.grad(
            loss, list(factors.values()), allow_unused=True, materialize_grads=True
        )
        return {
            name: _as_array(part) for name, part in zip(factors, found, strict=True)
        }

    def by_weights(self, batch: Batch) -> Products:
        """Return the products of a batch, one example at a time."""
        rows: list[Products] = []
        tensors = dict(self._model.named_parameters())
        for number in range(batch.size):
            self._model.zero_grad(set_to_none=True)
            one = batch.rows(slice(number, number + 1))
            loss = self._task.loss(run_network(self._model, one.inputs), one).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            rows.append({p.tensor: _of_weights(p, tensors) for p in self._points})
        self._model.zero_grad(set_to_none=True)
        return {p.tensor: np.stack([r[p.tensor] for r in rows]) for p in self._points}

    @contextmanager
    def _factors(self, count: int) -> Iterator[dict[str, Tensor]]:
        """Multiply the outputs at the points by ones, which are recorded."""
        factors: dict[str, Tensor] = {}
        tensors = dict(self._model.named_parameters())
        sizes = {p.tensor: tensors[p.tensor].shape[p.dim] for p in self._points}

        def hook(point: MeasurePoint, module: nn.Module) -> object:
            def scale(_: nn.Module, __: object, output: object) -> object:
                if not isinstance(output, Tensor) or output.shape[0] % count:
                    return output
                windows = output.shape[0] // count
                if self._windows.setdefault(point.tensor, windows) != windows:
                    return output  # a layout that depends on the data
                axis = channel_axis(module) % output.dim()
                wanted = (count, sizes[point.tensor])
                factor = factors.setdefault(
                    point.tensor,
                    torch.ones(
                        wanted,
                        dtype=output.dtype,
                        device=output.device,
                        requires_grad=True,
                    ),
                )
                shape = [1] * output.dim()
                shape[0], shape[axis] = output.shape[0], output.shape[axis]
                # The windows of one example are neighbours in the first dimension.
                repeated = factor.repeat_interleave(windows, dim=0)
                # A position of a transposed convolution makes a channel of each group.
                groups = output.shape[axis] // wanted[1]
                return output * repeated.repeat(1, groups).reshape(shape)

            return scale

        modules = [(p, self._model.get_submodule(p.module)) for p in self._points]
        handles = [
            module.register_forward_hook(hook(point, module))  # type: ignore[arg-type]
            for point, module in modules
        ]
        try:
            yield factors
        finally:
            for handle in handles:
                handle.remove()


def _of_weights(
    point: MeasurePoint, tensors: dict[str, nn.Parameter]
) -> NDArray[np.float64]:
    """Return gradient times value of a point's weight and bias, float64[channels]."""
    total = _products(tensors[point.tensor], point.dim)
    bias = bias_of(point.tensor, tensors)
    if bias is not None and is_of_outputs(bias, point, len(total)):
        # Groups of a transposed convolution have the same positions.
        total = total + _products(bias, 0).reshape(-1, len(total)).sum(dim=0)
    return total.cpu().double().numpy()


def bias_of(tensor: str, tensors: dict[str, nn.Parameter]) -> nn.Parameter | None:
    """Return the shift or bias that belongs to a weight, or None."""
    return tensors.get(tensor.removesuffix("weight") + "bias")


def is_of_outputs(bias: Tensor, point: MeasurePoint, positions: int) -> bool:
    """Return whether a bias has an entry for each output of a weight's positions.

    In a transposed convolution, whose outputs are dimension 1, a position makes one
    output channel in each group.
    """
    grouped = point.dim == 1 and positions > 0 and len(bias) % positions == 0
    return len(bias) == positions or grouped


def _products(parameter: nn.Parameter, dim: int) -> Tensor:
    """Return the sum of gradient * value along each entry of ``dim``, float64."""
    if parameter.grad is None:
        kind = wide_type(parameter.device)
        return torch.zeros(parameter.shape[dim], dtype=kind, device=parameter.device)
    product = wide(parameter.grad) * wide(parameter.detach())
    return (
        product.movedim(dim, 0).flatten(1).sum(dim=1) if product.dim() > 1 else product
    )


def _as_array(value: Tensor) -> NDArray[np.float64]:
    found: NDArray[np.float64] = value.cpu().double().numpy()
    return found
