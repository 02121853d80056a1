"""Rounds that train for quantisation: which they are, what they ask for, what stays."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.tiny_federation import (
    ask_all,
    forward_to,
    make_config,
    make_setting,
    make_task,
    plan_for,
    start,
)

from fedprune.common import codec
from fedprune.common.config import Quantise, Rounds, load_config
from fedprune.common.errors import ConfigError
from fedprune.common.messages import Phase
from fedprune.common.sparsity.shared import first_entries
from fedprune.server.rounds.broadcast import decoded_state
from fedprune.server.rounds.cycle import Cursor, is_coded, is_quantising
from fedprune.server.rounds.finish import finish_round
from fedprune.server.rounds.plan import plan_round

FINAL = Cursor(phase=Phase.FINETUNE, index=1, progress=1.0, final=True)
ROUNDS = Rounds(final=3)


def places(rule, kind, rounds):
    """Return the final rounds of which a rule holds; 4 is the closing one."""
    cursors = [replace(FINAL, index=n, closing=n == 4) for n in (1, 2, 3, 4)]
    quantise = Quantise(kind=kind, rounds=rounds)
    return [c.index for c in cursors if rule(c, ROUNDS, quantise)]


def test_the_last_final_rounds_train_for_quantisation_and_the_closing_one_is_coded():
    assert places(is_quantising, "none", 2) == []
    assert places(is_quantising, "int8", 2) == [2, 3]
    assert places(is_quantising, "codebook", 1) == [3]
    assert places(is_coded, "codebook", 1) == [3, 4]
    assert places(is_coded, "int8", 1) == []
    tuning = replace(FINAL, final=False, index=3)
    assert not is_quantising(tuning, ROUNDS, Quantise(kind="int8", rounds=3))


def test_more_rounds_than_there_are_is_one_line():
    with pytest.raises(
        ConfigError, match=r"quantise.rounds: found 3.*rounds.final = 2"
    ):
        load_config(None, {"quantise.kind": "int8", "quantise.rounds": 3,
                           "rounds.final": 2})  # fmt: skip
    load_config(None, {"quantise.rounds": 3, "rounds.final": 2})  # of none


def test_a_server_optimiser_beside_a_codebook_is_one_line():
    changes = {"quantise.kind": "codebook", "server.optimizer": "adam"}
    with pytest.raises(ConfigError, match=r'server.optimizer: found "adam", want'):
        load_config(None, changes)
    load_config(None, changes | {"quantise.kind": "int8"})


@pytest.mark.parametrize(
    ("changes", "multiple"),
    [
        ({}, 0),
        ({"quantise.kind": "int8"}, 4),
        ({"prune.mask": {"kind": "n:m", "m": 8}}, 8),
        ({"prune.width_multiple": 1}, 1),
        ({"prune.width_multiple": 6, "quantise.kind": "int8"}, 12),
        ({"prune.width_multiple": 1, "quantise.kind": "codebook"}, 1),
        ({"prune.width_multiple": 2, "prune.mask.kind": "n:m"}, 4),
        ({"prune.width_multiple": 6, "prune.mask": {"kind": "n:m", "m": 8}}, 24),
        ({"prune.width_multiple": 6, "prune.mask": {"kind": "n:m", "n": 1, "m": 5},
          "quantise.kind": "int8"}, 60),
    ],
)  # fmt: skip
def test_legal_widths_follow_the_form_of_the_weights(changes, multiple):
    assert load_config(None, changes).width_multiple == multiple


def at_the_last_round(tmp_path, **changes):
    """Return task, setting and state before the last final round."""
    task = make_task(**changes)
    run_spec = make_setting(task)
    state = forward_to(
        start(task, run_spec), run_spec, task, tmp_path,
        lambda cursor: cursor.final and cursor.index == 2,
    )  # fmt: skip
    return task, run_spec, state


@pytest.mark.slow
def test_int8_takes_the_broadcast_as_teacher_and_cuts_to_multiples_of_4(tmp_path):
    task, run_spec, state = at_the_last_round(
        tmp_path, quantise__kind="int8", quantise__distill=0.25
    )
    work = plan_round(state, run_spec)
    settings = plan_for(work).settings
    assert (settings.quantise, settings.distill_weight) == ("int8", 0.25)
    assert work.plan.teacher == b""
    widths = [tensor.shape[0] for tensor in work.spec.tensors if "conv" in tensor.name]
    assert all(width % 4 == 0 for width in widths)
    after, _ = finish_round(state, work, ask_all(work, task, tmp_path), run_spec)
    assert after.cursor.closing
    last = plan_round(after, run_spec).plan.settings
    assert (last.quantise, last.distill_weight) == ("none", 0.0)


@pytest.mark.slow
def test_a_codebook_round_sends_and_moves_values_alone(tmp_path):
    task, run_spec, state = at_the_last_round(
        tmp_path, quantise__kind="codebook", quantise__bits=2
    )
    work = plan_round(state, run_spec)
    answers = ask_all(work, task, tmp_path)
    after, _ = finish_round(state, work, answers, run_spec)
    values = 0
    for part, _tensor in matrices(work.spec):
        old, new = work.weights[part], after.weights[part]
        for value in np.unique(old):
            assert len(np.unique(new[old == value])) == 1
        values += len(np.unique(old[old != 0]))
        assert len(np.unique(old[old != 0])) <= 4
        assert np.array_equal(old == 0, new == 0)
        assert not np.array_equal(old, new)
    vectors = work.spec.size - sum(len(old[part]) for part, _ in matrices(work.spec)
                                   for old in (work.weights,))  # fmt: skip
    assert first_entries(work.weights, work.spec).sum() == values + vectors
    closing = plan_round(after, run_spec)
    assert closing.plan.settings.quantise == "none"
    saved = decoded_state(after, run_spec.structure, work.spec, run_spec.config)
    assert np.array_equal(saved, closing.encoded.weights)  # the network of the files
    # The file finds the network on its codebook: nothing is lost.
    blob = codec.encode_codebook(closing.weights, closing.spec, 2)
    assert np.array_equal(codec.decode_weights(blob, closing.spec), closing.weights)
    for part, _tensor in matrices(work.spec):
        assert np.array_equal(closing.weights[part], after.weights[part])


def matrices(spec):
    start_ = 0
    for tensor in spec.tensors:
        if len(tensor.shape) > 1:
            yield slice(start_, start_ + tensor.size), tensor
        start_ += tensor.size


@pytest.mark.slow
def test_without_a_kind_nothing_changes(tmp_path):
    _, run_spec, state = at_the_last_round(tmp_path)
    plan = plan_round(state, run_spec).plan
    assert plan.settings.quantise == "none"
    assert make_config().quantise == Quantise()
