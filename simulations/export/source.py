"""The final network of a run, as an export needs it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import nn

from fedprune.common.artifacts import (
    read_description,
    read_input_shape,
    read_model_file,
)
from fedprune.common.artifacts.load import load_model
from fedprune.common.description import Description
from fedprune.common.errors import ConfigError
from fedprune.common.models.factory import Factory
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.common.tasks.own import python_task
from fedprune.common.tasks.task import Task
from fedprune.common.user_code import PYTHON
from fedprune.server.devices.run_config import run_config
from fedprune.server.runs.folder import RunFolder, read_json_object
from fedprune.simulations.export.check import CheckInputs, check_inputs


@dataclass(frozen=True, kw_only=True)
class Source:
    """The final network of a run; what takes time is loaded on first use.

    Attributes:
        folder: The run.
        path: Its model file.
        factory: Makes the uncut network, or the task, for runs of Python code.
        trust_code: As for ``export_run``.
    """

    folder: RunFolder
    path: Path
    factory: Factory | Task | None
    trust_code: bool

    def load(self, path: Path) -> nn.Module:
        """Return the network of a file of this run."""
        return load_model(path, factory=self.factory, trust_code=self.trust_code)

    @cached_property
    def model(self) -> nn.Module:
        """The network, in eval mode."""
        return self.load(self.path)

    @cached_property
    def metadata(self) -> dict[str, str]:
        """The metadata of its file."""
        return read_model_file(self.path)[1]

    @property
    def description(self) -> Description:
        """Label names and preprocessing."""
        return read_description(self.path, self.metadata)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input; () = it is not one tensor."""
        return read_input_shape(self.path, self.metadata)

    @cached_property
    def task(self) -> LoadedTask:
        """The task of the run; its code is checked."""
        given = self.factory if isinstance(self.factory, Task) else None
        factory = None if isinstance(self.factory, Task) else self.factory
        config = run_config(
            self.folder,
            trust_code=self.trust_code,
            factory=factory is not None,
            task=given is not None,
        )
        if config.task.use == PYTHON and given is None:
            raise ConfigError(python_task(self.folder.path, "factory=MyTask()"))
        return LoadedTask(config, factory, given)

    @cached_property
    def given(self) -> CheckInputs:
        """Inputs to run the network on."""
        return check_inputs(lambda: self.task, self.shape, self.description)

    @cached_property
    def summary(self) -> dict[str, object]:
        """The figures of the run, or none."""
        path = self.folder.summary
        return read_json_object(path) if path.is_file() else {}

    @property
    def metric(self) -> str:
        """Name of the headline metric."""
        return str(self.summary.get("metric") or "accuracy")
