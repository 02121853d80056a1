"""Configurations of the controls, their order, the plan of equal shares, the rounds."""

import numpy as np
import pytest
import torch
from helpers.tiny_federation import make_config, tiny_structure
from torch import nn

from fedprune.common.pruning.cost import shares
from fedprune.common.pruning.plan import check_plan, full_plan
from fedprune.common.structure.tracing.find import find_structure
from fedprune.server.rounds.cycle import first_cursor, is_guarded
from fedprune.server.runs.controls.names import ALL, in_order
from fedprune.server.runs.controls.plans import plan_of, uniform_keep
from fedprune.server.runs.controls.rounds import fit_rounds
from fedprune.server.runs.controls.settings import at_reached_size, control_config

ROUNDS = 12  # of the run, the closing one included
RUN = make_config(
    rounds__warmup=3,
    rounds__final=4,
    client__lr_rewind=0.01,
    task__freeze=["fc"],
    prune__mask={"kind": "unstructured", "begin": 3, "end": 4},
)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("rounds", [2, 3, ROUNDS, 40])
def test_a_control_has_its_rounds_and_neither_penalty_nor_guard(name, rounds):
    found = control_config(name, RUN, rounds)
    assert found.rounds.total == rounds - 1
    assert (found.client.penalty, found.client.strength) == ("none", 0.0)
    assert found.prune.restart == "keep"
    assert not is_guarded(first_cursor(found.rounds), found.rounds)
    # Its keys agree with one another, as if a user had written them.
    type(found).model_validate(found.model_dump())


def test_the_dense_control_sends_every_weight_as_a_float():
    found = control_config("dense", RUN, ROUNDS)
    assert (found.update.update_density, found.update.values) == (1.0, "float32")
    assert found.broadcast.values == "float32"
    assert found.prune.mask.kind == "none"
    assert (found.rounds.cuts, found.distill.weight) == (0, 0.0)


@pytest.mark.parametrize("name", ["scratch", "uniform", "scratch@bytes"])
def test_a_small_network_from_scratch_has_our_messages_and_one_schedule(name):
    found = control_config(name, RUN, ROUNDS)
    assert (found.update, found.broadcast) == (RUN.update, RUN.broadcast)
    assert (found.rounds.cuts, found.client.lr_rewind) == (0, 0.0)
    assert found.distill.weight == 0.0
    assert found.task.freeze == ()
    assert found.prune.mask == RUN.prune.mask
    assert found.client.lr == RUN.client.lr


def test_one_shot_is_our_warmup_one_cut_without_a_cap_and_fine_tuning():
    rebuilt = RUN.prune.model_copy(update={"reconstruct": True})
    ours = RUN.model_copy(update={"prune": rebuilt})
    found = control_config("one-shot", ours, ROUNDS)
    assert not found.prune.reconstruct
    rounds = found.rounds
    assert (rounds.warmup, rounds.sparsify, rounds.cuts) == (3, 1, 1)
    assert (rounds.finetune, rounds.final) == (0, ROUNDS - 1 - 3 - 1)
    assert found.prune.step_cap == 1.0
    assert found.prune.importance == RUN.prune.importance
    assert found.task.freeze == RUN.task.freeze


def test_a_short_control_has_a_weight_mask_within_its_final_rounds():
    found = control_config("one-shot", RUN, 6)
    assert found.rounds.final == 1
    assert (found.prune.mask.begin, found.prune.mask.end) == (1, 1)


def test_controls_of_equal_bytes_follow_those_that_they_are_measured_by():
    assert in_order(["one-shot@bytes", "dense"]) == (
        "dense",
        "one-shot",
        "one-shot@bytes",
    )
    assert in_order([]) == ()


@pytest.mark.parametrize("budget", [0.9, 0.5, 0.31])
@pytest.mark.parametrize("multiple", [1, 2, 4])
def test_the_plan_of_equal_shares_is_the_widest_within_the_budget(budget, multiple):
    structure = tiny_structure()
    config = make_config(prune__budget={"params": budget})
    prune = config.prune.model_copy(update={"width_multiple": multiple})
    config = config.model_copy(update={"prune": prune})
    keep = uniform_keep(structure, config, None, structure.full())
    check_plan(structure, plan_of(structure, keep))
    widths = structure.widths(keep)
    assert len(set(widths.values())) == 1  # both groups have eight channels
    width = next(iter(widths.values()))
    assert width % multiple == 0
    assert shares(structure, keep)["params"] <= budget
    wider = structure.full()
    for group in structure.groups:
        wider[group.units[width + multiple :]] = False
    assert shares(structure, wider)["params"] > budget


def test_a_budget_of_everything_is_the_whole_network():
    structure = tiny_structure()
    config = make_config(prune__budget={"params": 1.0})
    keep = uniform_keep(structure, config, None, structure.full())
    assert keep.all()
    assert plan_of(structure, keep).digest == full_plan(structure).digest


class Words(nn.Module):
    """The sum of the words' vectors through two layers."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(16, 8)
        self.one, self.out = nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x):
        return self.out(self.one(self.words(x).sum(1)).relu())


def test_equal_shares_leave_the_rows_of_a_vocabulary_as_the_run_kept_them():
    tokens = torch.zeros(2, 5, dtype=torch.int64)
    structure = find_structure(Words().eval(), tokens, vocabulary=["words"])
    rows = structure.lookup["words.weight", 0]
    final = structure.full()
    final[rows[:12]] = False  # the run kept the last four tokens
    config = make_config(prune__budget={"params": 0.3}, task__vocabulary=["words"])
    keep = uniform_keep(structure, config, None, final)
    assert keep[rows].tolist() == [False] * 12 + [True] * 4
    others = np.setdiff1d(np.arange(structure.units), rows)
    assert 0 < keep[others].sum() < len(others)
    assert shares(structure, keep)["params"] <= 0.3


def test_controls_have_the_size_that_a_run_reached_and_not_what_it_was_asked():
    structure = tiny_structure()
    config = make_config(prune__budget={"params": 0.3, "flops": 0.9})
    small, large = structure.full(), structure.full()
    for group in structure.groups:
        small[group.units[3:]] = False
        large[group.units[7:]] = False
    assert at_reached_size(config, structure, None, small) is config
    found = at_reached_size(config, structure, None, large)
    assert found.prune.budget.params == shares(structure, large)["params"]
    assert found.prune.budget.flops == 0.9
    assert np.array_equal(uniform_keep(structure, found, None, large), large)
    whole = at_reached_size(config, structure, None, structure.full())
    assert uniform_keep(structure, whole, None, structure.full()).all()


@pytest.mark.parametrize("rounds", [3, 4, 5])
def test_a_round_comes_before_the_first_mask_of_fresh_weights(rounds):
    found = control_config("scratch@bytes", RUN, rounds)
    assert found.rounds.warmup >= 1


def test_what_is_paid_once_is_not_paid_for_each_round():
    spent = [50, 50, 10, 10, 10, 4]  # two rounds before the cut
    fit = fit_rounds(spent, 2, 234, ROUNDS)
    assert fit.rounds == 2 + (234 - 100 - 4) // 10 + 1
    assert not fit.capped
    assert not fit.over


def test_a_cheap_control_ends_at_four_times_the_rounds_and_says_so():
    fit = fit_rounds([5, 1, 1, 1], 1, 10_000, ROUNDS)
    assert (fit.rounds, fit.capped) == (4 * ROUNDS, True)


def test_a_control_that_does_not_fit_trains_one_round_and_says_so():
    fit = fit_rounds([90, 90, 90, 5], 1, 50, ROUNDS)
    assert (fit.rounds, fit.over, fit.capped) == (2, True, False)
    assert fit_rounds([90, 90, 90, 5], 3, 200, ROUNDS).rounds == 3
    assert not fit_rounds([90, 90, 90, 5], 3, 200, ROUNDS).over
