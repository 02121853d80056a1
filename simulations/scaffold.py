"""``fedprune init``: a configuration with every key, and a user's own task."""

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from pydantic import BaseModel

from fedprune.common.config import Config, toml_value, wanted
from fedprune.common.errors import ConfigError
from fedprune.common.system.atomic import write_bytes_atomic
from fedprune.common.system.paths import make_folder

_CONFIG, _TASK = "fedprune.toml", "my_task.py"
_WIDTH = 86  # characters of a comment, without "# "

_HEAD = """\
# A federation with a network and data of its own; run it:
#     fedprune simulate fedprune.toml
# Lines that begin with "#" and no space are the defaults; take the "#" away to change
# one.  "fedprune simulate --set key=value" changes one for a single run.
"""
_DEVICES_HEAD = """\
# A federation of real devices; the server and each device read a copy of this file:
#     fedprune certs certs --host SERVER --client edge-01 --client edge-02 ...
#     fedprune serve fedprune.toml --tls certs                       (on the server)
#     fedprune client fedprune.toml --server SERVER:8000 --id edge-01 \\
#         --data npz:mine.npz --tls keys                             (on each device)
# Of its copy a device takes [task] and [device] only.  "fedprune poc DIR" tries it all
# on one machine.  Lines that begin with "#" and no space are the defaults; take the "#"
# away to change one.
"""
_CLIENTS = 3

_MY_TASK = '''\
"""A task of my own: its network and its data.

``fedprune.toml`` names the two functions; both run on this machine, offline.
"""

import numpy as np
from torch import nn

SIDE = 8  # pixels of an image's edge


def load_data():
    """Return (x_train, y_train, x_test, y_test): noisy stripes of four directions.

    Inputs are float32[n, channels, height, width] (or uint8 pixels, or rows of
    features), targets integer classes[n] (or float values[n] for loss = "mse").
    """
    rng = np.random.default_rng(0)
    x_train, y_train = stripes(rng, 1200)
    x_test, y_test = stripes(rng, 400)
    return x_train, y_train, x_test, y_test


def stripes(rng, count):
    """Return images float32[count, 1, SIDE, SIDE] and their directions int64[count]."""
    row, column = np.mgrid[:SIDE, :SIDE]
    ramps = np.stack([row, column, row + column, row - column])
    directions = rng.integers(4, size=count)
    shifts = rng.uniform(0, 2 * np.pi, size=(count, 1, 1))
    images = np.sin(ramps[directions] * 1.5 + shifts)
    images += rng.normal(scale=1.0, size=images.shape)
    return images[:, None].astype(np.float32), directions


def make_model(num_outputs, input_shape):
    """Return the network; its channels are found and pruned by themselves."""
    return nn.Sequential(
        nn.Conv2d(input_shape[0], 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, num_outputs),
    )
'''


Set: TypeAlias = Mapping[tuple[str, str], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """Project that ``fedprune init`` writes.

    Attributes:
        head: First lines of the configuration.
        values: Keys that are set; the others are comments with their defaults.
        files: Name -> content of the files beside the configuration.
        next: The next command, "{}" = the path of the configuration.
    """

    head: str
    values: Set
    files: Mapping[str, str] = field(default_factory=dict)
    next: str = "fedprune simulate {}"


OWN = Template(
    head=_HEAD,
    values={
        ("task", "model"): "my_task.py:make_model",
        ("task", "data"): "my_task.py:load_data",
    },
    files={_TASK: _MY_TASK},
)
DEVICES = Template(
    head=_DEVICES_HEAD,
    values={
        ("task", "clients"): _CLIENTS,
        # A device may lack a class, and the server has no data.
        ("task", "outputs"): 10,
        ("task", "input_shape"): (1, 8, 8),
        ("rounds", "cohort"): _CLIENTS,
        ("rounds", "minimum"): _CLIENTS - 1,
    },
    next="fedprune certs certs --host SERVER --client edge-01, and what {} says",
)


def write_project(directory: Path, template: Template = OWN) -> list[Path]:
    """Write ``fedprune.toml`` and what belongs to it into a folder, made when absent.

    Returns:
        The files, the configuration first.

    Raises:
        ConfigError: If one of them exists (nothing is written then), or the folder
            cannot be made or written to.
    """
    files = {directory / _CONFIG: commented_config(template)}
    files |= {directory / name: text for name, text in template.files.items()}
    for path in files:
        if path.exists():
            message = f"{path} exists and is not overwritten; want another folder"
            raise ConfigError(message)
    make_folder(directory)
    for path, text in files.items():
        write_bytes_atomic(path, text.encode())
    return list(files)


def commented_config(template: Template = OWN) -> str:
    """Return a configuration with the help and the default of every key."""
    parts = [template.head]
    for name in Config.model_fields:
        section = getattr(Config(), name)
        summary = (type(section).__doc__ or "").splitlines()[0]
        lines = [f"[{name}]  # {summary}"]
        for key, value in section:
            help_ = type(section).model_fields[key].description or ""
            chosen = template.values.get((name, key))
            lines += _entry((name, key), value, help_, chosen)
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _entry(
    key: tuple[str, ...], value: object, help_: str, chosen: object = None
) -> Iterator[str]:
    """Yield the lines of one key: its help, and its default or chosen value.

    A table that is too wide for a line has a line for each of its own keys.
    """
    name, choices = ".".join(key[1:]), wanted(key)
    if choices.startswith("one of"):
        help_ += f" {choices[0].upper()}{choices[1:]}."
    for line in textwrap.wrap(help_, _WIDTH):
        yield f"# {line}"
    if chosen is not None:
        yield f"{name} = {toml_value(chosen)}"
        return
    if value is None:  # TOML has no value for a key that is off
        yield f"# {name} = (left out)"
        return
    line = f"#{name} = {toml_value(value)}"
    if len(line) <= _WIDTH or not isinstance(value, BaseModel):
        yield line
        return
    for inner, default in value:
        inner_help = type(value).model_fields[inner].description or ""
        yield from _entry((*key, inner), default, inner_help)
