"""Networks of other libraries: ``timm:NAME``, ``torchvision:NAME``, ``hf:NAME``.

These names mean pretrained weights.  ``NAME@random`` means random weights, for training
from scratch and for devices without network: the server's broadcast overwrites a
device's weights anyway, and the structure does not depend on them.
"""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Literal

from torch import Tensor, nn
from typing_extensions import override

from fedprune.common.errors import ConfigError, FedPruneError
from fedprune.common.text import first_line, not_installed
from fedprune.common.user_code import RANDOM, did_you_mean

Shape = tuple[int, ...]
# "local": random weights, and nothing is fetched, not even a configuration.
Weights = Literal["pretrained", "random", "local"]
Loader = Callable[[str, int, Shape, Weights], nn.Module]

_RGB = 3
_STUB = "torchvision._meta_registrations"


class Logits(nn.Module):
    """A network of transformers that returns its logits alone.

    Args:
        network: A network whose result has ``logits``.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @override
    def forward(self, x: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Return float32[n, num_outputs] for a tensor, or for named tensors."""
        found = self.network(**x) if isinstance(x, Mapping) else self.network(x)
        logits: Tensor = found.logits
        return logits


def load_foreign(
    reference: str, num_outputs: int, input_shape: Shape, *, fetch: bool = True
) -> nn.Module:
    """Build ``LIBRARY:NAME`` or ``LIBRARY:NAME@random``.

    Args:
        reference: The name, with one of ``LOADERS`` in front.
        num_outputs: Entries of the output, >= 1; the classifier is a new one where the
            pretrained network has another number.
        input_shape: Shape of one example, without the batch.
        fetch: Whether weights and configurations may be downloaded; if not, the
            weights are random.

    Raises:
        ConfigError: If the library is not installed, has no such network, or its
            files cannot be fetched.
    """
    check_foreign(reference)
    library, _, name = reference.partition(":")
    weights: Weights = "random" if name.endswith(RANDOM) else "pretrained"
    name = name.removesuffix(RANDOM)
    try:
        given = weights if fetch else "local"
        return LOADERS[library](name, num_outputs, input_shape, given)
    except FedPruneError:
        raise
    except Exception as error:
        text = first_line(error)
        msg = f"'{reference}' cannot be built: {text}"
        if not fetch:
            msg += "; nothing is downloaded for a file's network"
        elif weights == "pretrained":
            msg += f"; without network, '{library}:{name}{RANDOM}' has random weights"
        raise ConfigError(msg) from error


def check_foreign(reference: str) -> None:
    """Check that the library of a reference is installed; nothing is built.

    Raises:
        ConfigError: If it is not, or no network is named.
    """
    library, _, name = reference.partition(":")
    package, extra = _PACKAGES[library]
    if not name.removesuffix(RANDOM):
        msg = f"model '{reference}' names no network; want '{library}:NAME'"
        raise ConfigError(msg)
    if find_spec(package) is None:
        raise ConfigError(not_installed(f"model '{reference}'", package, extra))


def import_torchvision() -> ModuleType:
    """Import torchvision, also a CUDA build of it over a CPU build of torch.

    Such a pair lacks the compiled operations (``nms``), and torchvision fails while it
    registers their shapes.  Its networks for classification use none of them.
    """
    if "torchvision" in sys.modules:
        return sys.modules["torchvision"]
    try:
        return import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    for name in [
        name for name in sys.modules if name.partition(".")[0] == "torchvision"
    ]:
        del sys.modules[name]
    sys.modules[_STUB] = ModuleType(_STUB)
    return import_module("torchvision")


def _timm(name: str, num_outputs: int, shape: Shape, weights: Weights) -> nn.Module:
    import_torchvision()
    timm: Any = import_module("timm")
    if not timm.is_model(name):
        msg = f"timm has no network '{name}'{did_you_mean(name, timm.list_models())}"
        raise ConfigError(msg)
    model: nn.Module = timm.create_model(
        name,
        pretrained=weights == "pretrained",
        num_classes=num_outputs,
        in_chans=shape[0],
    )
    return model


def _torchvision(
    name: str, num_outputs: int, shape: Shape, weights: Weights
) -> nn.Module:
    import_torchvision()
    models: Any = import_module("torchvision.models")
    known = models.list_models(module=models)
    if name not in known:
        msg = f"torchvision has no network '{name}'{did_you_mean(name, known)}"
        raise ConfigError(msg)
    if shape[0] != _RGB:
        msg = f"'torchvision:{name}' takes images of {_RGB} channels, the data has"
        msg += f" shape {shape}; 'timm:' networks take any number"
        raise ConfigError(msg)
    given = _TORCHVISION_ARGUMENTS.get(name, {})
    if weights != "pretrained":
        model: nn.Module = models.get_model(
            name, weights=None, num_classes=num_outputs, **given
        )
        return model
    fetched = {key: value for key, value in given.items() if key != "init_weights"}
    model = models.get_model(name, weights="DEFAULT", **fetched)
    return _with_outputs(model, num_outputs)


def _with_outputs(model: nn.Module, num_outputs: int) -> nn.Module:
    """Replace the last linear layer by a new classifier."""
    last = [name for name, item in model.named_modules() if isinstance(item, nn.Linear)]
    if not last:
        msg = "the network ends in no linear layer, so its outputs cannot be changed"
        raise ConfigError(msg)
    old = model.get_submodule(last[-1])
    assert isinstance(old, nn.Linear)  # noqa: S101 - chosen as one
    if old.out_features != num_outputs:
        path, _, name = last[-1].rpartition(".")
        new = nn.Linear(old.in_features, num_outputs, bias=old.bias is not None)
        setattr(model.get_submodule(path), name, new)
    return model


def _hf(name: str, num_outputs: int, _: Shape, weights: Weights) -> nn.Module:
    if find_spec("torchvision") is not None:
        import_torchvision()  # transformers imports it for its image networks
    transformers: Any = import_module("transformers")
    config = transformers.AutoConfig.from_pretrained(
        name,
        num_labels=num_outputs,
        local_files_only=weights == "local",
        trust_remote_code=False,  # else the terminal is asked
    )
    kinds = (
        transformers.AutoModelForImageClassification,
        transformers.AutoModelForSequenceClassification,
    )
    for kind in kinds:
        if type(config) not in kind._model_mapping:  # noqa: SLF001 - transformers has no public test
            continue
        if weights != "pretrained":
            return Logits(kind.from_config(config))
        return Logits(
            kind.from_pretrained(
                name,
                config=config,
                ignore_mismatched_sizes=True,
                use_safetensors=True,  # never a pickle
                trust_remote_code=False,
            )
        )
    msg = f"'hf:{name}' is a {config.model_type}, which classifies nothing"
    raise ConfigError(msg)


# Heads that are used in training only would be cut without being traced.
_TORCHVISION_ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": False},
    "inception_v3": {"aux_logits": False, "init_weights": False},
}
LOADERS: Mapping[str, Loader] = {
    "timm": _timm,
    "torchvision": _torchvision,
    "hf": _hf,
}
# The package that each needs, and the extra that installs it.
_PACKAGES = {
    "timm": ("timm", "vision"),
    "torchvision": ("torchvision", "vision"),
    "hf": ("transformers", "hf"),
}
