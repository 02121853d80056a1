from dataclasses import replace

import pytest
from helpers.some_events import CHECK, CLIENT, CUT, ONE_OF_EACH, ROLLBACK, ROUND, SPENT

from fedprune.common.config import load_config
from fedprune.server.runs.tracking.figures import figures_of, result_of, settings_of


def test_a_round_has_its_numbers_by_the_names_of_its_fields():
    found = figures_of(ROUND)
    assert found["loss"] == 1.25
    assert found["bytes_down"] == 3e6
    assert found["zero_share"] == 0.125
    assert {"run", "round", "phase"}.isdisjoint(found)


def test_what_was_not_measured_is_left_out():
    assert "accuracy" not in figures_of(replace(ROUND, accuracy=None))


def test_a_cut_has_the_width_of_each_group():
    found = figures_of(CUT)
    assert (found["width/conv"], found["width/fc"], found["cut/params"]) == (4, 2, 500)
    assert "cut/round" not in found


def test_checks_rollbacks_and_privacy_have_prefixes():
    assert figures_of(CHECK)["check/loss_after"] == 2.0
    assert figures_of(ROLLBACK) == {"cut/rolled_back": 1}
    assert figures_of(SPENT)["privacy/epsilon"] == 2.5


def test_a_client_is_no_figure():
    assert figures_of(CLIENT) == {}
    names = {name for event in ONE_OF_EACH for name in figures_of(event)}
    assert not any(name.endswith(("/a", "/b")) or name in "ab" for name in names)


def test_odd_names_of_groups_become_plain():
    found = figures_of(replace(CUT, widths={"blocks[0]@x": 3}))
    assert found["width/blocks-0--x"] == 3


def test_the_result_is_flat_and_has_numbers_alone():
    summary = {
        "accuracy_final": 0.5,
        "controls": {"dense@bytes": {"loss": 2, "metric": "accuracy"}},
        "warnings": ["client a"],
        "budget_met": True,
        "loss_final": float("nan"),
    }
    assert result_of(summary) == {
        "accuracy_final": 0.5,
        "controls/dense-bytes/loss": 2.0,
        "budget_met": 1.0,
    }


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("task.data", "npz:/home/ann/hospital/x.npz", "npz:x.npz"),
        ("task.data", "npz:~/x.npz", "npz:x.npz"),
        ("prune.importance", "taylor", "taylor"),
        ("task.model", "/srv/nets/mine.py:make", "mine.py:make"),
        ("task.data", "hf-dataset:ann/x", "hf-dataset:ann/x"),
        ("task.clients", "7", 7),
    ],
)
def test_settings_are_flat_and_have_no_folders_of_this_machine(key, value, shown):
    config = load_config()
    section, _, name = key.partition(".")
    given = int(value) if isinstance(shown, int) else value
    part = getattr(config, section).model_copy(update={name: given})
    assert settings_of(config.model_copy(update={section: part}))[key] == shown


def test_settings_leave_out_places():
    found = settings_of(load_config(None, ["run.dir=/home/annika"]))
    assert {"run.dir", "task.data_dir", "prune.latency_table"}.isdisjoint(found)
    assert "annika" not in str(found)
