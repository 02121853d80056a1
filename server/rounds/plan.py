"""Planning of a round: the cohort, the plan, and the variant for each client."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf

from fedprune.common import codec
from fedprune.common.aggregate import Limits
from fedprune.common.config import Config, Rounds, Update
from fedprune.common.messages import Broadcast, Phase, RoundPlan, TrainSettings
from fedprune.common.methods.kinds import AGGREGATION, CHOICE, IMPORTANCE, PENALTY
from fedprune.common.methods.registry import OFF, find, wire_name
from fedprune.common.methods.schedule import learning_rate
from fedprune.common.profiling.activities import Activity
from fedprune.common.profiling.recorder import timed
from fedprune.common.pruning.reconstruction.inputs import sizes
from fedprune.common.seeding import Use, generator
from fedprune.common.sparsity.known_positions import known_positions
from fedprune.common.sparsity.shared import CODEBOOK, most_entries
from fedprune.common.spec import Mask, ModelSpec
from fedprune.common.structure.structure import Structure
from fedprune.server.rounds.broadcast import (
    EncodedBroadcast,
    base_for,
    encode_against,
    encode_network,
    encode_state,
)
from fedprune.server.rounds.cut import aimed_penalty, asks_clients, choose_next
from fedprune.server.rounds.cycle import (
    is_cutting,
    is_frozen,
    is_previewing,
    is_quantising,
)
from fedprune.server.rounds.engine import Assignment, RoundRequest, RoundWork
from fedprune.server.rounds.influence import weight_caps
from fedprune.server.rounds.ledger import ClientLedger
from fedprune.server.rounds.state import (
    RunSpec,
    SentBroadcast,
    ServerState,
    Snapshot,
)
from fedprune.server.rounds.steps.reconstruction import reconstructs
from fedprune.server.rounds.waiting.absence import Absences, fewest, present
from fedprune.server.rounds.waiting.closing import Patience
from fedprune.server.rounds.waiting.pace import deadline

_CLOSE = 1e-9  # 1.1 times 10 clients are 11, not 12


@timed(Activity.PLANNING)
def plan_round(state: ServerState, run_spec: RunSpec, attempt: int = 0) -> RoundWork:
    """Return the next round; ``attempt`` > 0 draws another cohort after a failure."""
    config, structure = run_spec.config, run_spec.structure
    round_ = state.round + 1
    spec = structure.spec(state.keep)
    encoded = encode_state(state, structure, spec, config)
    cohort = draw_cohort(run_spec, round_, attempt, state.absences)
    teacher = _teacher(state, config)
    base = RoundPlan(
        run_id=run_spec.run_id,
        round=round_,
        phase=state.cursor.phase,
        client_id="",
        acknowledged=0,
        settings=settings_for(state, config, structure),
        structure=structure.digest,
        structure_json=b"",
        broadcast=encoded.broadcast,
        teacher=teacher.digest if teacher is not None else b"",
        teacher_broadcast=None,
        teacher_statistics=None if teacher is None else teacher.statistics,
        keep_broadcast=_is_teacher(state, config),
        targets=_targets(state, run_spec),
        mask=b"" if state.mask is None else state.mask.digest,
        weight_mask=state.mask,
    )
    variants, assignments = _address(base, state, run_spec, cohort, encoded)
    told, uses_late = base.settings.covariances, config.rounds.late == "use"
    request = RoundRequest(
        variants=variants,
        assignments=assignments,
        limits=Limits(
            clients=_most_added(run_spec) if uses_late else len(cohort),
            max_examples=config.robust.max_examples,
        ),
        max_bytes=config.update.max_bytes,
        individual_updates=_needs_singles(state, config),
        max_norm=_longest(state, config),
        covariances=sizes(structure, state.keep) if told else (0, 0),
        uses_late=uses_late,
        attempt=attempt,
    )
    mask = known_positions(base, state.mask, spec.size, config.update.choice)
    return RoundWork(
        request=request,
        plan=base,
        side_info=codec.SideInformation.of(spec, encoded.weights, mask=mask),
        encoded=encoded,
        robust=config.robust,
        patience=_patience(state, config.rounds, attempt),
    )


def _patience(state: ServerState, rounds: Rounds, attempt: int) -> Patience:
    return Patience(
        goal=rounds.cohort,
        minimum=rounds.minimum,
        quorum=rounds.quorum,
        grace=rounds.grace,
        deadline_s=deadline(rounds.deadline_s, state.pace, attempt),
    )


def _needs_singles(state: ServerState, config: Config) -> bool:
    """Return whether the next round needs each update, not only their sum.

    A rule that needs deltas does; so does the first round of a phase, whose deltas can
    only be clipped by their own median norm, when all of them have arrived.
    """
    robust, privacy = config.robust, config.privacy
    if privacy.senders > 1:
        return True
    unknown = robust.max_norm > 0.0 and state.norm is None and not state.cursor.closing
    unknown = unknown and privacy.epsilon is None
    return "deltas" in find(AGGREGATION, robust.aggregate).needs or unknown


def _longest(state: ServerState, config: Config) -> float:
    """Return the L2 norm that deltas are clipped to on arrival; inf = not known yet."""
    if config.privacy.epsilon is not None:
        return config.privacy.clip
    multiple = config.robust.max_norm
    return inf if multiple == 0.0 or state.norm is None else multiple * state.norm


def draw_cohort(
    run_spec: RunSpec, round_: int, attempt: int, absences: Absences
) -> tuple[str, ...]:
    """Draw the clients that are asked, without replacement.

    They depend on the seed, the round, the attempt and the clients that are put aside,
    whom only the first attempt leaves out.
    """
    rounds, everyone = run_spec.config.rounds, run_spec.clients
    least = fewest(rounds, asked(rounds, len(everyone)))
    there = present(everyone, absences, round_, least, late=rounds.late)
    clients = everyone if attempt else there
    count = asked(rounds, len(clients))
    seed = run_spec.config.run.seed
    rng = generator(seed, round_, f"server/{attempt}", Use.SAMPLE)
    chosen = rng.choice(len(clients), size=count, replace=False)
    return tuple(clients[i] for i in sorted(chosen))


def _most_added(run_spec: RunSpec) -> int:
    """Return the most answers that a round adds, late ones too: the same in each."""
    return 2 * asked(run_spec.config.rounds, len(run_spec.clients))


def asked(rounds: Rounds, clients: int) -> int:
    """Return how many of the clients a round asks."""
    return min(ceil(rounds.cohort * rounds.over_select - _CLOSE), clients)


def settings_for(
    state: ServerState, config: Config, structure: Structure
) -> TrainSettings:
    """Return the clients' training settings for the next round."""
    cursor, rounds = state.cursor, config.rounds
    spec = structure.spec(state.keep)
    scoring = is_cutting(cursor, rounds) or is_previewing(cursor, rounds)
    criterion = wire_name(IMPORTANCE, config.prune.importance)
    measured = state.statistics is not None and state.statistics.measured
    frozen = is_frozen(cursor, rounds) and measured
    client, update = config.client, config.update
    penalty = aimed_penalty(config) if cursor.phase is Phase.SPARSIFY else OFF
    settings = TrainSettings(
        epochs=0 if cursor.closing else client.epochs,
        batch=client.batch,
        lr=rate_of(state.round + 1, config, state.restarted),
        momentum=client.momentum,
        penalty=wire_name(PENALTY, penalty),
        strength=client.strength if penalty != OFF else 0.0,
        update_density=update_density(update, spec.size),
        choice=wire_name(CHOICE, update.choice),
        values=update.values,
        step_error=update.step_error,
        error_feedback=update.keeps_residuals,
        decay=update.decay,
        distill_weight=_teacher_weight(state, config),
        temperature=config.distill.temperature,
        importance=criterion if scoring and asks_clients(config) else "",
        measure=spec.moments > 0 and not frozen,
        freeze=frozen,
        clip=client.clip,
        validation=client.validation,
        score_examples=client.score_examples,
        seed=config.run.seed,
        optimizer=client.optimizer,
        weight_decay=client.weight_decay,
        proximal=client.proximal,
        precision=client.precision,
        frozen=tuple(sorted(set(config.task.freeze))),
        since=max(state.restarted, state.undone),
        quantise="int8" if _trains_int8(state, config) else OFF,
        covariances=is_cutting(cursor, rounds) and reconstructs(config, structure),
    )
    if not is_quantising(cursor, rounds, config.quantise) or settings.quantise != OFF:
        return settings
    return _of_codebook(settings, config, spec)


def rate_of(round_: int, config: Config, restarted: int = 0) -> float:
    """Return the learning rate of a round, from 1.

    With ``client.lr_rewind`` the warmup has a schedule of its own: cuts start from a
    network that has settled, and the cut network is trained at a higher rate again
    (learning rate rewinding, Renda et al. 2020, arXiv:2003.02389).  Fresh weights get
    a whole schedule over the rounds that remain.

    Args:
        round_: The round.
        config: Rates, schedule and lengths of the phases.
        restarted: The round that ended with fresh weights, 0 for none.
    """
    client, rounds = config.client, config.rounds
    if restarted:
        late, left = round_ - restarted, rounds.finetune + rounds.final
        return learning_rate(client.lr_schedule, client.lr, late, left)
    if client.lr_rewind <= 0.0:
        return learning_rate(client.lr_schedule, client.lr, round_, rounds.total)
    if round_ <= rounds.warmup:
        return learning_rate(client.lr_schedule, client.lr, round_, rounds.warmup)
    late, left = round_ - rounds.warmup, rounds.total - rounds.warmup
    return learning_rate(client.lr_schedule, client.lr_rewind, late, left)


def update_density(update: Update, size: int) -> float:
    """Return the share of the entries that one answer sends, 0 < share <= 1.

    A small network needs most of its entries in every update to be tuned, and they cost
    little by then: ``min_entries`` counts where the share would be fewer.

    Args:
        update: ``update_density`` and ``min_entries``.
        size: Number of weights now, >= 1.
    """
    return min(max(update.update_density, update.min_entries / size), 1.0)


def _trains_int8(state: ServerState, config: Config) -> bool:
    quantising = is_quantising(state.cursor, config.rounds, config.quantise)
    return quantising and config.quantise.kind == "int8"


def _of_codebook(
    settings: TrainSettings, config: Config, spec: ModelSpec
) -> TrainSettings:
    """Return the settings of a round that trains the values of a codebook.

    These are few: all of them travel, as floats, and leave nothing for later.
    """
    share = most_entries(spec, config.quantise.bits) / spec.size
    return replace(
        settings,
        update_density=min(share, 1.0),
        values="float32",
        choice="magnitude",
        error_feedback=False,
        quantise=CODEBOOK,
    )


def _teacher_weight(state: ServerState, config: Config) -> float:
    """Return the weight of the teacher in the loss of the next round, 0..1."""
    if _trains_int8(state, config):
        return config.quantise.distill
    return config.distill.weight if _teacher(state, config) is not None else 0.0


def _teacher(state: ServerState, config: Config) -> Snapshot | None:
    """Return the teacher that is sent: only fine-tuning rounds have one.

    A round that trains for int8 has none: its broadcast is the teacher.
    """
    if config.distill.weight <= 0.0:  # no client would use it
        return None
    cursor = state.cursor
    if _trains_int8(state, config):
        return None
    tuning = cursor.phase is Phase.FINETUNE and not cursor.closing
    if not tuning:
        return None
    return state.dense if config.distill.teacher == "dense" else state.previous


def _is_teacher(state: ServerState, config: Config) -> bool:
    """Return whether clients store the next broadcast as a teacher of later rounds."""
    wanted = config.distill.teacher == "previous" or state.dense is None
    teaches = config.distill.weight > 0.0 and wanted
    return teaches and is_cutting(state.cursor, config.rounds)


def _targets(state: ServerState, run_spec: RunSpec) -> Mask | None:
    """Return the targets of the next round's penalty: the units that later cuts remove.

    A unit shrinks over several cycles, and the importance may change in between: the
    last consensus counts.  None = no importance yet, so that every unit is a target;
    or no penalty.
    """
    if state.cursor.phase is not Phase.SPARSIFY or state.importance is None:
        return None
    if aimed_penalty(run_spec.config) == OFF:
        return None
    keep = choose_next(
        run_spec.structure,
        run_spec.config,
        run_spec.latency,
        state.plan,
        state.importance,
        progress=1.0,
    )
    targets: Mask = state.keep & ~keep
    return targets


@dataclass(frozen=True, slots=True, kw_only=True)
class _MissingItems:
    """Parts of a plan that one kind of client has not stored.

    Attributes:
        structure: Whether it lacks the structure.
        teacher: Whether it lacks the teacher.
        mask: Whether it lacks the weight mask.
        base: The newest kept broadcast that it has stored, or None.
    """

    structure: bool
    teacher: bool
    mask: bool
    base: SentBroadcast | None


def _missing_items(state: ServerState, client_id: str, teacher: bytes) -> _MissingItems:
    ledger = state.ledgers.get(client_id, ClientLedger())
    return _MissingItems(
        structure=not ledger.structure,
        teacher=bool(teacher) and ledger.teacher != teacher,
        mask=not ledger.mask,
        base=base_for(ledger, state.sent),
    )


def _address(
    base: RoundPlan,
    state: ServerState,
    run_spec: RunSpec,
    cohort: Sequence[str],
    encoded: EncodedBroadcast,
) -> tuple[tuple[bytes, ...], tuple[Assignment, ...]]:
    """Encode each needed variant once and assign one to each client.

    Variants differ in what a client lacks (structure, teacher, weight mask) and in the
    base that it has stored.
    """
    spec = run_spec.structure.spec(state.keep)
    lacks = {client: _missing_items(state, client, base.teacher) for client in cohort}
    whole = _whole(base, state, run_spec, lacks.values())
    variants: list[bytes] = []
    numbers: dict[tuple[bool, bool, bool, int], int] = {}
    broadcasts: dict[int, Broadcast] = {}
    assignments = []
    robust = run_spec.config.robust
    caps = weight_caps(
        run_spec.enrolled, cohort, robust.max_weight, robust.max_examples
    )
    if run_spec.config.privacy.epsilon is not None:
        caps = dict.fromkeys(cohort, 1)  # noise covers one client, so each counts 1
    for client_id, lack in lacks.items():
        stored = 0 if lack.base is None else lack.base.round
        if stored not in broadcasts:
            shortest = encode_against(lack.base, encoded, run_spec.structure, spec)
            broadcasts[stored] = shortest
        key = (lack.structure, lack.teacher, lack.mask, stored)
        if key not in numbers:
            numbers[key] = len(variants)
            plan = replace(_only_missing(whole, lack), broadcast=broadcasts[stored])
            variants.append(codec.encode_shared(plan))
        ledger = state.ledgers.get(client_id, ClientLedger())
        assignments.append(
            Assignment(
                client_id=client_id,
                variant=numbers[key],
                acknowledged=ledger.acknowledged,
                max_weight=caps[client_id],
            )
        )
    return tuple(variants), tuple(assignments)


def _whole(
    base: RoundPlan,
    state: ServerState,
    run_spec: RunSpec,
    lacks: Collection[_MissingItems],
) -> RoundPlan:
    """Return the plan with every part that some client lacks, each encoded once."""
    teacher = None
    snapshot = _teacher(state, run_spec.config)
    if snapshot is not None and any(lack.teacher for lack in lacks):
        spec = run_spec.structure.spec(snapshot.plan.keep)
        teacher, _ = encode_network(
            snapshot.plan,
            snapshot.weights,
            None,  # they travel beside it, also to clients that have stored it
            spec,
            run_spec.config.broadcast.values,
        )
    new = any(lack.structure for lack in lacks)
    text = run_spec.structure.to_json() if new else b""
    return replace(base, structure_json=text, teacher_broadcast=teacher)


def _only_missing(whole: RoundPlan, lack: _MissingItems) -> RoundPlan:
    """Return the plan with only the parts that one kind of client lacks."""
    return replace(
        whole,
        structure_json=whole.structure_json if lack.structure else b"",
        teacher_broadcast=whole.teacher_broadcast if lack.teacher else None,
        weight_mask=whole.weight_mask if lack.mask else None,
    )
