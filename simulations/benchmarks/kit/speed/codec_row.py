"""Row ``codec``: what clients and the server's check cost beside the training."""

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from fedprune.common import codec
from fedprune.common.codec import SideInformation
from fedprune.common.config import Config, load_config
from fedprune.common.messages import ClientUpdate
from fedprune.common.system.memory import keep_memory
from fedprune.simulations.benchmarks.kit.harness import Figure
from fedprune.simulations.benchmarks.kit.house.walk import walk_of_an_encode
from fedprune.simulations.benchmarks.kit.rows import Raw
from fedprune.simulations.benchmarks.kit.science.rows import Found, Piece, Row
from fedprune.simulations.benchmarks.kit.speed.figures import over_pairs
from fedprune.simulations.benchmarks.kit.speed.timed import (
    CLIENT,
    DECODE,
    ENCODE,
    NETWORK,
    SELECT,
    TRAIN,
    timed_run,
)
from fedprune.simulations.benchmarks.kit.speed.work import Work
from fedprune.simulations.experiments import LENET

_FLOAT, _MEGA = 4, 1e6
_REPEATS = 5
_CLIENTS, _IMAGES = 4, 600
_ROUNDS = 4  # the first one loads; all belong to the warmup
_RESNET = [
    'task.model="resnet18"',
    "task.clients=20",  # 72 images each
    "rounds.cohort=2",
    "rounds.minimum=2",
    "rounds.warmup=9",
    "client.epochs=1",
]


def _lenet(folder: Path, clients: int) -> Config:
    """Return ``mnist-lenet5`` with 600 images a client."""
    work = Work(clients=clients, images=_IMAGES)
    work.write(folder / "lenet")
    settings = [
        f'task.data="npz:{folder / "lenet" / "data.npz"}"',
        'task.partition.kind="iid"',
        f"task.clients={clients}",
        f"rounds.cohort={clients}",
        f"rounds.minimum={clients}",
        "client.validation=0.1",
        "run.evaluate_every=100",
    ]
    return load_config(LENET, settings)


def _resnet() -> Config:
    return load_config(None, [*_RESNET, "run.evaluate_every=100"])


def measure(clients: int, rounds: int, *, large: bool) -> Raw:
    """Run both networks for some rounds and code their last updates again.

    Args:
        clients: Clients of the LeNet-5.
        rounds: Rounds, of which the first is not counted, >= 2.
        large: Whether ResNet-18 is measured too.
    """
    torch.set_num_threads(1)
    keep_memory()  # as a worker
    with tempfile.TemporaryDirectory(prefix="fedprune-speed-") as name:
        found = {"lenet": _of_network(_lenet(Path(name), clients), rounds)}
        if large:
            found["resnet"] = _of_network(_resnet(), rounds)
    walk = walk_of_an_encode()
    return {"networks": found, "files": walk.files, "returns": walk.returns}


def _of_network(config: Config, rounds: int) -> Raw:
    timed = timed_run(config, rounds)
    assert timed.sent is not None  # noqa: S101 - every round encodes
    update, side_info = timed.sent
    counted = timed.seconds[1:]
    count = len(counted) * config.rounds.cohort
    parts = {part: sum(one[part] for one in counted) / count for part in counted[0]}
    return {
        "weights": update.delta.size,
        "entries": len(update.delta.indices),
        "seconds": {part: round(value, 5) for part, value in parts.items()},
        "coded": _coded(update, side_info, config.update.values),
    }


def _coded(
    update: ClientUpdate, side_info: SideInformation, values: str
) -> Mapping[str, float]:
    """Return the bytes of a delta and the least CPU seconds of its two directions."""
    data = codec.encode_delta(update.delta, side_info)
    actions: tuple[Callable[[], object], ...] = (
        partial(codec.encode_delta, update.delta, side_info),
        partial(
            codec.decode_delta,
            data,
            side_info,
            values=values,
            max_entries=side_info.layout.size,
        ),
    )
    least = [float("inf")] * len(actions)
    for _ in range(_REPEATS):
        for place, action in enumerate(actions):
            least[place] = min(least[place], _cpu_seconds(action))
    encoded, decoded = (round(value, 6) for value in least)
    return {"bytes": len(data), "encode": encoded, "decode": decoded}


def figures(found: Found) -> list[Figure]:
    """Return the figures of all pieces."""
    raws = list(found.values())
    lenet = [raw["networks"]["lenet"] for raw in raws]
    resnet = [r["networks"]["resnet"] for r in raws if "resnet" in r["networks"]]
    made = [_share(lenet), *_speeds("LeNet-5", lenet, ("32", "39"), 400)]
    if resnet:
        made += [*_speeds("ResNet-18", resnet, ("225", "343"), 650), *_client(resnet)]
    return [*made, *_files(raws)]


def _share(raws: Sequence[Raw]) -> Figure:
    values = [coding(raw["seconds"]) / raw["seconds"][TRAIN] for raw in raws]
    mean = {
        part: 1e3 * statistics.mean(raw["seconds"][part] for raw in raws)
        for part in (ENCODE, DECODE, SELECT, TRAIN)
    }
    detail = ", ".join(f"{part} {ms:.1f} ms" for part, ms in mean.items())
    return over_pairs(
        "codec: encode + decode + selection / local epoch, mnist-lenet5",
        values,
        f"{_IMAGES} images; {detail}",
        goal="<= 0.10",
        reference="0.88",
    )


def coding(seconds: Mapping[str, float]) -> float:
    """Return the seconds of selection, encoder and decoder."""
    return seconds[SELECT] + seconds[ENCODE] + seconds[DECODE]


def beside_training(seconds: Mapping[str, float]) -> float:
    """Return the seconds of a client's round without what runs the network."""
    return seconds[CLIENT] - seconds[TRAIN] - seconds[NETWORK]


def _speeds(
    name: str, raws: Sequence[Raw], today: tuple[str, str], goal: int
) -> list[Figure]:
    return [
        over_pairs(
            f"codec: {direction} {name}",
            [_FLOAT * r["weights"] / _MEGA / r["coded"][direction] for r in raws],
            f"dense float32 in CPU time, best of {_REPEATS}; "
            f"{raws[0]['entries']} entries in {raws[0]['coded']['bytes']} B",
            unit="MB/s",
            goal=f">= {goal}",
            reference=f"{before}, numpy",
        )
        for direction, before in zip(("encode", "decode"), today, strict=True)
    ]


def _client(raws: Sequence[Raw]) -> list[Figure]:
    sent = raws[0]
    return [
        over_pairs(
            "codec: selection, ResNet-18",
            [1e3 * raw["seconds"][SELECT] for raw in raws],
            f"CPU; {sent['entries']} of {sent['weights']} entries, "
            f"{sent['coded']['bytes']} B",
            unit="ms",
            goal="<= 120",
            reference="1500",
        ),
        over_pairs(
            "codec: client round without training, ResNet-18",
            [beside_training(raw["seconds"]) for raw in raws],
            "CPU, from the message to the answer; validation and importance left out "
            f"too; training {sent['seconds'][TRAIN]:.2f} s",
            unit="s",
            goal="<= 0.4",
            reference="2.15",
        ),
    ]


def _files(raws: Sequence[Raw]) -> list[Figure]:
    last = raws[-1]
    return [
        Figure(
            name="codec: files that one encode_update enters",
            value=last["files"],
            goal="<= 16",
            reference="21, traced in the same way; 22 by a walk over the text",
            detail="as in the benchmark house",
        ),
        Figure(
            name="codec: returns of one encode_update",
            value=last["returns"],
            goal="<= 25",
            reference="88, traced in the same way; 47 by a walk over the text",
            detail="to files that it has left",
        ),
    ]


def _cpu_seconds(action: Callable[[], object]) -> float:
    started = time.process_time()
    action()
    return time.process_time() - started


def row(*, small: bool = False) -> Row:
    """Return the row."""
    clients, rounds = (1, 2) if small else (_CLIENTS, _ROUNDS)
    settings = {"clients": clients, "rounds": rounds, "large": not small}
    work = partial(measure, clients, rounds, large=not small)

    def pieces(pairs: Sequence[int]) -> list[Piece]:
        return [Piece(name=f"pair-{n}", settings=settings, work=work) for n in pairs]

    return Row(
        name="codec",
        budget="10 minutes for three pairs",
        pieces=pieces,
        figures=figures,
    )
