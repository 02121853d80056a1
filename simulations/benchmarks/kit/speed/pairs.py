"""Systems that take turns, round by round, and the ratios of what they have spent."""

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from fedprune.common.errors import ConfigError
from fedprune.simulations.benchmarks.kit.harness import Figure
from fedprune.simulations.benchmarks.kit.rows import Raw
from fedprune.simulations.benchmarks.kit.science.rows import Found
from fedprune.simulations.benchmarks.kit.speed.figures import over_pairs
from fedprune.simulations.benchmarks.kit.speed.opponent import Opponent, Spent
from fedprune.simulations.benchmarks.kit.speed.work import Work

PFL, PFL_PYTHON = "pfl_script", Path("build/pfl/bin/python")
_MEANS = ("cpu", "wall", "others")
_SYSTEMS = "fedprune.simulations.benchmarks.kit.speed.systems"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the systems of a comparison.

    Attributes:
        name: Its name, unique in the comparison.
        module: Module in ``kit/speed/systems``.
        work: Its workload.
        mode: Second argument of the module, or "".
    """

    name: str
    module: str
    work: Work
    mode: str = ""


def ours(work: Work, name: str = "ours") -> Side:
    """Return FedPrune with everything on."""
    return Side(name=name, module="ours", work=work, mode="on")


def dense(work: Work) -> Side:
    """Return FedPrune in dense mode."""
    return Side(name="dense", module="ours", work=work, mode="dense")


def flower(work: Work) -> Side:
    """Return stock Flower FedAvg on its Ray engine."""
    return Side(name="flower", module="flower", work=work)


def floor(work: Work) -> Side:
    """Return the torch floor."""
    return Side(name="floor", module="floor", work=work)


def pfl(work: Work) -> Side:
    """Return pfl-research, where ``make rival-pfl`` has installed it."""
    return Side(name="pfl", module=PFL, work=work)


def measure_pair(sides: Sequence[Side], rounds: int) -> Raw:
    """Let systems run one warm-up round each, then rounds in turns.

    All stay alive meanwhile; those that wait do nothing but what their engines do at
    rest, which is not counted.

    Args:
        sides: The systems.
        rounds: Rounds of each: a whole cycle of the schedule.
    """
    with ExitStack() as stack:
        name = stack.enter_context(
            tempfile.TemporaryDirectory(
                prefix="fedprune-speed-", ignore_cleanup_errors=True
            )
        )
        opponents: list[Opponent] = []
        warm: dict[str, object] = {}
        for side in sides:  # one after another: starts do not slow each other down
            one = stack.enter_context(_started(side, Path(name) / side.name))
            warm[side.name] = one.first().to_json()
            opponents.append(one)
        return {"warm": warm, **take_turns(opponents, rounds)}


def take_turns(opponents: Sequence[Opponent], rounds: int) -> Raw:
    """Return what each system has spent in each of its turns after the first.

    Args:
        opponents: The systems, which wait after their first turn.
        rounds: Turns of each.
    """
    spent: dict[str, list[Spent]] = {one.name: [] for one in opponents}
    for _ in range(rounds):
        for one in opponents:
            spent[one.name].append(one.turn())
    turns = {k: [each.to_json() for each in found] for k, found in spent.items()}
    total = sum(one.cpu for one in opponents)
    return {"cpu_seconds": round(total, 2), "turns": turns}


def ratios(found: Found, over: str, under: str) -> list[float]:
    """Return, for each pair, the quotient of two systems' CPU seconds of all turns."""
    return [_sum(raw, over) / _sum(raw, under) for raw in _with(found, over, under)]


def ratio_figure(
    row: str, found: Found, over: str, under: str, goal: str, today: str = ""
) -> list[Figure]:
    """Return the figure of a quotient, if a pair has both systems."""
    values = ratios(found, over, under)
    if not values:
        return []
    pairs = _with(found, over, under)
    name, note = f"{row}: CPU, {over} / {under}", _says(pairs, over)
    note += f"; {_says(pairs, under)}"
    return [over_pairs(name, values, note, goal=goal, reference=today)]


def cpu_of(raw: Raw, name: str) -> float:
    """Return the mean CPU seconds of a turn of one system."""
    turns = raw["turns"][name]
    return _sum(raw, name) / len(turns)


def _says(pairs: Sequence[Raw], name: str) -> str:
    """Return CPU and wall seconds of a round of one system, and who disturbed it."""
    turns = [turn for raw in pairs for turn in raw["turns"][name]]
    means = [statistics.mean(turn[key] for turn in turns) for key in _MEANS]
    cpu, wall, others = means
    return f"{name} {cpu:.2f} CPU s, {wall:.2f} s wall, others {100 * others:.0f} %"


def _sum(raw: Raw, name: str) -> float:
    return float(sum(turn["cpu"] for turn in raw["turns"][name]))


def _with(found: Found, *names: str) -> list[Raw]:
    """Return the pairs in which all of some systems took part."""
    return [raw for raw in found.values() if set(names) <= set(raw.get("turns", ()))]


def _started(side: Side, folder: Path) -> Opponent:
    side.work.write(folder)
    log = folder / "log"
    if side.module == PFL:
        side.work.write_raw(folder)
        script = str(Path(__file__).parent / "systems" / f"{PFL}.py")
        return Opponent(side.name, script, (str(folder),), log, _pfl_python())
    words = (str(folder), side.mode) if side.mode else (str(folder),)
    module = f"{_SYSTEMS}.{side.module}"
    return Opponent(side.name, module, words, log)


def _pfl_python() -> Path:
    if not PFL_PYTHON.is_file():
        msg = f"{PFL_PYTHON} is not there; make rival-pfl installs it"
        raise ConfigError(msg)
    return PFL_PYTHON.absolute()


def settings_of(sides: Sequence[Side], rounds: int) -> Mapping[str, object]:
    """Return what the result of a pair depends on."""
    systems = {side.name: {**side.work.to_json(), "mode": side.mode} for side in sides}
    return {"rounds": rounds, "systems": systems}
