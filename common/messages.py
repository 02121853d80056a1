"""Messages as values: data between server and client, and between modules.

Everything here is a frozen dataclass of plain values and numpy arrays; no torch,
no Flower.  Arrays are C-contiguous, and a receiver does not write to them.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fedprune.common.spec import Indices, Mask, PrunePlan, Vector, WeightMask, digest_of


class Phase(StrEnum):
    """The phase of a run that a round belongs to."""

    WARMUP = "warmup"
    SPARSIFY = "sparsify"
    FINETUNE = "finetune"


_ROUNDING = 1e-6  # of the mean of equal float32


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """State of a network that no gradient trains, in model order.

    Batch-norm moments are measured; running values, the other buffers of floats that
    training changes, are those after training.  Either part may be empty: it was not
    asked for, or is still that of a fresh network.

    Attributes:
        num_examples: Examples behind them; 0 < num_examples.
        mean: Channel means, float32[moments].
        variance: Channel variances (biased), float32[moments], >= 0.
        running: Running values, float32[running_size].
    """

    num_examples: int
    mean: Vector
    variance: Vector
    running: Vector = field(default_factory=lambda: np.zeros(0, dtype=np.float32))

    @property
    def measured(self) -> bool:
        """True where there are batch-norm moments."""
        return len(self.mean) > 0

    @property
    def constant(self) -> Mask:
        """Channels of one value, up to the rounding of float32, bool[moments]."""
        found: Mask = self.variance <= np.square(_ROUNDING * self.mean)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """Loss and headline metric of the broadcast on a client's own validation part.

    Attributes:
        loss_sum: Sum of the losses of the examples, finite, >= 0.
        metric_sum: Sum of the headline metric of the examples, such as 1.0 for each
            that is classified correctly; finite.
        count: Number of examples, >= 0.
    """

    loss_sum: float
    metric_sum: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Covariances:
    """Channels that layers read, over a client's examples and all positions.

    In the order of ``fedprune.common.pruning.reconstruction.inputs.places``.

    Attributes:
        mean: Mean of each channel, float32[channels].
        deviation: Standard deviation, float32[channels], >= 0; 0 for all channels of
            an input that was not measured.
        correlation: Correlation of each pair of channels of one input,
            float32[pairs], -1..1.
    """

    mean: Vector
    deviation: Vector
    correlation: Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """Settings of local training in one round; part of every plan.

    Attributes:
        epochs: Passes over the client's training part, >= 0; 0 = measure only.
        batch: Examples of one local step, >= 1.
        lr: Learning rate, > 0.
        momentum: Momentum of SGD and RMSprop, beta1 of Adam and AdamW,
            0 <= momentum < 1; fresh in every round.
        penalty: Name of the penalty (``fedprune.common.methods``), "a+b" for several,
            "none", or "own:function" for one of the sender's own.
        strength: Share of a group's median channel that one round takes away, >= 0;
            0 = no penalty.
        update_density: Share of entries sent, 0 < update_density <= 1.
        choice: Name of the choice of entries, or "own:function".
        values: How values travel: "int8", "float32" or "step" (``codec.VALUES``).
        step_error: Share of a tensor's energy that "step" may lose,
            0 < step_error <= 1.
        error_feedback: Whether the residual is added to the next delta.
        decay: Factor on the residual for each missed round, 0 <= decay <= 1.
        distill_weight: Weight of the teacher in the loss, 0 <= weight <= 1.
        temperature: Temperature of the distillation, > 0.
        importance: Name of the criterion that clients score by, "own:function", or
            "" when the server needs no scores.
        measure: Whether batch-norm moments of the broadcast are sent back.
        freeze: Whether batch norm runs on the broadcast's statistics while training.
        clip: Largest L2 norm of a gradient, >= 0; 0 = not clipped.
        validation: Share of the client's data that is kept for validation of the
            broadcast, 0 <= validation < 1.
        score_examples: Most training examples that importance is measured on, >= 1.
        seed: Seed of the run's random streams, 0 <= seed < 2**63.
        optimizer: "sgd", "adam", "adamw" or "rmsprop", fresh in every round.
        weight_decay: Weight decay, >= 0: decoupled for "adamw", else L2.
        proximal: mu of FedProx's proximal term, >= 0; 0 = none.
        precision: Precision of forward and loss in a step: "float32" or "bf16".
        frozen: Names of the modules that are not trained, rising, at most 64.
        since: Residuals of this round and of earlier ones are dropped: at its end
            weights were drawn anew, or a cut was undone; >= 0, 0 = none.
        quantise: What the network is trained for: "none", "int8" or "codebook"; for
            "int8" the broadcast itself is the teacher, where one has weight.
        covariances: Whether clients that score tell the covariances of what layers
            read.
    """

    epochs: int
    batch: int
    lr: float
    momentum: float
    penalty: str
    strength: float
    update_density: float
    choice: str
    values: str
    step_error: float
    error_feedback: bool
    decay: float
    distill_weight: float
    temperature: float
    importance: str
    measure: bool
    freeze: bool
    clip: float
    validation: float
    score_examples: int
    seed: int
    optimizer: str = "sgd"
    weight_decay: float = 0.0
    proximal: float = 0.0
    precision: str = "float32"
    frozen: tuple[str, ...] = ()
    since: int = 0
    quantise: str = "none"
    covariances: bool = False

    @property
    def density_sent(self) -> float:
        """Largest share of entries of an answer: 0 where nothing is trained."""
        return self.update_density if self.epochs else 0.0


@dataclass(frozen=True, kw_only=True)
class GridWeights:
    """Weights on a quantisation grid: level times step (``codec/grid/format.py``).

    Attributes:
        codes: Step of each row of the model spec as an octave, uint8[rows], 0..63;
            0 for a row of zeros.
        levels: int16[size], -16383..16383.
    """

    codes: NDArray[np.uint8]
    levels: NDArray[np.int16]

    @cached_property
    def name(self) -> bytes:
        """Digest of codes and levels: identifies the base of a change."""
        return digest_of(self.codes.tobytes(), self.levels.astype("<i2").tobytes())


@dataclass(frozen=True, slots=True, kw_only=True)
class Broadcast:
    """Encoded weights of one plan: the current network, or a teacher.

    Attributes:
        plan: The plan that they belong to.
        weights: Encoded weights: whole (``codec.decode_weights``), or the change
            since an earlier broadcast (``codec.decode_change``).
        digest: Digest of the DECODED weights.
        statistics: Moments and running values that belong to them, or None.
    """

    plan: PrunePlan
    weights: bytes
    digest: bytes
    statistics: Statistics | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundPlan:
    """The plan of one round for a client: one message down.

    Attributes:
        run_id: Name of the run.
        round: Number of the round, from 1.
        phase: Phase of the round.
        client_id: The client that is asked.
        acknowledged: The last round in which this client's answer was accepted, 0
            for none.
        settings: Settings of local training.
        structure: Digest of the structure of the original network.
        structure_json: The structure itself, or empty when the client has stored it.
        broadcast: The current network.
        targets: bool[units], the channels that the penalty shrinks; None = all.
        mask: Digest of the weight mask that the broadcast is under, or empty.
        weight_mask: That mask, or None when the client has stored it.
        teacher: Digest of the teacher's decoded weights, or empty for none.
        teacher_broadcast: The teacher, or None when the client has stored it.
        teacher_statistics: Pooled batch-norm moments of the teacher's own weights, or
            None without batch norm: they were measured after it was first sent.
        keep_broadcast: Whether this broadcast will be the next teacher, so that the
            client stores it.
    """

    run_id: str
    round: int
    phase: Phase
    client_id: str
    acknowledged: int
    settings: TrainSettings
    structure: bytes
    structure_json: bytes
    broadcast: Broadcast
    teacher: bytes
    teacher_broadcast: Broadcast | None
    keep_broadcast: bool
    targets: Mask | None = None
    mask: bytes = b""
    weight_mask: WeightMask | None = None
    teacher_statistics: Statistics | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseDelta:
    """The sent entries of a delta of ``size`` entries.

    Attributes:
        size: Length of the dense vector.
        indices: Positions sent, int64[k], strictly rising.
        values: New weight minus old weight there, float32[k].
    """

    size: int
    indices: Indices
    values: Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedDelta:
    """A sparse delta after quantisation, as it is encoded.

    Attributes:
        size: Length of the dense vector.
        indices: Positions sent, int64[k], strictly rising.
        values: Levels, int8[k], none of them 0; float32[k] for value formats of
            floats.
        scales: Scale code of each row or tensor of the model spec, uint8; 0 = one
            without entries.  Empty for value formats of floats.
        kind: Value format, as in ``TrainSettings.values``.
    """

    size: int
    indices: Indices
    values: NDArray[np.int8] | Vector
    scales: NDArray[np.uint8]
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientUpdate:
    """The update of a client, its whole answer to a round: one message up.

    Attributes:
        run_id: Name of the run that it answers.
        round: The round that it answers.
        client_id: The client that answers.
        plan: Digest of the prune plan that it was trained under.
        base: Digest of the broadcast weights that the delta is encoded against.
        num_examples: Examples trained on, >= 1; the weight in the mean.
        loss: Mean training loss of the last local epoch, finite.
        delta: The quantised delta.
        importance: float32[kept units], finite, >= 0, or None when not asked for or
            not measured.
        statistics: Batch-norm moments of the broadcast, and running values after
            training; None when neither is asked for.
        validation: Validation of the broadcast on the client's validation part.
        covariances: Of what layers read, or None when not asked for or not measured.
    """

    run_id: str
    round: int
    client_id: str
    plan: bytes
    base: bytes
    num_examples: int
    loss: float
    delta: QuantisedDelta
    importance: Vector | None
    statistics: Statistics | None
    validation: Validation
    covariances: Covariances | None = None
