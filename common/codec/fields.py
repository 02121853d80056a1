"""Parts of messages: statistics, prune plans, broadcasts and settings as fields.

Each ``x_fields`` returns what ``frame.pack`` takes, and ``read_x`` takes what
``frame.unpack`` returns and trusts nothing in it.
"""

from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any

import numpy as np

from fedprune.common.codec import checks
from fedprune.common.codec.delta.quantise import VALUES
from fedprune.common.errors import PayloadError, Reason
from fedprune.common.messages import Broadcast, Statistics, TrainSettings
from fedprune.common.methods.kinds import CHOICE, IMPORTANCE, PENALTY
from fedprune.common.methods.method import Kind
from fedprune.common.methods.registry import OWN, names, parts
from fedprune.common.spec import MAX_UNITS, Mask, PrunePlan

MOMENTS = "<f4"  # of broadcasts and teachers
RUNNING = "<f4"  # running values, also in updates
OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
PRECISIONS = ("float32", "bf16")
QUANTISERS = ("none", "int8", "codebook")
MAX_FROZEN = 64  # names of modules, which a frame has room for
_STATISTICS = 3
_PLAN = 5
_MASK = 2
_BROADCAST = 4


def _whole(low: int, high: int) -> Callable[[object, str], int]:
    return lambda value, field: checks.integer(value, field, low, high)


def _real(low: float, high: float) -> Callable[[object, str], float]:
    return lambda value, field: checks.number(value, field, low, high)


def _method(kind: Kind, *, empty: bool = False) -> Callable[[object, str], str]:
    """Return a check of a method's name: registered, or the sender's own function."""

    def check(value: object, field: str) -> str:
        if empty and value == "" and type(value) is str:
            return value
        name = checks.name(value, field)
        known = tuple(one for one in names(kind) if one not in kind.others)
        own = name.startswith(OWN) and name.removeprefix(OWN).isidentifier()
        terms = parts(kind, name)
        if own or name in known or (terms and set(terms) <= set(known)):
            return name
        return checks.word(name, field, known)

    return check


def _one_of(known: tuple[str, ...]) -> Callable[[object, str], str]:
    return lambda value, field: checks.word(value, field, known)


def _modules(value: object, field: str) -> tuple[str, ...]:
    """Return names of modules: rising, each once."""
    if type(value) is tuple and len(value) > MAX_FROZEN:
        detail = f"{len(value)} names; want at most {MAX_FROZEN}"
        raise PayloadError(Reason.BAD_SIZE, field, detail)
    count = len(value) if type(value) is tuple else 0
    found = tuple(_module(one, field) for one in checks.array(value, field, count))
    if list(found) != sorted(set(found)):
        detail = "names repeat or are out of order; want them rising"
        raise PayloadError(Reason.BAD_VALUE, field, detail)
    return found


def _module(value: object, field: str) -> str:
    """Return the dotted name of a module: 1..128 printable characters."""
    if type(value) is not str:
        detail = f"{checks.shown(value)}; want a str"
        raise PayloadError(Reason.BAD_FRAME, field, detail)
    if not 1 <= len(value) <= checks.MAX_NAME or not value.isprintable():
        detail = (
            f"{checks.shown(value)}; want 1..{checks.MAX_NAME} printable characters"
        )
        raise PayloadError(Reason.BAD_VALUE, field, detail)
    return value


# Also told when clients enrol, before there is a plan.
SEED = _whole(0, 2**63 - 1)
VALIDATION = _real(0.0, checks.BELOW_ONE)

# Order on the wire, and the range of each setting.
SETTINGS: dict[str, Callable[[object, str], Any]] = {
    "epochs": _whole(0, 100_000),
    "batch": _whole(1, 2**24),
    "lr": _real(checks.POSITIVE, checks.LARGEST),
    "momentum": _real(0.0, checks.BELOW_ONE),
    "penalty": _method(PENALTY),
    "strength": _real(0.0, checks.LARGEST),
    "update_density": _real(checks.POSITIVE, 1.0),
    "choice": _method(CHOICE),
    "values": _one_of(VALUES),
    "step_error": _real(checks.POSITIVE, 1.0),
    "error_feedback": checks.boolean,
    "decay": _real(0.0, 1.0),
    "distill_weight": _real(0.0, 1.0),
    "temperature": _real(checks.POSITIVE, checks.LARGEST),
    "importance": _method(IMPORTANCE, empty=True),
    "measure": checks.boolean,
    "freeze": checks.boolean,
    "clip": _real(0.0, checks.LARGEST),
    "validation": VALIDATION,
    "score_examples": _whole(1, 2**24),
    "seed": SEED,
    # Sent only where one of them is not its default: the bytes of other plans are those
    # of plans without these settings.
    "optimizer": _one_of(OPTIMIZERS),
    "weight_decay": _real(0.0, checks.LARGEST),
    "proximal": _real(0.0, checks.LARGEST),
    "precision": _one_of(PRECISIONS),
    "frozen": _modules,
    # Sent only after a restart or a rollback, and before a quantisation.
    "since": _whole(0, checks.MAX_ROUND),
    # Sent only where it is not its default, with all others.
    "quantise": _one_of(QUANTISERS),
    "covariances": checks.boolean,
}
_REAL = {field.name for field in fields(TrainSettings) if field.type is float}
_DEFAULTS = {
    field.name: field.default
    for field in fields(TrainSettings)
    if field.default is not MISSING
}
_ALWAYS = len(SETTINGS) - len(_DEFAULTS)
# The longest that is needed is sent; each version of the program added one.
_NAMES = [*SETTINGS]
_LENGTHS = (
    _ALWAYS,
    _NAMES.index("since"),
    _NAMES.index("quantise"),
    _NAMES.index("covariances"),
    len(_NAMES),
)


def settings_fields(settings: TrainSettings) -> list[object]:
    """Return the settings in the order of the wire, without defaults at the end."""
    found = {name: getattr(settings, name) for name in SETTINGS}
    # A setting of 1 from a configuration is an int; on the wire it is a float.
    items = [float(v) if name in _REAL else v for name, v in found.items()]
    return items[: _length(settings)]


def read_settings(value: object) -> TrainSettings:
    """Return the settings, each in its range."""
    count = len(value) if type(value) is tuple else 0
    length = next((one for one in _LENGTHS if one >= count), len(SETTINGS))
    items = checks.array(value, "settings", length)
    pairs = zip(SETTINGS.items(), items, strict=False)
    found = {name: check(item, f"settings.{name}") for (name, check), item in pairs}
    settings = TrainSettings(**found)
    if length != _length(settings):
        detail = f"{len(items)} items; want {_length(settings)} where the others are"
        raise PayloadError(Reason.BAD_FRAME, "settings", f"{detail} defaults")
    return settings


def _length(settings: TrainSettings) -> int:
    """Return the shortest length behind which every setting has its default."""
    needed = [
        number
        for number, name in enumerate(SETTINGS, 1)
        if name in _DEFAULTS and getattr(settings, name) != _DEFAULTS[name]
    ]
    return next(one for one in _LENGTHS if one >= max(needed, default=0))


def statistics_fields(statistics: Statistics | None, dtype: str) -> list[object] | None:
    """Return moments as ``dtype``, "<f2" or "<f4", which the caller knows to fit.

    Running values follow as float32, where there are any: unlike moments of
    activations they may be of any magnitude.
    """
    if statistics is None:
        return None
    mean = statistics.mean.astype(dtype).tobytes()
    variance = statistics.variance.astype(dtype).tobytes()
    found: list[object] = [int(statistics.num_examples), mean, variance]
    if len(statistics.running):
        found.append(statistics.running.astype(RUNNING).tobytes())
    return found


def statistics_size(statistics: Statistics) -> int:
    """Return the bytes of moments and running values in a broadcast."""
    return 4 * (2 * len(statistics.mean) + len(statistics.running))


def read_statistics(
    value: object,
    dtype: str,
    max_examples: int,
    *,
    moments: int | None = None,
    running: int | None = None,
) -> Statistics:
    """Return moments and running values, finite, variances >= 0.

    Args:
        value: The field.
        dtype: "<f2" or "<f4", of the moments.
        max_examples: Largest number of examples accepted.
        moments: How many there must be; None = as many as there are means.
        running: How many running values there must be; None = as many as there are.
    """
    if running is None:
        running = _announced(value)
    items = checks.array(value, "statistics", _STATISTICS + (running > 0))
    if moments is None:
        moments = len(checks.blob(items[1], "statistics.mean")) // _width(dtype)
    values = items[_STATISTICS] if running else b""
    count = checks.integer(items[0], "statistics.num_examples", 1, max_examples)
    mean = checks.floats(items[1], "statistics.mean", dtype, moments)
    variance = checks.floats(items[2], "statistics.variance", dtype, moments)
    return Statistics(
        num_examples=count,
        mean=mean,
        variance=checks.at_least_zero(variance, "statistics.variance"),
        running=checks.floats(values, "statistics.running", RUNNING, running),
    )


def _announced(value: object) -> int:
    """Return how many running values there are, to be checked against the field."""
    if type(value) is not tuple or len(value) <= _STATISTICS:
        return 0
    data = checks.blob(value[_STATISTICS], "statistics.running")
    return max(len(data) // _width(RUNNING), 1)  # none is written as no field


def plan_fields(plan: PrunePlan) -> list[object]:
    """Return a prune plan as fields."""
    bits = np.packbits(plan.keep).tobytes()
    return [plan.structure, len(plan.keep), bits, plan.parent, bool(plan.rollback)]


def read_plan(value: object, field: str) -> PrunePlan:
    """Return a prune plan; whether it fits the structure is the caller's question."""
    items = checks.array(value, field, _PLAN)
    units = checks.integer(items[1], f"{field}.units", 0, MAX_UNITS)
    return PrunePlan(
        structure=checks.digest(items[0], f"{field}.structure"),
        keep=_read_keep(items[2], f"{field}.keep", units),
        parent=checks.digest(items[3], f"{field}.parent", optional=True),
        rollback=checks.boolean(items[4], f"{field}.rollback"),
    )


def mask_fields(mask: Mask | None) -> list[object] | None:
    """Return a mask over the original units as fields."""
    return None if mask is None else [len(mask), np.packbits(mask).tobytes()]


def read_mask(value: object, field: str) -> Mask | None:
    """Return a mask over units, or None."""
    if value is None:
        return None
    items = checks.array(value, field, _MASK)
    units = checks.integer(items[0], f"{field}.units", 0, MAX_UNITS)
    return _read_keep(items[1], field, units)


def broadcast_fields(broadcast: Broadcast) -> list[object]:
    """Return a broadcast as fields; its statistics travel as float32."""
    return [
        plan_fields(broadcast.plan),
        broadcast.weights,
        broadcast.digest,
        statistics_fields(broadcast.statistics, MOMENTS),
    ]


def read_broadcast(value: object, field: str) -> Broadcast:
    """Return a broadcast; its weights are still encoded."""
    items = checks.array(value, field, _BROADCAST)
    statistics = None
    if items[3] is not None:
        statistics = read_statistics(items[3], MOMENTS, checks.MAX_COUNT)
    return Broadcast(
        plan=read_plan(items[0], f"{field}.plan"),
        weights=checks.blob(items[1], f"{field}.weights"),
        digest=checks.digest(items[2], f"{field}.digest"),
        statistics=statistics,
    )


def _read_keep(value: object, field: str, units: int) -> Mask:
    data = checks.blob(value, field, (units + 7) // 8)
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8))
    if np.any(bits[units:]):
        detail = f"a bit behind the last of {units} units is set"
        raise PayloadError(Reason.BAD_VALUE, field, detail)
    return bits[:units].astype(np.bool_)


def _width(dtype: str) -> int:
    return np.dtype(dtype).itemsize
