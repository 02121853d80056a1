"""Result of one network, one line of JSON in the file of results."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from fedprune.common.errors import IntegrityError

# Outcomes.
EXACT = "exact"  # cut, and equal to the masked network wherever it was tried
WRONG = "wrong"  # a structure is offered, and a mask gives another function
BREAKS = "breaks"  # a cut network fails, does not train, or cannot be cut again
GUARDED = "guarded"  # exact, but the check before a run refuses the structure
NOTHING = "nothing"  # a structure without a unit
REFUSED = "refused"  # StructureError
CRASHED = "crashed"  # another exception
LIMIT = "limit"  # time or memory
ABSENT = "absent"  # the network itself does not run here

_ROOT = Path(__file__).resolve().parents[4]
_CODE = (
    *("common/structure", "common/pruning"),
    "simulations/benchmarks/kit/coverage/nets",
)

# Of torch-pruning: those above, or
INEXACT = "inexact"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Result of one network.

    Attributes:
        key: Its name in the list.
        outcome: One of the outcomes of this module.
        code: Name of the code that was measured (``code_name``).
        detail: Message of a refusal or a failure; empty for an exact cut.
        units: Units of the structure, >= 0.
        groups: Groups of the structure, >= 0.
        notes: Notes on channels that are not cut, >= 0.
        structure_s: CPU seconds of the structure.
        flops: Share of FLOPs left with one unit in each group, in [0, 1].
        difference: Largest relative difference of masked and cut network, float64.
        change: Smallest relative change of the output by a mask; near 0, the
            comparison sees nothing.
        fx: Whether torch.fx gives a graph, None where it was not tried.
        export: Whether torch.export gives a graph, None where it was not tried.
        removable: A channel that can be removed exactly, found by brute force; empty
            where none was found, None where it was not tried.
        undecided: Whether brute force stopped before all channels were tried.
        onnx: Relative difference of onnxruntime at another batch size, None where it
            was not tried.
        onnx_error: Message of a failed export.
        rival: Outcome of torch-pruning, empty where it was not tried.
        rival_detail: Message of its failure.
        seconds: CPU seconds of all of this.
    """

    key: str
    outcome: str
    code: str = ""
    detail: str = ""
    units: int = 0
    groups: int = 0
    notes: int = 0
    structure_s: float = 0.0
    flops: float = 1.0
    difference: float = 0.0
    change: float = 0.0
    fx: bool | None = None
    export: bool | None = None
    removable: str | None = None
    undecided: bool = False
    onnx: float | None = None
    onnx_error: str = ""
    rival: str = ""
    rival_detail: str = ""
    seconds: float = 0.0

    @property
    def origin(self) -> str:
        """Set of the list that the network is from."""
        return self.key.partition("/")[0]

    @property
    def counts(self) -> bool:
        """True if the network is in the denominator of the coverage.

        Left out are networks without a graph by torch.fx and by torch.export, and
        those of which brute force tried every channel and found none to remove.
        """
        if self.outcome in {EXACT, WRONG, BREAKS, GUARDED}:
            return True
        if self.outcome == ABSENT or (self.fx is False and self.export is False):
            return False
        return self.removable != "" or self.undecided


def code_name() -> str:
    """Return the name of the engine and of the list: a digest of their files."""
    found = sha256()
    for folder in _CODE:
        for path in sorted((_ROOT / folder).rglob("*.py")):
            found.update(path.read_bytes())
    return found.hexdigest()[:12]


def read_rows(path: Path) -> dict[str, Row]:
    """Return the results of a file by key; of two of one network the later one.

    Raises:
        IntegrityError: If a line is not a result.
    """
    found: dict[str, Row] = {}
    if not path.is_file():
        return found
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        try:
            row = Row(**json.loads(line))
        except (TypeError, ValueError) as error:
            msg = f"{path}, line {number}: not a result of the coverage: {error}"
            raise IntegrityError(msg) from error
        found[row.key] = row
    return found


def append_row(path: Path, row: Row) -> None:
    """Add a result to the end of a file; the file is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(row), allow_nan=False) + "\n")


def as_row(key: str, found: Mapping[str, object]) -> Row:
    """Return the result of what a measuring process has sent."""
    return Row(key=key, **found)  # type: ignore[arg-type]
