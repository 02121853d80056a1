"""Named attacks on a plan: what is forged -> which field is named."""

import pytest
from helpers.codec.examples import PLAN, SPEC, edit, items_of, make_plan, message_of
from helpers.codec.forgery import INF, NAN, UPDATE, floats, poke, put

from fedprune.common import codec
from fedprune.common.errors import PayloadError
from fedprune.common.spec import weights_digest

PLAN_MESSAGE = codec.encode_plan(make_plan())
SHARED = items_of(PLAN_MESSAGE)[4]


def forge_shared(item, value, *inside):
    """Return a plan whose shared part has another item, ``inside`` arrays deep."""
    items = items_of(SHARED)
    target, last = items, item
    for step in inside:
        target, last = target[last], step
    target[last] = value
    forged = message_of(items)
    return edit(PLAN_MESSAGE, lambda outer: outer.__setitem__(4, forged))


MORE = ["adamw", 0.01, 0.1, "bf16", ["conv1", "layers.0"]]


def forge_more(place, value):
    """Return a plan with all settings, one of those that may be left out forged."""
    more = [*MORE]
    more[place] = value
    return forge_shared(S_SETTINGS, [*items_of(SHARED)[S_SETTINGS], *more])


def forge_since(value):
    """Return a plan with all settings, the last one forged."""
    return forge_shared(S_SETTINGS, [*items_of(SHARED)[S_SETTINGS], *MORE, value])


S_RUN, S_ROUND, S_PHASE, S_SETTINGS, S_STRUCTURE, S_SIZE, S_CODED, S_JSON = range(2, 10)
S_BROADCAST, S_TEACHER, S_TEACHER_BROADCAST, S_MOMENTS = range(10, 14)
S_KEEP, S_TARGETS = 14, 15

PLAN_ATTACKS = {
    "acknowledged a later round": (
        put(3, 3, PLAN_MESSAGE), "acknowledged"),
    "acknowledged of true": (put(3, value=True, message=PLAN_MESSAGE), "acknowledged"),
    "a client that is a path": (put(2, "a/b", PLAN_MESSAGE), "client_id"),
    "a shared part of text": (put(4, "x", PLAN_MESSAGE), "shared"),
    "a shared part of an array": (put(4, [SHARED], PLAN_MESSAGE), "shared"),
    "an empty shared part": (put(4, b"", PLAN_MESSAGE), "message"),
    "a shared part of 15 bytes": (put(4, SHARED[-15:], PLAN_MESSAGE), "message"),
    "a shared part of 16 bytes": (put(4, SHARED[-16:], PLAN_MESSAGE), "message"),
    "a shared part of 17 bytes": (put(4, SHARED[-17:], PLAN_MESSAGE), "message"),
    "a plan as the shared part": (put(4, PLAN_MESSAGE, PLAN_MESSAGE), "kind"),
    "a plan of before": (put(1, 1, PLAN_MESSAGE), "kind"),
    "a plan without fields": (message_of([2, 12]), "plan"),
    "a shared part of another kind": (put(4, UPDATE, PLAN_MESSAGE), "kind"),
    "a shared part with a wrong digest": (
        put(4, poke(SHARED, -1, SHARED[-1] ^ 1), PLAN_MESSAGE), "digest"),
    "round 0": (forge_shared(S_ROUND, 0), "round"),
    "a run that is a path": (forge_shared(S_RUN, ".."), "run_id"),
    "an unknown phase": (forge_shared(S_PHASE, "prune"), "phase"),
    "one setting less": (forge_shared(S_SETTINGS, [1] * 14), "settings"),
    "a learning rate of NaN": (
        forge_shared(S_SETTINGS, NAN, 2), "settings.lr"),
    "a learning rate of 0": (forge_shared(S_SETTINGS, 0.0, 2), "settings.lr"),
    "a momentum of 1": (forge_shared(S_SETTINGS, 1.0, 3), "settings.momentum"),
    "an unknown penalty": (forge_shared(S_SETTINGS, "l3", 4), "settings.penalty"),
    "a penalty for each start": (
        forge_shared(S_SETTINGS, "auto", 4), "settings.penalty"),
    "an update density of 0": (
        forge_shared(S_SETTINGS, 0.0, 6), "settings.update_density"),
    "an update density above 1": (
        forge_shared(S_SETTINGS, 1.1, 6), "settings.update_density"),
    "an unknown kind of value": (
        forge_shared(S_SETTINGS, "int3", 8), "settings.values"),
    "an unknown choice of entries": (
        forge_shared(S_SETTINGS, "all", 7), "settings.choice"),
    "a step error above 1": (
        forge_shared(S_SETTINGS, 1.5, 9), "settings.step_error"),
    "a step error of 0": (
        forge_shared(S_SETTINGS, 0.0, 9), "settings.step_error"),
    "epochs below 0": (forge_shared(S_SETTINGS, -1, 0), "settings.epochs"),
    "2^40 epochs": (forge_shared(S_SETTINGS, 2**40, 0), "settings.epochs"),
    "a flag of 1": (forge_shared(S_SETTINGS, 1, 15), "settings.measure"),
    "a clip below 0": (forge_shared(S_SETTINGS, -0.1, 17), "settings.clip"),
    "a clip of infinity": (forge_shared(S_SETTINGS, INF, 17), "settings.clip"),
    "a clip of 5": (forge_shared(S_SETTINGS, 5, 17), "settings.clip"),
    "a validation share of 1": (
        forge_shared(S_SETTINGS, 1.0, 18), "settings.validation"),
    "a validation share below 0": (
        forge_shared(S_SETTINGS, -0.1, 18), "settings.validation"),
    "a validation share of NaN": (
        forge_shared(S_SETTINGS, NAN, 18), "settings.validation"),
    "scores of no example": (
        forge_shared(S_SETTINGS, 0, 19), "settings.score_examples"),
    "scores of 2^40 examples": (
        forge_shared(S_SETTINGS, 2**40, 19), "settings.score_examples"),
    "a seed below 0": (forge_shared(S_SETTINGS, -1, 20), "settings.seed"),
    "a seed of 2^63": (forge_shared(S_SETTINGS, 2**63, 20), "settings.seed"),
    "a seed of true": (forge_shared(S_SETTINGS, True, 20), "settings.seed"),  # noqa: FBT003
    "a seed of 0.0": (forge_shared(S_SETTINGS, 0.0, 20), "settings.seed"),
    "one setting more": (
        forge_shared(S_SETTINGS, [*items_of(SHARED)[S_SETTINGS], "adam"]), "settings"),
    "a setting behind the last": (
        forge_shared(
            S_SETTINGS, [*items_of(SHARED)[S_SETTINGS], *MORE, 1, "int8", True, 1]),
        "settings"),
    "covariances of 1": (
        forge_shared(
            S_SETTINGS, [*items_of(SHARED)[S_SETTINGS], *MORE, 1, "int8", 1]),
        "settings.covariances"),
    "covariances that are left out otherwise": (
        forge_shared(
            S_SETTINGS, [*items_of(SHARED)[S_SETTINGS], *MORE, 1, "int8", False]),
        "settings"),
    "an unknown quantisation": (
        forge_shared(S_SETTINGS, [*items_of(SHARED)[S_SETTINGS], *MORE, 0, "int4"]),
        "settings.quantise"),
    "a quantisation that is left out otherwise": (
        forge_shared(S_SETTINGS, [*items_of(SHARED)[S_SETTINGS], *MORE, 0, "none"]),
        "settings"),
    "a restart in round 0, which is left out otherwise": (forge_since(0), "settings"),
    "a restart before the first round": (forge_since(-1), "settings.since"),
    "a restart in a round of text": (forge_since("1"), "settings.since"),
    "a restart in round 2^40": (forge_since(2**40), "settings.since"),
    "defaults that are left out otherwise": (
        forge_shared(S_SETTINGS, [
            *items_of(SHARED)[S_SETTINGS], "sgd", 0.0, 0.0, "float32", []]),
        "settings"),
    "an unknown optimiser": (forge_more(0, "lion"), "settings.optimizer"),
    "an optimiser of bytes": (forge_more(0, b"adam"), "settings.optimizer"),
    "a weight decay below 0": (forge_more(1, -1e-9), "settings.weight_decay"),
    "a weight decay of NaN": (forge_more(1, NAN), "settings.weight_decay"),
    "a weight decay of 1": (forge_more(1, 1), "settings.weight_decay"),
    "a proximal term below 0": (forge_more(2, -0.1), "settings.proximal"),
    "a proximal term of infinity": (forge_more(2, INF), "settings.proximal"),
    "an unknown precision": (forge_more(3, "fp8"), "settings.precision"),
    "a precision of nil": (forge_more(3, None), "settings.precision"),
    "frozen modules of text": (forge_more(4, "conv1"), "settings.frozen"),
    "a frozen module of bytes": (forge_more(4, [b"conv1"]), "settings.frozen"),
    "a frozen module without a name": (forge_more(4, [""]), "settings.frozen"),
    "a frozen module of 129 characters": (
        forge_more(4, ["x" * 129]), "settings.frozen"),
    "a frozen module that turns the line": (
        forge_more(4, ["a\nb"]), "settings.frozen"),
    "a frozen module twice": (forge_more(4, ["a", "a"]), "settings.frozen"),
    "frozen modules out of order": (forge_more(4, ["b", "a"]), "settings.frozen"),
    "65 frozen modules": (
        forge_more(4, [f"m{n:02d}" for n in range(65)]), "settings.frozen"),
    "a structure digest cut off": (forge_shared(S_STRUCTURE, b"x"), "structure"),
    "a structure of 2^40 bytes": (forge_shared(S_SIZE, 2**40), "structure_json.size"),
    "a structure of another size": (forge_shared(S_SIZE, 5), "structure_json"),
    "a structure that is coded by a number": (
        forge_shared(S_CODED, 1), "structure_json.coded"),
    "a structure that is said not to be coded": (
        forge_shared(S_CODED, False), "structure_json"),  # noqa: FBT003
    "a structure of other bytes": (forge_shared(S_JSON, bytes(9)), "structure_json"),
    "units behind the bitmap": (
        forge_shared(S_BROADCAST, 17, 0, 1), "broadcast.plan.keep"),
    "2^40 units": (
        forge_shared(S_BROADCAST, 2**40, 0, 1), "broadcast.plan.units"),
    "a bit behind the units": (
        forge_shared(S_BROADCAST, b"\xff\xff", 0, 2), "broadcast.plan.keep"),
    "a parent digest cut off": (
        forge_shared(S_BROADCAST, b"p", 0, 3), "broadcast.plan.parent"),
    "a rollback of 1": (
        forge_shared(S_BROADCAST, 1, 0, 4), "broadcast.plan.rollback"),
    "weights of text": (forge_shared(S_BROADCAST, "x", 1), "broadcast.weights"),
    "a weights digest cut off": (
        forge_shared(S_BROADCAST, b"x", 2), "broadcast.digest"),
    "moments of no example": (
        forge_shared(S_BROADCAST, 0, 3, 0), "statistics.num_examples"),
    "a mean of infinity": (
        forge_shared(S_BROADCAST, floats(0, 0, INF, 0), 3, 1), "statistics.mean"),
    "means that are cut off": (
        forge_shared(S_BROADCAST, floats(0, 0) + b"x", 3, 1), "statistics.mean"),
    "a variance below 0": (
        forge_shared(S_BROADCAST, floats(0, 0, -1, 0), 3, 2), "statistics.variance"),
    "more variances than means": (
        forge_shared(S_BROADCAST, floats(0, 0, 1, 0, 0), 3, 2), "statistics.variance"),
    "a teacher of another digest": (
        forge_shared(S_TEACHER, bytes(16)), "teacher_broadcast.digest"),
    "a teacher without a digest": (
        forge_shared(S_TEACHER, b""), "teacher_broadcast.digest"),
    "targets of text": (forge_shared(S_TARGETS, "x"), "targets"),
    "targets of 2^40 units": (forge_shared(S_TARGETS, 2**40, 0), "targets.units"),
    "targets behind the units": (forge_shared(S_TARGETS, b"\xff\xff", 1), "targets"),
    "targets that are cut off": (forge_shared(S_TARGETS, b"\xff", 1), "targets"),
    "a flag to keep of nil": (forge_shared(S_KEEP, None), "keep_broadcast"),
}  # fmt: skip


def test_the_forger_of_plans_makes_valid_ones():
    data = forge_shared(S_ROUND, 4)
    assert codec.decode_plan(data, 1 << 18).round == 4
    more = codec.decode_plan(forge_more(2, 0.5), 1 << 18).settings
    assert (more.proximal, more.frozen) == (0.5, ("conv1", "layers.0"))
    assert codec.decode_plan(PLAN_MESSAGE, 1 << 18).broadcast.plan.digest == PLAN.digest


@pytest.mark.parametrize(("data", "field"), PLAN_ATTACKS.values(), ids=PLAN_ATTACKS)
def test_a_forged_plan_is_refused_by_name(data, field):
    with pytest.raises(PayloadError) as caught:
        codec.decode_plan(data, 1 << 18)
    assert caught.value.field == field


def test_the_weights_of_another_plan_are_refused():
    broadcast = make_plan().broadcast
    teacher = make_plan().teacher_broadcast
    weights = codec.decode_weights(teacher.weights, SPEC)
    assert weights_digest(weights) == teacher.digest
    with pytest.raises(PayloadError, match="BAD_DIGEST"):
        codec.check_weights(weights, broadcast.digest)
