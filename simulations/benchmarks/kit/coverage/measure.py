"""Measurement of one network, in a process of its own."""

import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

import torch
from torch import nn

from fedprune.common.errors import StructureError
from fedprune.common.pruning.cost import shares
from fedprune.common.pruning.verify import check_exact
from fedprune.common.structure.structure import Structure
from fedprune.common.structure.tracing.find import examine
from fedprune.common.text import first_line
from fedprune.simulations.benchmarks.kit.coverage.brute import removable_channel
from fedprune.simulations.benchmarks.kit.coverage.exact import (
    second_cut,
    train_step,
    verify,
)
from fedprune.simulations.benchmarks.kit.coverage.graphs import has_export, has_fx
from fedprune.simulations.benchmarks.kit.coverage.nets.entry import Entry
from fedprune.simulations.benchmarks.kit.coverage.nets.listing import all_entries
from fedprune.simulations.benchmarks.kit.coverage.onnx import export
from fedprune.simulations.benchmarks.kit.coverage.rival import cut_by_rival
from fedprune.simulations.benchmarks.kit.coverage.row import (
    ABSENT,
    BREAKS,
    CRASHED,
    EXACT,
    GUARDED,
    NOTHING,
    REFUSED,
    WRONG,
)
from fedprune.simulations.benchmarks.kit.coverage.row import (
    LIMIT as OVER,
)
from fedprune.simulations.benchmarks.kit.coverage.trial import (
    LIMIT,
    arguments,
    outputs,
    quiet,
)

# Steps beside the structure and its verification.
BRUTE, ONNX, RIVAL = "brute", "onnx", "rival"
STEPS = (BRUTE, ONNX, RIVAL)
_RIVAL_S = 30  # it does not end on some networks
Send = Callable[[dict[str, object]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A network of the list, and the steps to measure of it.

    Attributes:
        key: Its name in the list.
        steps: Steps of ``STEPS``.
        memory: Limit of the address space in bytes.
    """

    key: str
    steps: Sequence[str] = STEPS
    memory: int = 16 << 30


def measure_and_send(request: Request, connection: Connection) -> None:
    """Measure one network, and send parts of its row as they are known."""
    import resource  # noqa: PLC0415 - Unix only

    resource.setrlimit(resource.RLIMIT_AS, (request.memory, request.memory))
    torch.set_num_threads(1)
    _silence()
    with quiet():
        try:
            measure(all_entries()[request.key], request.steps, connection.send)
        except Exception as error:
            # The verification itself fails: the network does not run in float64.
            connection.send({"outcome": BREAKS, "detail": first_line(error, kind=True)})
    connection.close()


def _silence() -> None:
    """Send what foreign code prints to nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)


def measure(entry: Entry, steps: Sequence[str], send: Send) -> None:
    """Measure one network.

    Args:
        entry: The network.
        steps: Steps of ``STEPS``.
        send: Takes parts of its row; the last part may be missing in a process that
            was killed.
    """
    try:
        network = entry.build()
        outputs(network, arguments(entry.inputs(1)))
    except Exception as error:  # foreign code, missing libraries
        send({"outcome": ABSENT, "detail": first_line(error, kind=True)})
        return
    structure = _structure(network, entry, send)
    if structure is None:
        send({"fx": has_fx(network)})
        send({"export": has_export(network, entry.inputs(1))})
        if BRUTE in steps:
            found = removable_channel(network, entry.inputs)
            send({"removable": str(found), "undecided": not found.finished})
    elif ONNX in steps:
        file = export(network, structure, entry.inputs)
        send({"onnx": None if file.error else min(file.difference, 1.0)})
        send({"onnx_error": file.error})
    if RIVAL in steps:
        try:
            with ended_after(_RIVAL_S):
                outcome, detail = cut_by_rival(network, entry.inputs)
        except TimeoutError:
            outcome, detail = OVER, f"ended after {_RIVAL_S} s"
        send({"rival": outcome, "rival_detail": detail})
    send({"seconds": time.process_time()})


def _structure(network: nn.Module, entry: Entry, send: Send) -> Structure | None:
    """Return the structure of a network that has units, exact or not."""
    started = time.process_time()
    try:
        findings = examine(network, entry.inputs(1))
    except StructureError as error:
        send({"outcome": REFUSED, "detail": str(error)})
        return None
    except Exception as error:  # a crash is a result of this benchmark
        send({"outcome": CRASHED, "detail": first_line(error, kind=True)})
        return None
    structure = findings.structure
    send(
        {
            "structure_s": time.process_time() - started,
            "units": structure.units,
            "groups": len(structure.groups),
            "notes": len(findings.notes),
        }
    )
    if not structure.units:
        send({"outcome": NOTHING, "detail": "; ".join(findings.notes)})
        return None
    send({"flops": _smallest(structure)})
    send(_verdict(network, structure, entry))
    return structure


def _verdict(
    network: nn.Module, structure: Structure, entry: Entry
) -> dict[str, object]:
    """Return the outcome of the verification of a structure with units."""
    found = verify(network, structure, entry.inputs)
    numbers = {
        "difference": min(found.difference, 1.0) if found.difference >= 0 else 1.0,
        "change": min(found.change, 1.0),
    }
    if found.error:
        return {"outcome": BREAKS, "detail": found.error, **numbers}
    if not found.difference <= LIMIT:
        text = (
            "the masked network is not finite" if math.isnan(found.difference) else ""
        )
        return {"outcome": WRONG, "detail": text, **numbers}
    error = train_step(network, structure, entry.inputs)
    error = error or second_cut(network, structure)
    if error:
        return {"outcome": BREAKS, "detail": error, **numbers}
    try:
        check_exact(network, structure, entry.inputs(1))
    except Exception as failure:  # a crash is a result of this benchmark
        detail = first_line(failure, kind=True)
        return {"outcome": GUARDED, "detail": detail, **numbers}
    return {"outcome": EXACT, **numbers}


def _smallest(structure: Structure) -> float:
    """Return the share of FLOPs left with one unit in each group."""
    keep = structure.full()
    for group in structure.groups:
        keep[group.units[1:]] = False
    return shares(structure, keep)["flops"]


@contextmanager
def ended_after(seconds: int) -> Iterator[None]:
    """Raise TimeoutError when the inner code takes more CPU time."""

    def end(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
