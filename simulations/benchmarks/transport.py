"""Bytes and seconds of a round over TLS, against Flower's own FedAvg, with ResNet-18.

``python -m fedprune.simulations.benchmarks.transport``.  Three devices
on the loopback, digits, one local epoch; the same network, data and local training.
Both are measured over the rounds after the first, in which all devices load.
"""

import json
import statistics
import sys
import tempfile
from pathlib import Path

from fedprune.common.errors import FedPruneError
from fedprune.server.runs.events import (
    ClientAnswered,
    RoundFinished,
    of_run,
    read_events,
)
from fedprune.simulations.benchmarks.kit.fleet import Fleet
from fedprune.simulations.benchmarks.kit.harness import Figure, benchmark
from fedprune.simulations.benchmarks.kit.stock import Stock

CLIENTS = 3
ROUNDS = 3
CONFIG = """\
[task]
model = "resnet18"
clients = 3
[rounds]
warmup = 3
cuts = 0
final = 0
cohort = 3
minimum = 3
[client]
epochs = 1
[update]
update_density = 0.05
"""
_APP = Path(__file__).with_name("stock_app")
_LIMIT_S = 1800.0  # a busy machine takes several times as long as an idle one


def measure() -> list[Figure]:
    """Run FedPrune, FedAvg, FedPrune again: load on the machine affects both."""
    with tempfile.TemporaryDirectory(
        prefix="fedprune-transport-", ignore_cleanup_errors=True
    ) as name:
        folder = Path(name)
        config = folder / "fedprune.toml"
        config.write_text(CONFIG, encoding="utf-8")
        before = _ours(folder / "before", config)
        stock = _stock(folder / "stock", config)
        after = _ours(folder / "after", config)
    ours = {name: (before[name] + after[name]) / 2 for name in before}
    return [
        Figure(
            name="bytes up per answer, FedAvg / FedPrune",
            value=stock["up"] / ours["up"],
            goal=">= 40",
            reference="Flower FedAvg",
            detail=f"{stock['up'] / 1e6:.2f} MB, {ours['up'] / 1e6:.3f} MB; "
            "update density 0.05",
        ),
        Figure(
            name="bytes down per message, FedAvg / FedPrune",
            value=stock["down"] / ours["down"],
            reference="Flower FedAvg",
            detail=f"{stock['down'] / 1e6:.2f} MB, {ours['down'] / 1e6:.2f} MB",
        ),
        Figure(
            name="length of a round, FedAvg / FedPrune",
            value=stock["seconds"] / ours["seconds"],
            goal=">= 2.5",
            reference="Flower FedAvg",
            detail=f"{stock['seconds']:.1f} s; {before['seconds']:.1f} s before it, "
            f"{after['seconds']:.1f} s after it",
        ),
        Figure(
            name="training of a client in a FedAvg round",
            value=stock["training"],
            unit="s",
            detail=f"FedPrune's clients: {ours['client']:.1f} s to decode, train, "
            "measure and encode",
        ),
        Figure(
            name="bytes up of the whole run as the transport counts, FedAvg / FedPrune",
            value=stock["all up"] / ours["all up"],
            reference="Flower FedAvg",
            detail=f"{stock['all up'] / 1e6:.1f} MB in {ROUNDS} rounds, "
            f"{ours['all up'] / 1e6:.2f} MB in {ROUNDS} and a closing one",
        ),
    ]


def _ours(folder: Path, config: Path) -> dict[str, float]:
    folder.mkdir()
    sources = ["digits"] * CLIENTS
    with Fleet(folder=folder, config=config, sources=sources, shares=True) as fleet:
        summary = fleet.run(_LIMIT_S, lambda _: None)
    (run,) = (folder / "runs").iterdir()
    events = read_events(run / "events.jsonl")
    # The closing round trains nothing.
    rounds = [e for e in of_run(events, RoundFinished) if 1 < e.round <= ROUNDS]
    answers = [e for e in of_run(events, ClientAnswered) if e.round <= ROUNDS]
    said = [
        float(line.split(" in ")[1].split()[0])
        for line in (folder / "client-000.out").read_text("utf-8").splitlines()
        if line.startswith("round") and " in " in line
    ]
    if summary["failed"]:  # a failed client sent nothing, so the means would be too low
        msg = f"{summary['failed']} answers of clients are missing; see {run}"
        raise FedPruneError(msg)
    return {
        "up": statistics.mean(event.bytes_up for event in answers),
        "down": statistics.mean(event.bytes_down for event in answers),
        "seconds": statistics.mean(event.seconds for event in rounds),
        "all up": float(str(summary["transport_bytes_up"])),
        "client": statistics.mean(said[1:ROUNDS]),
    }


def _stock(folder: Path, config: Path) -> dict[str, float]:
    """Run Flower's FedAvg on Flower's own processes."""
    folder.mkdir()
    times = folder / "times.json"
    with Stock(folder, CLIENTS) as stock:
        given = f'config="{config}" times="{times}" rounds={ROUNDS}'
        up, down = stock.run(_APP, given, times, _LIMIT_S)
    measured = json.loads(times.read_text("utf-8"))
    messages = ROUNDS * CLIENTS
    return {
        "up": up / messages,
        "down": down / messages,
        "all up": up,
        "seconds": statistics.mean(measured["rounds"][1:]),
        "training": statistics.mean(measured["training"][1:]),
    }


main = benchmark("transport", measure)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
