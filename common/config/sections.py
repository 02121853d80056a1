"""Every key of a configuration: its type, default, unit and range.

The sections are strict (no silent conversion), frozen, and refuse unknown keys.  The
text below a key is its help: ``fedprune init`` prints it, errors quote its range.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from fedprune.common.config.method_key import MethodKey
from fedprune.common.methods.kinds import (
    AUTO,
    CHOICE,
    CONSENSUS,
    IMPORTANCE,
    MASK,
    PARTITION,
    PENALTY,
    RATE_SCHEDULE,
    SCHEDULE,
)


def _no_number(value: object) -> object:
    """Refuse 1 and 0, which a ``Literal`` takes for true and false."""
    if type(value) in (int, float):
        raise ValueError
    return value


OrAuto = Annotated[Literal[True, False, "auto"], BeforeValidator(_no_number)]
Density = Annotated[float, Field(gt=0, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Examples = Annotated[int, Field(ge=1, le=2**24)]
Bytes = Annotated[int, Field(ge=1024)]
ControlName = Literal[
    "dense",
    "scratch",
    "uniform",
    "one-shot",
    "dense@bytes",
    "scratch@bytes",
    "uniform@bytes",
    "one-shot@bytes",
]
TrackerName = Literal["tensorboard", "mlflow", "wandb"]
# TOML has lists; a frozen section needs tuples.
Names = Annotated[tuple[str, ...], Field(strict=False)]


class Section(BaseModel):
    """Base of all sections: strict, frozen, without unknown keys."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


class Partition(Section):
    """Partition of the training data over the clients."""

    kind: Annotated[str, MethodKey(PARTITION)] = "dirichlet"
    """Parts with skewed labels, equal random parts, skewed sizes, few classes a
    client, the clients that the data name ("natural"), or your own function."""
    alpha: float = Field(default=0.5, gt=0)
    """Concentration of "dirichlet" and "quantity", 0 < alpha; smaller = more skew."""
    classes: Positive = 2
    """Classes of one client for "shards", 1 <= classes."""
    column: str = ""
    """Column of an hf-dataset that names the client of each example, for "natural"; ""
    = client, user or speaker, also with "_id"."""


class Task(Section):
    """Network, data, loss and number of clients."""

    use: str = ""
    """Your own fedprune.Task, file.py:CLASS or module:CLASS; what it does not override
    follows the keys below; "" = the keys alone."""
    model: str = Field(default="small-resnet", min_length=1)
    """small-resnet, resnet18, vgg11_bn, lenet5, mlp, timm:NAME, torchvision:NAME,
    hf:NAME (pretrained; NAME@random = random weights), module:factory or
    file.py:factory; NAME[-BLOCK,-BLOCK] drops residual blocks."""
    weights: str = ""
    """Safetensors file with the initial weights; "" = fresh weights."""
    data: str = Field(default="digits", min_length=1)
    """digits, diabetes, mnist, cifar10, npz:FILE, folder:DIR, parquet:DIR,
    hf-dataset:NAME_OR_PATH[:SUBSET], module:function or file.py:function."""
    inputs: Names = ()
    """Columns of an hf-dataset that are the inputs; [] = image, text, ids of tokens, or
    all numbers and categories; what is guessed is said."""
    target: str = ""
    """Column of an hf-dataset with the targets; "" = label, labels, target, targets, or
    the only column of classes."""
    tokenizer: str = ""
    """Function for texts of an hf-dataset, file.py:function or module:function: takes a
    list of strings and returns token ids, as the tokenizers of transformers do."""
    data_dir: str = ""
    """Folder of the parquet data; "" = the environment variable FEDPRUNE_DATA."""
    partition: Partition = Partition()
    """How the data is split: kind, alpha ("dirichlet", "quantity"), classes
    ("shards")."""
    clients: Count = 10
    """Number of clients, 0 <= clients; of natural clients the first; 0 = all of
    them."""
    outputs: Count = 0
    """Entries of the network's output; 0 = as many as the data has classes or values.
    Must be set where the data of a device may lack a class."""
    input_shape: Annotated[tuple[Positive, ...], Field(strict=False)] = ()
    """Shape of one input; [] = that of the data.  With this and outputs a server needs
    no data."""
    loss: Literal["cross-entropy", "bce", "mse", "per-pixel", "next-token"] = (
        "cross-entropy"
    )
    """One class an example, several labels (0 or 1 each), values (metric R squared), a
    class for each position (segmentation), or the token that follows each position."""
    labels: Names = ()
    """Names of the classes, in the order of their numbers; data that name their own
    (folders), a device's too, get these numbers; [] = those of the data."""
    ignore: Names = ()
    """Names of modules whose channels are never pruned."""
    freeze: Annotated[Names, Field(max_length=64)] = ()
    """Names of modules that are not trained, 64 at most: their weights stay, and their
    batch norms keep the moments of the first network; they may be cut all the same."""
    vocabulary: Names = ()
    """Names of embeddings whose rows are pruned too: those of unused tokens first."""


class Rounds(Section):
    """Rounds of each phase, and the clients of a round."""

    warmup: Count = 5
    """Rounds before the first cycle: no penalty, no cut; 0 <= warmup."""
    sparsify: Count = 2
    """Rounds with the penalty at the start of a cycle; the cut comes after the last
    one; 1 <= sparsify unless cuts = 0."""
    finetune: Count = 2
    """Rounds after each cut, 0 <= finetune."""
    cuts: Count = 4
    """Steps of the schedule, each a cycle with one cut; more follow until the budget
    is met; 0 <= cuts; 0 = plain federated averaging."""
    final: Count = 14
    """Fine-tune rounds after the last cycle, 0 <= final."""
    cohort: Positive = 10
    """Clients whose answers one round waits for, 1 <= cohort <= task.clients."""
    minimum: Positive = 5
    """Accepted answers without which a round fails, 1 <= minimum <= cohort."""
    over_select: float = Field(default=1.0, ge=1, le=10)
    """Clients asked for each client of the cohort, 1 <= over_select <= 10."""
    quorum: float = Field(default=0.5, gt=0, le=1)
    """Share of the asked clients whose answers start the grace period, 0 < quorum <= 1;
    1 = no grace period: the deadline alone ends the waiting."""
    grace: float = Field(default=2.0, ge=1, le=1000)
    """Multiple of the time of the quorum at which a round closes without the others,
    1 <= grace <= 1000, and 10 s after it at the earliest."""
    deadline_s: float = Field(default=0.0, ge=0)
    """Seconds at which a round closes, whatever is missing, 0 <= deadline_s; 0 = three
    times the usual round, as measured; in a simulation virtual seconds."""
    late: Literal["drop", "use"] = "drop"
    """Fate of an answer that arrives after its round: dropped, or added to the round in
    which it arrives, where the network is the same and its client not asked again."""
    staleness: float = Field(default=0.5, ge=0, le=10)
    """Exponent a of the weight (1 + rounds late)^-a of a late answer, 0 <= a <= 10."""
    put_aside: Count = 5
    """Rounds that do not ask a client which was late twice in a row (once, where late
    answers are used), 0 <= put_aside; 0 = all rounds ask it."""
    enrol_s: float = Field(default=300.0, gt=0)
    """Seconds in which the devices of a run must enrol, 0 < enrol_s."""

    @property
    def total(self) -> int:
        """Rounds of the whole run."""
        cycles = self.cuts * (self.sparsify + self.finetune)
        return self.warmup + cycles + self.final


class Client(Section):
    """Local training of a client; part of every plan of the server."""

    epochs: int = Field(default=2, ge=1, le=100_000)
    """Passes over the client's training part in a round, 1 <= epochs <= 100000."""
    batch: Examples = 32
    """Examples of one local step, 1 <= batch <= 2^24."""
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop"] = "sgd"
    """Optimiser of the local steps, fresh in every round."""
    lr: float = Field(default=0.05, gt=0)
    """Learning rate, 0 < lr; Adam, AdamW and RMSprop want about 0.002."""
    lr_schedule: Annotated[str, MethodKey(RATE_SCHEDULE)] = "cosine"
    """Schedule of the learning rate over the rounds of the run."""
    lr_rewind: float = Field(default=0.0, ge=0)
    """Learning rate of a second schedule that starts after the warmup, whose own
    schedule ends there; 0 <= lr_rewind, 0 = one schedule for the whole run."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of SGD and RMSprop, beta1 of Adam and AdamW, fresh in every round,
    0 <= momentum < 1."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Weight decay, 0 <= weight_decay: decoupled for "adamw", L2 for the others."""
    proximal: float = Field(default=0.0, ge=0)
    """mu of FedProx, which pulls local weights to the broadcast, 0 <= proximal; 0 =
    nothing."""
    precision: Literal["float32", "bf16"] = "float32"
    """Precision of forward and loss in local steps; weights, gradients of weights and
    messages stay float32."""
    clip: float = Field(default=5.0, ge=0)
    """Largest L2 norm of a gradient, 0 <= clip; 0 = not clipped."""
    penalty: Annotated[str, MethodKey(PENALTY)] = AUTO
    """Penalty that drives channels to zero in the sparsify rounds; "l0" trains gates on
    them, "targeted-dropout" drops what later cuts would remove; "auto" = "bn-l1+group"
    from fresh weights, none from pretrained ones (task.weights or a library)."""
    strength: float = Field(default=0.6, ge=0)
    """Share of a group's median channel that one sparsify round takes from the channels
    which later cuts would remove, 0 <= strength; 0 = no penalty.  "l0": weight
    of the share of open gates in the loss; "targeted-dropout": probability, < 1."""
    validation: float = Field(default=0.1, ge=0, lt=1)
    """Share of a client's data that only validates the broadcast,
    0 <= validation < 1."""
    score_examples: Examples = 256
    """Most training examples that importance is measured on, 1 <= score_examples <=
    2^24."""


class Device(Section):
    """Settings of a device: read from its own file, never from a server's message."""

    max_bytes: Bytes = 67108864
    """Largest message that a device reads, in bytes, 1024 <= max_bytes."""


class Budget(Section):
    """Cost that the final network may have, as shares of the dense network."""

    params: Density | None = None
    """Share of the parameters kept, 0 < params <= 1."""
    flops: Density | None = None
    """Share of the FLOPs kept, 0 < flops <= 1."""
    channel_density: Density | None = None
    """Share of the prunable channels kept, 0 < channel_density <= 1."""
    latency: Density | None = None
    """Share of the latency kept by prune.latency_table, 0 < latency <= 1."""
    bytes: Density | None = None
    """Share of the bytes of the final file kept, 0 < bytes <= 1."""


class MaskRule(Section):
    """Weight mask of the final network: the entries that stay, inside its tensors."""

    kind: Annotated[str, MethodKey(MASK)] = "none"
    """Single entries by magnitude, or by magnitude over the standard deviation of their
    tensor; n of each m neighbouring input channels; whole blocks."""
    density: Density = 0.1
    """Share of the entries of matrices kept (not for n:m), 0 < density <= 1."""
    n: Positive = 2
    """Entries kept of each m, 1 <= n < m."""
    m: Positive = 4
    """Length of a group of input channels (n:m)."""
    block: Positive = 8
    """Rows and columns of a block."""
    schedule: Annotated[str, MethodKey(SCHEDULE)] = "cubic"
    """Schedule of the density over the masks."""
    power: float = Field(default=3.0, gt=0)
    """Power of "polynomial", 0 < power."""
    begin: Positive = 1
    """Final round before which the first mask is chosen, 1 <= begin <= rounds.final."""
    end: Count = 0
    """Final round before which the last mask may be chosen, begin <= end <=
    rounds.final; 0 = two thirds of them; n:m takes one mask."""
    frequency: Positive = 1
    """Final rounds between two masks, 1 <= frequency."""


class Prune(Section):
    """Importance, consensus and cuts of channels."""

    budget: Budget = Budget(params=0.30, flops=0.35)
    """Shares kept at the end: one or more of params, flops, channel_density, latency,
    bytes, each in (0, 1]; your budget replaces the default as a whole."""
    latency_table: str = ""
    """JSON file of "fedprune profile", for a latency budget."""
    schedule: Annotated[str, MethodKey(SCHEDULE)] = "cubic"
    """Schedule of the budget over the cuts, from 1 to its end."""
    power: float = Field(default=3.0, gt=0)
    """Power of "polynomial", 0 < power; 3 = "cubic", 1 = "linear"."""
    importance: Annotated[str, MethodKey(IMPORTANCE)] = "taylor"
    """Criterion of importance: "fedprune methods" says which are measured by the
    clients, and which the server computes from the weights."""
    consensus: Annotated[str, MethodKey(CONSENSUS)] = "trimmed-mean"
    """Rule that makes one importance of those of the clients."""
    ema: float = Field(default=0.5, ge=0, lt=1)
    """Weight of the earlier cycles' importance, 0 <= ema < 1."""
    floor: Positive = 2
    """Fewest channels that a pruning group keeps, 1 <= floor."""
    step_cap: Density = 0.4
    """Largest share of a group's channels that one cut removes, 0 < step_cap <= 1."""
    width_multiple: Count = 0
    """Widths are multiples of this, or full, 0 <= width_multiple; of 4 too for int8
    (quantise.kind), and of m under an n:m mask; 0 = of these alone, or else of the
    largest power of two not above an eighth of the layer's width, 8 at most."""
    blocks: Count = 0
    """Most residual blocks that cuts may drop as a whole, 0 <= blocks."""
    mask: MaskRule = MaskRule()
    """Weights that are zero for good, chosen by the server before the first final
    rounds, after all cuts: "none", or {kind = "n:m"} and so on."""
    max_loss_increase: float = Field(default=1.0, ge=0)
    """Relative rise of the validation loss, beyond noise, above which a cut is rolled
    back, 0 <= max_loss_increase."""
    max_accuracy_drop: float | None = Field(default=None, ge=0)
    """Largest loss of accuracy (headline metric, in its unit: 0.02 = 2 points) against
    the network before the first cut, beyond noise; the cuts stop at the smallest size
    that holds; 0 <= max_accuracy_drop; left out = no limit."""
    reconstruct: OrAuto = AUTO
    """Whether the layers behind a cut take over what the cut channels carried, by the
    covariances of what they read, which clients send before a cut; "auto" = of kept
    pretrained weights, where no noise hides clients and they are few bytes."""
    restart: Literal["keep", "fresh"] = "keep"
    """Weights after the last cut: those that are left, or fresh ones of the final
    widths, which the rounds that remain train from the start."""


class Update(Section):
    """The updates that clients send."""

    update_density: Density = 0.07
    """Share of the delta's entries sent, 0 < update_density <= 1."""
    min_entries: Count = 0
    """Fewest entries sent, also of a small network: 0 <= min_entries."""
    choice: Annotated[str, MethodKey(CHOICE)] = "rate"
    """Selection of the entries that are sent: those with the most energy for their
    bits, or the largest."""
    values: Literal["int8", "float32", "step"] = "step"
    """Value format: with a scale for each row (int8) or each tensor (step, chosen by
    step_error), or as floats."""
    step_error: float = Field(default=0.16, gt=0, le=1)
    """Share of a tensor's energy that "step" may lose, 0 < step_error <= 1."""
    error_feedback: bool = True
    """Whether the residual, which was not sent, is added to the next delta."""
    decay: Share = 1.0
    """Factor on the residual for each round away, 0 <= decay <= 1."""
    stateless: bool = False
    """Whether nothing that clients store is counted on: no residual, whatever
    error_feedback says, and every message has all that its client needs."""
    max_bytes: Bytes = 67108864
    """Largest answer that the server reads, in bytes, 1024 <= max_bytes."""

    @property
    def keeps_residuals(self) -> bool:
        """True if clients store residuals."""
        return self.error_feedback and not self.stateless


class Broadcast(Section):
    """The broadcasts that the server sends."""

    values: Literal["grid", "float32"] = "grid"
    """Value format: integers times a step of each row, whole or as the change since a
    broadcast that the client has stored; or floats."""


class Server(Section):
    """Optimiser of the server, whose gradient is the aggregated delta of a round."""

    optimizer: Literal["none", "momentum", "adam", "yogi"] = "none"
    """"none" adds the delta to the weights; the others are FedAvgM, FedAdam and
    FedYogi, with a state that follows cuts, rollbacks and checkpoints."""
    lr: float = Field(default=1.0, gt=0)
    """Learning rate of the server (not for "none"), 0 < lr; "adam" and "yogi" want
    about 0.01."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of "momentum", beta1 of "adam" and "yogi", 0 <= momentum < 1."""
    beta2: float = Field(default=0.99, ge=0, lt=1)
    """Decay of the squares of "adam" and "yogi", 0 <= beta2 < 1."""
    tau: float = Field(default=1e-3, gt=0)
    """Adaptivity of "adam" and "yogi", 0 < tau: smaller = more; added to the root of
    the squares, which start at tau^2."""


class Distill(Section):
    """Distillation: the network before a cut is the teacher of the one after it."""

    teacher: Literal["previous", "dense"] = "previous"
    """The network before the last cut, or the one before the first cut, which clients
    receive once: better where the warmup ends with a network that has settled."""

    weight: Share = 0.0
    """Weight of the teacher in the loss, 0 <= weight <= 1; 0 = no teacher."""
    temperature: float = Field(default=2.0, gt=0)
    """Temperature of the distillation, 0 < temperature."""


class Quantise(Section):
    """Last final rounds that train the network as it will be quantised."""

    kind: Literal["none", "int8", "codebook"] = "none"
    """Quantisation that they train for: of "export --format onnx --int8", of "export
    --format fpz --values codebookB", or none."""
    rounds: Positive = 1
    """Final rounds, the last ones, that train so, 1 <= rounds <= rounds.final."""
    bits: int = Field(default=5, ge=1, le=6)
    """log2 of the values of each tensor ("codebook"), 1 <= bits <= 6."""
    distill: Share = 0.5
    """Weight in the loss of the teacher, the network that was sent, not quantised; it
    replaces distill.weight in these rounds, 0 <= distill <= 1; 0 = no teacher."""


class Run(Section):
    """Folder, seed, engine and reports of the run."""

    dir: str = Field(default="runs", min_length=1)
    """Folder in which the run folder is made."""
    name: str = Field(default="", pattern=r"^[A-Za-z0-9._-]{0,100}$")
    """Part of the folder's name: letters, digits, ".", "_", "-"; 100 at most."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of every random stream, 0 <= seed < 2^63."""
    engine: Literal["ray", "inprocess"] = "ray"
    """Flower's simulation on Ray, or the same rounds in this process."""
    workers: Count = 0
    """Worker processes, 0 <= workers; 0 = one for each core that may be used."""
    device: str = Field(default="auto", pattern=r"^(auto|cpu|mps|cuda(:[0-9]{1,3})?)$")
    """Device that trains networks: auto (CUDA, else Metal, else the CPU), cpu, cuda,
    cuda:N or mps; the workers on Ray share the GPUs."""
    deterministic: bool = False
    """Whether a GPU uses deterministic algorithms alone: the same result twice on the
    same kind of GPU, and slower; a CPU always does."""
    controls: Annotated[tuple[ControlName, ...], Field(strict=False)] = ("dense",)
    """Federations that run after it for comparison: dense FedAvg, the final widths from
    scratch, equal shares of all groups from scratch, one cut; "@bytes": as many rounds
    as its bytes allow; [] = none."""
    evaluate_every: Count = 1
    """Rounds between two evaluations on the test data for the report,
    0 <= evaluate_every; 0 = none: no figure of the run is one of the test data."""
    limit_s: float = Field(default=0.0, ge=0)
    """Seconds after which a simulation ends by itself, to be resumed, 0 <= limit_s; 0 =
    no limit.  No result depends on it: a round without some of its clients is none."""
    profile: bool = False
    """Whether a simulation measures where its time goes: a table, a flame graph and
    their figures in the folder "profile" of the run; no result depends on it."""
    state_limit_mb: Positive = 4096
    """Largest total of the files with residuals, in MiB, 1 <= state_limit_mb."""
    track: Annotated[tuple[TrackerName, ...], Field(strict=False)] = ()
    """Trackers that follow the run: tensorboard, mlflow, wandb; no result depends on
    them."""
    track_clients: bool = False
    """Whether a tracker that sends files to another machine gets the report too, which
    names the clients; figures never do."""
