"""The kinds of methods: key, possible inputs and return value of each.

The parameters of a method name its inputs.  The names below are all that exist; arrays
are numpy's unless torch is named, and must not be written to.
"""

from typing import Final

from fedprune.common.methods.method import Input, Kind, Side

AUTO: Final = "auto"  # value of a key: what the run starts from decides


def _form(
    *required: str, besides: tuple[str, ...] = ()
) -> tuple[frozenset[str], frozenset[str]]:
    return frozenset(required), frozenset(besides)


IMPORTANCE = Kind(
    name="importance",
    key="prune.importance",
    side=Side.SERVER,
    inputs={
        "products": Input(
            text="float64[examples, channels]: gradient of an example's loss with "
            "respect to a factor on a channel's output at 1, at one measuring point "
            "and for one batch",
            side=Side.CLIENT,
        ),
        "product_sums": Input(
            text="float64[channels]: the sum of the products over the examples of the "
            "batch; costs one backward wherever the channels are",
            side=Side.CLIENT,
        ),
        "activations": Input(
            text="float32[examples, channels, positions]: outputs at that measuring "
            "point for that batch",
            side=Side.CLIENT,
        ),
        "loss_changes": Input(
            text="float64[channels]: measured rise of the mean loss when a channel is "
            "set to zero; all channels at once, without products and activations",
            side=Side.CLIENT,
        ),
        "weights": Input(
            text="ChannelWeights: the weights that produce and scale these channels; "
            "alone, those of a whole pruning group"
        ),
        "draws": Input(text="float64[channels]: uniform in [0, 1), new in each round"),
    },
    returns="float64[channels], >= 0, greater = keep; those of batches and of "
    "measuring points are added",
    forms=(
        _form("products", besides=("activations", "weights", "draws")),
        _form("product_sums", besides=("activations", "weights", "draws")),
        _form("activations", besides=("weights", "draws")),
        _form("loss_changes", besides=("weights", "draws")),
        _form("weights", besides=("draws",)),
        _form("draws"),
    ),
)

PENALTY = Kind(
    name="penalty",
    key="client.penalty",
    side=Side.CLIENT,
    optional=True,
    others={AUTO: "bn-l1+group from fresh weights, none from pretrained ones"},
    sums=True,
    once=frozenset(["uniform"]),
    inputs={
        "channels": Input(
            text="torch float64[channels]: root mean square of a channel: of its "
            "scales and shifts with batch norm, else of all its weights"
        ),
        "scales": Input(
            text="torch float64[channels]: root mean square of a channel's batch-norm "
            "scales; without batch norm the penalty does nothing"
        ),
        "entries": Input(text="torch float32[...]: magnitudes of a matrix's entries"),
        "threshold": Input(
            text="torch float64[channels] or float: amount that this step takes off a "
            "magnitude, in the unit of the weights, >= 0"
        ),
        "uniform": Input(
            text="torch float32[channels]: uniform in [0, 1), drawn for each step"
        ),
        "strength": Input(text="float: client.strength, > 0"),
        "log_alpha": Input(
            text="torch float32[channels]: location of a hard-concrete gate, trained"
        ),
    },
    returns="torch, as the first of its inputs: factor on each channel or entry, 0..1",
    forms=(
        _form("channels", "threshold"),
        _form("scales", "threshold"),
        _form("entries", "threshold"),
        _form("uniform", besides=("strength", "log_alpha")),
    ),
)

CONSENSUS = Kind(
    name="consensus",
    key="prune.consensus",
    side=Side.SERVER,
    inputs={
        "scores": Input(
            text="float64[clients, channels], >= 0, each row of sum 1: importance as "
            "each client scored it, clients by id"
        ),
        "num_examples": Input(text="float64[clients]: examples of each client, >= 1"),
    },
    returns="float64[channels]: one importance",
)

AGGREGATION = Kind(
    name="aggregation",
    key="robust.aggregate",
    side=Side.SERVER,
    inputs={
        "total": Input(
            text="Accumulator: weighted sum of the deltas in fixed point; for a rule "
            "without other inputs they are added on arrival"
        ),
        "deltas": Input(
            text="float32[clients, weights]: the delta of each client, clipped, zero "
            "where nothing was sent, clients by id"
        ),
        "sent": Input(text="bool[clients, weights]: True = this entry was sent"),
        "num_examples": Input(text="float64[clients]: weight of each client, >= 1"),
        "hostile": Input(
            text="int: clients that may be hostile, robust.hostile of these, >= 0"
        ),
    },
    returns="float32[weights]: one delta",
    forms=(
        _form("total"),
        _form("deltas", besides=("sent", "num_examples", "hostile")),
    ),
)

SCHEDULE = Kind(
    name="schedule",
    key="prune.schedule",
    side=Side.SERVER,
    inputs={
        "progress": Input(text="float: share of the cuts or mask steps done, 0..1"),
        "end": Input(text="float: density at the end, 0 < end <= 1"),
        "power": Input(text="float: prune.power, > 0"),
    },
    returns="float: density, 1 at progress 0 and end at progress 1, never rising",
)

RATE_SCHEDULE = Kind(
    name="rate schedule",
    key="client.lr_schedule",
    side=Side.SERVER,
    inputs={
        "progress": Input(text="float: share of the rounds done, 0..1"),
        "start": Input(text="float: learning rate at progress 0, > 0"),
    },
    returns="float: learning rate, > 0",
)

CHOICE = Kind(
    name="choice",
    key="update.choice",
    side=Side.CLIENT,
    inputs={
        "total": Input(text="float32[weights]: delta and residual, finite"),
        "count": Input(text="int: most entries that may be sent, >= 0"),
        "layout": Input(text="Layout: rows and columns of the network's tensors"),
        "value_bits": Input(text="float: approximate bits of a value on the wire, > 0"),
        "common": Input(
            text="float64[weights]: uniform in [0, 1), new in each round and the same "
            "for every client; a choice by these alone is known to the server, and its "
            "positions do not travel"
        ),
    },
    returns="bool[weights]: entries to send, at most count; zeros are left out",
    forms=(
        _form("total", besides=("count", "layout", "value_bits")),
        _form("common", besides=("count",)),
    ),
)

NATURAL = "natural"  # partition: the clients that the data name; no method deals

PARTITION = Kind(
    name="partition",
    key="task.partition.kind",
    side=Side.SERVER,
    others={NATURAL: "the clients that the data name"},
    inputs={
        "targets": Input(
            text="int64[n] classes (of several labels the first, of positions the most "
            "frequent), or float32[n, ...] values"
        ),
        "clients": Input(text="int: number of clients, 1 <= clients <= n"),
        "rng": Input(text="numpy Generator, keyed by run.seed"),
        "alpha": Input(text="float: task.partition.alpha, > 0"),
        "classes": Input(text="int: task.partition.classes, >= 1"),
    },
    returns="a list with int64[k] for each client: each example at exactly one client",
)

MASK = Kind(
    name="mask",
    key="prune.mask.kind",
    side=Side.SERVER,
    optional=True,
    inputs={
        "matrix": Input(
            text="float64[outputs, inputs, ...]: a weight; masked entries are 0"
        ),
        "kept": Input(text="bool[outputs, inputs, ...]: entries not masked so far"),
        "n": Input(text="int: prune.mask.n, 1 <= n < m"),
        "m": Input(text="int: prune.mask.m"),
        "block": Input(text="int: prune.mask.block, rows and columns of a block"),
    },
    returns="float64 of the same shape: rank of each entry, the greatest stay, over "
    "all matrices together; or bool: True = stays, without regard to "
    "prune.mask.density",
)

ATTACK = Kind(
    name="attack",
    key="attack.kind",
    side=Side.CLIENT,
    optional=True,
    inputs={
        "answer": Input(
            text="Answer (fedprune.common.methods.forged): the honest answer of this "
            "client; a delta is sent as honest ones are: sparse and quantised"
        ),
        "seen": Input(
            text="float32[clients, weights]: honest deltas of this round that it "
            "knows, clients by id: its own and those of other hostile clients, or of "
            "all with attack.omniscient"
        ),
        "last": Input(
            text="float32[weights]: delta that it sent in its last round, or zeros"
        ),
        "groups": Input(
            text="int32[kept units]: number of the pruning group of each score"
        ),
        "inputs": Input(
            text="uint8, float32 or int64 [n, ...]: inputs of its training examples"
        ),
        "targets": Input(text="int64[n]: their classes"),
        "classes": Input(text="int: number of classes"),
        "target": Input(text="int: attack.target, 0 <= target < classes"),
        "scale": Input(text="float: attack.scale, >= 0; 0 = as the attack likes"),
        "most": Input(text="int: largest number of examples that a message may claim"),
        "finetune": Input(text="bool: whether the round follows a cut"),
        "rng": Input(text="numpy Generator, keyed by seed, round and client"),
    },
    returns="Answer, with what is false in it; or the inputs and targets to train on, "
    "of the same types and number",
    forms=(
        _form(
            "answer",
            besides=("seen", "last", "groups", "scale", "most", "finetune", "rng"),
        ),
        _form("inputs", "targets", besides=("classes", "target", "rng")),
    ),
)

KINDS = (
    IMPORTANCE,
    PENALTY,
    CONSENSUS,
    AGGREGATION,
    SCHEDULE,
    RATE_SCHEDULE,
    CHOICE,
    PARTITION,
    MASK,
    ATTACK,
)
