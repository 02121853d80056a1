"""The whole configuration, and the checks that need more than one key."""

from math import lcm

from pydantic import model_validator

from fedprune.common.config.faults import Attack, Faults
from fedprune.common.config.privacy import Privacy, with_preset
from fedprune.common.config.robust import Robust
from fedprune.common.config.sections import (
    Broadcast,
    Client,
    Device,
    Distill,
    Prune,
    Quantise,
    Rounds,
    Run,
    Section,
    Server,
    Task,
    Update,
)
from fedprune.common.text import label_fault

_INT8 = 4  # input channels of one dot product


class Config(Section):
    """A whole configuration, checked: the content of ``fedprune.toml``."""

    task: Task = Task()
    rounds: Rounds = Rounds()
    client: Client = Client()
    device: Device = Device()
    prune: Prune = Prune()
    update: Update = Update()
    broadcast: Broadcast = Broadcast()
    server: Server = Server()
    distill: Distill = Distill()
    quantise: Quantise = Quantise()
    robust: Robust = Robust()
    privacy: Privacy = Privacy()
    attack: Attack = Attack()
    faults: Faults = Faults()
    run: Run = Run()

    @property
    def width_multiple(self) -> int:
        """Number that legal widths are multiples of: that of the keys and of the form.

        The least common multiple of ``prune.width_multiple``, the group of an n:m mask
        (a tensor has whole groups or stays unmasked), and 4 for int8: the dot products
        of integers take four neighbouring input channels (oneDNN: VNNI; TensorRT:
        DP4A).  0 = by the width of each layer
        (:func:`~fedprune.common.pruning.cost.width_step`).
        """
        mask = self.prune.mask
        group = mask.m if mask.kind == "n:m" else 1
        four = _INT8 if self.quantise.kind == "int8" else 1
        given, forms = self.prune.width_multiple, lcm(group, four)
        if given == 0:
            return 0 if forms == 1 else forms
        return lcm(given, forms)

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: object) -> object:
        """Fill in what ``privacy.preset`` stands for, where nothing is set."""
        return with_preset(given)

    @model_validator(mode="after")
    def _agrees(self) -> "Config":
        """Refuse values that are valid alone and impossible together."""
        for key, wrong, message in _conflicts(self):
            if wrong:
                raise Conflict(key, _default_noted(self, key, message))
        return self


class Conflict(ValueError):  # noqa: N818 - pydantic turns a ValueError into its own
    """Two keys with impossible values together; ``key`` is the one to change."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def _default_noted(config: Config, key: str, message: str) -> str:
    """Return the message, with a note when the key has its default."""
    section, name = key.split(".")[:2]
    if name in getattr(config, section).model_fields_set:
        return message
    return message.replace(",", " (the default),", 1)


def _conflicts(config: Config) -> list[tuple[str, bool, str]]:
    """Return (key, whether it is wrong, found and wanted value) of each check."""
    rounds, prune, clients = config.rounds, config.prune, config.task.clients
    budget = prune.budget
    given = budget.model_dump(exclude_none=True)
    out_of_reach = (
        "less is out of reach of "
        f"{rounds.cuts} cuts by prune.step_cap = {prune.step_cap}"
    )
    limits = ", ".join(type(budget).model_fields)
    unchecked = rounds.cuts > 0 and rounds.finetune == 0
    least = (1 - prune.step_cap) ** rounds.cuts
    fresh = prune.restart == "fresh"
    names = config.run.controls
    sized = next((name for name in names if not name.startswith("dense")), "")
    twice = next((name for name in names if names.count(name) > 1), "")
    fault = label_fault(config.task.labels)
    attack, rule = config.attack, config.robust.aggregate
    return [
        *_private_conflicts(config),
        (
            "rounds.late",
            rounds.late == "use" and rule != "mean",
            f'found "use", want "drop", since robust.aggregate is "{rule}"',
        ),
        (
            "rounds.put_aside",
            rounds.late == "use" and rounds.put_aside == 0,
            'found 0, want >= 1, since rounds.late is "use"',
        ),
        ("task.labels", bool(fault), fault),
        (
            "rounds.cohort",
            0 < clients < rounds.cohort,
            f"found {rounds.cohort}, want <= task.clients = {clients}",
        ),
        (
            "rounds.minimum",
            rounds.minimum > rounds.cohort,
            f"found {rounds.minimum}, want <= rounds.cohort = {rounds.cohort}",
        ),
        (
            "rounds.sparsify",
            rounds.cuts > 0 and rounds.sparsify == 0,
            f"found 0, want >= 1, since rounds.cuts = {rounds.cuts} is not 0",
        ),
        (
            "rounds.final",
            rounds.total == 0,
            "found no round at all, want warmup + cuts + final >= 1",
        ),
        (
            "prune.budget",
            not given,
            f"found no limit, want one or more of {limits}",
        ),
        (
            "prune.max_accuracy_drop",
            prune.max_accuracy_drop is not None and unchecked,
            f"found {prune.max_accuracy_drop}, want none, since rounds.finetune = 0",
        ),
        (
            "prune.max_accuracy_drop",
            prune.max_accuracy_drop is not None and config.client.validation == 0.0,
            f"found {prune.max_accuracy_drop}, want none: client.validation = 0",
        ),
        (
            "prune.blocks",
            prune.blocks > 0 and rounds.cuts == 0,
            f"found {prune.blocks}, want 0, since rounds.cuts = 0",
        ),
        (
            "prune.restart",
            fresh and rounds.cuts == 0,
            'found "fresh", want "keep", since rounds.cuts = 0',
        ),
        (
            "prune.restart",
            fresh and rounds.finetune + rounds.final == 0,
            'found "fresh", want "keep", since no round follows the last cut',
        ),
        (
            "prune.mask.begin",
            fresh
            and prune.mask.kind != "none"
            and prune.mask.begin + rounds.finetune < 2,  # noqa: PLR2004 - the second
            f"found {prune.mask.begin}, want >= 2: no mask of fresh weights",
        ),
        (
            "run.controls",
            bool(sized) and rounds.cuts == 0,
            f'found "{sized}", want dense ones only, since rounds.cuts = 0',
        ),
        (
            "run.controls",
            bool(twice),
            f'found "{twice}" twice, want each name once',
        ),
        (
            "prune.mask.n",
            prune.mask.n >= prune.mask.m,
            f"found {prune.mask.n}, want < prune.mask.m = {prune.mask.m}",
        ),
        (
            "prune.mask.begin",
            prune.mask.begin > max(rounds.final, 1),
            f"found {prune.mask.begin}, want <= rounds.final = {rounds.final}",
        ),
        (
            "prune.mask.end",
            prune.mask.end > max(rounds.final, 1),
            f"found {prune.mask.end}, want <= rounds.final = {rounds.final}",
        ),
        (
            "prune.mask.end",
            0 < prune.mask.end < prune.mask.begin,
            f"found {prune.mask.end}, want >= prune.mask.begin = {prune.mask.begin}",
        ),
        (
            "quantise.rounds",
            config.quantise.kind != "none" and config.quantise.rounds > rounds.final,
            f"found {config.quantise.rounds}, want <= rounds.final = {rounds.final}",
        ),
        (
            "server.optimizer",
            config.quantise.kind == "codebook" and config.server.optimizer != "none",
            f'found "{config.server.optimizer}", want "none" beside a codebook',
        ),
        (
            "prune.latency_table",
            budget.latency is not None and not prune.latency_table,
            "found none, want a file of fedprune profile: a latency is in the budget",
        ),
        (
            "attack.clients",
            attack.clients > 1 and attack.clients != int(attack.clients),
            f"found {attack.clients}, want a whole number, or a share below 1",
        ),
        (
            "attack.clients",
            0 < clients < attack.clients,
            f"found {attack.clients:g}, want <= task.clients = {clients}",
        ),
        (
            "attack.from_round",
            attack.from_round > max(rounds.total, 1),
            f"found {attack.from_round}, want <= all {rounds.total} rounds",
        ),
        (
            "prune.budget.channel_density",
            rounds.cuts > 0 and (budget.channel_density or 1.0) < least * (1 - 1e-9),
            f"found {budget.channel_density}, want >= {least:.4g}: {out_of_reach}",
        ),
    ]


def _private_conflicts(config: Config) -> list[tuple[str, bool, str]]:
    """Return the checks of what hides clients: noise covers sums alone."""
    privacy, robust = config.privacy, config.robust
    central, local = privacy.epsilon is not None, privacy.local_noise > 0
    private = privacy.hides_clients
    rare, strict = privacy.senders > 1, privacy.preset == "strict"
    late = config.rounds.late == "use"
    why = f"since privacy.{'epsilon' if central else 'local_noise'} is set"
    each = "each control would spend epsilon again"
    return [
        (
            "robust.aggregate",
            robust.aggregate != "mean" and (central or rare),
            f'found "{robust.aggregate}", want "mean": privacy needs sums',
        ),
        (
            "rounds.late",
            late and (private or rare),
            'found "use", want "drop": privacy needs sums of one round each',
        ),
        (
            "run.controls",
            private and bool(config.run.controls),
            f"found {list(config.run.controls)}, want [], {why}: {each}",
        ),
        (
            "prune.max_accuracy_drop",
            central and config.prune.max_accuracy_drop is not None,
            f"found {config.prune.max_accuracy_drop}, want none, {why}",
        ),
        (
            "prune.reconstruct",
            private and config.prune.reconstruct is True,
            f"found true, want false, {why}: covariances have no noise",
        ),
        (
            "quantise.kind",
            private and config.quantise.kind == "codebook",
            f'found "codebook", want another, {why}: its values are too few for noise',
        ),
        (
            "privacy.senders",
            rare and central,
            f"found {privacy.senders}, want 1, {why}: one client decides on entries",
        ),
        (
            "privacy.local_noise",
            strict and not local,
            'found 0, want > 0, since privacy.preset is "strict"',
        ),
        (
            "update.choice",
            strict and config.update.choice != "shared",
            f'found "{config.update.choice}", want "shared", {why}: positions tell',
        ),
        (
            "privacy.local_noise",
            local and central,
            f"found {privacy.local_noise:g}, want 0, {why}: one noise is enough",
        ),
        (
            "update.stateless",
            local and config.update.error_feedback and not config.update.stateless,
            f"found false, want true, {why}: residuals would send what it hid",
        ),
        (
            "task.freeze",
            local and bool(config.task.freeze),
            f"found {list(config.task.freeze)}, want [], {why}: it is on all weights",
        ),
        (
            "rounds.minimum",
            rare and config.rounds.minimum < privacy.senders,
            f"found {config.rounds.minimum}, want >= privacy.senders",
        ),
    ]
