"""The four tasks: two on which a criterion is chosen, two that confirm the choice."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fedprune.common.config import Config, load_config

_HERE = f"{__package__}.networks"
_MNIST = {
    "task.data": f"{_HERE}:mnist",
    "client": {"epochs": 3, "batch": 16, "lr": 0.05, "validation": 0.1},
    "update.update_density": 0.2,
}
WARMUP, CUTS, FINAL = 6, 4, 8
SMALL = 0.05  # of the parameters stay in the runs to the end


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteTask:
    """A task of the row.

    Attributes:
        name: Its name.
        choice: Whether criteria are chosen on it; else it confirms.
        settings: Data, network and training.
        score_examples: Examples that a client scores; the rest give the truth.
        skipped: Criteria that it cannot, or should not for their time, be scored by.
        detail: Data and network in words.
    """

    name: str
    choice: bool
    settings: Mapping[str, object] = field(repr=False)
    score_examples: int = 128
    skipped: frozenset[str] = frozenset()
    detail: str = ""

    def config(self, seed: int, folder: Path, **changes: object) -> Config:
        """Return the configuration of a run in this process, with other settings."""
        fixed: dict[str, object] = {
            "run.dir": str(folder),
            "run.seed": seed,
            "run.engine": "inprocess",
            "run.controls": [],
            "run.evaluate_every": 100,
            "client.score_examples": self.score_examples,
            "rounds.warmup": WARMUP,
            "rounds.cohort": 10,
            "prune.width_multiple": 1,
        }
        given = {key.replace("__", "."): value for key, value in changes.items()}
        return load_config(None, {**self.settings, **fixed, **given})

    def warmup(self, seed: int, folder: Path) -> Config:
        """Return the configuration of the warmup alone."""
        return self.config(seed, folder, rounds__cuts=0, rounds__final=0)

    def whole(self, seed: int, folder: Path, criterion: str) -> Config:
        """Return the configuration of a short run to ``SMALL``."""
        return self.config(
            seed,
            folder,
            rounds__cuts=CUTS,
            rounds__sparsify=1,
            rounds__finetune=1,
            rounds__final=FINAL,
            prune__budget={"params": SMALL},
            prune__step_cap=0.6,
            prune__importance=criterion,
        )


TASKS = (
    VoteTask(
        name="mnist-plain",
        choice=True,
        settings={
            **_MNIST,
            "task.model": f"{_HERE}:Plain",
            "task.partition": {"kind": "dirichlet", "alpha": 0.5},
        },
        detail="3 000 MNIST images of 14 x 14, Dirichlet 0.5, two convolutions and two "
        "linear layers",
    ),
    VoteTask(
        name="digits-normed",
        choice=True,
        settings={"task.partition": {"kind": "dirichlet", "alpha": 0.5}},
        score_examples=64,
        skipped=frozenset(["sensitivity"]),
        detail="digits, Dirichlet 0.5, small-resnet with batch norm",
    ),
    VoteTask(
        name="mnist-normed",
        choice=False,
        settings={
            **_MNIST,
            "task.model": f"{_HERE}:Normed",
            "task.partition": {"kind": "dirichlet", "alpha": 0.1},
        },
        detail="3 000 MNIST images of 14 x 14, Dirichlet 0.1, three convolutions with "
        "batch norm",
    ),
    VoteTask(
        name="characters",
        choice=False,
        settings={
            "task.use": f"{_HERE}:Characters",
            "task.clients": 0,
            "task.loss": "next-token",
            "client": {
                "epochs": 2,
                "batch": 16,
                "lr": 0.003,
                "optimizer": "adamw",
                "penalty": "group",
            },
            "update.update_density": 0.2,
        },
        score_examples=32,
        skipped=frozenset(  # no module has the outputs of heads
            [
                "sensitivity",
                "activation-mean",
                "activation-variance",
                "activation x weight",
            ]
        ),
        detail="ten roles of Shakespeare, next character, two blocks of attention",
    ),
)
