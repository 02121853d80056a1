"""All mistakes, in the order of the parts of a run."""

from typing import Final

from fedprune.simulations.benchmarks.kit.mistakes.of_inputs import OF_DATA, OF_NETWORKS
from fedprune.simulations.benchmarks.kit.mistakes.of_machines import (
    OF_EXTRAS,
    OF_MACHINES,
)
from fedprune.simulations.benchmarks.kit.mistakes.of_runs import OF_RUNS
from fedprune.simulations.benchmarks.kit.mistakes.of_settings import (
    COMMANDS,
    CONFIGURATION,
)

MISTAKES: Final = (
    *(*CONFIGURATION, *OF_DATA, *OF_NETWORKS, *COMMANDS),
    *(*OF_RUNS, *OF_MACHINES, *OF_EXTRAS),
)
