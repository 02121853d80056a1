"""The first-aid benchmark: its figures, its stored results, and lies that are valid."""

import json
import math
from contextlib import suppress
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from helpers.tiny_federation import (
    ask_all,
    make_setting,
    make_task,
    start,
    tiny_structure,
)

from fedprune.common import codec
from fedprune.common.errors import IntegrityError
from fedprune.common.messages import ClientUpdate, Phase
from fedprune.server.rounds.cycle import Cursor
from fedprune.server.rounds.plan import plan_round
from fedprune.server.rounds.records import Status
from fedprune.simulations.benchmarks import firstaid
from fedprune.simulations.benchmarks.kit import resnet20
from fedprune.simulations.benchmarks.kit.rows import RowStore, interval, spread_text
from fedprune.simulations.benchmarks.kit.votes import loss_rises, spearman
from fedprune.simulations.engines import hostile as lies

# Attack -> the fields of the answer that it alters.
ALTERED = {
    "examples x 1000, sign flipped": {"num_examples", "delta"},
    "delta x 100": {"delta"},
    "delta x 100, sign flipped": {"delta"},
    "moments, most examples": {"statistics"},
    "moments, own examples": {"statistics"},
    "validation bad after cuts": {"validation"},
    "validation always good": {"validation"},
}


def same(first, second):
    if isinstance(first, np.ndarray):
        return np.array_equal(first, second)
    if hasattr(first, "__dataclass_fields__"):
        names = [field.name for field in fields(first)]
        return all(same(getattr(first, n), getattr(second, n)) for n in names)
    return first == second


def answers(tmp_path, attack, phase):
    """Return the honest and the altered answer of one client, and its record."""
    task = make_task()
    run_spec = make_setting(task)
    state = replace(start(task, run_spec), cursor=Cursor(phase=phase))
    work = plan_round(state, run_spec)
    liar = task.clients[1]
    kept = {}

    def forge(scene, honest):
        if scene.plan.client_id != liar:
            return honest
        kept["honest"] = honest
        kept["lie"] = lies.altered(lies.ATTACKS[attack], scene, honest)
        return kept["lie"]

    with lies.hostile(forge):
        found = ask_all(work, task, tmp_path)
    order = work.request.assignments[1]
    expected = work.expected(order)
    read = {name: codec.decode_update(data, expected) for name, data in kept.items()}
    records = {record.client_id: record for record in found.records}
    return read["honest"], read["lie"], work.spec, records


@pytest.mark.parametrize("attack", lies.ATTACKS)
def test_a_hostile_answer_is_a_valid_message_that_says_something_else(tmp_path, attack):
    honest, lie, _, records = answers(tmp_path, attack, Phase.FINETUNE)
    names = [field.name for field in fields(ClientUpdate)]
    changed = {n for n in names if not same(getattr(honest, n), getattr(lie, n))}
    assert changed == ALTERED[attack]
    assert {r.status for r in records.values()} == {Status.ACCEPTED}


def test_the_lies_are_as_large_as_they_say(tmp_path):
    flipped = answers(tmp_path / "1", "examples x 1000, sign flipped", Phase.WARMUP)
    honest, lie, spec, _ = flipped
    assert lie.num_examples == 1000 * honest.num_examples
    true, said = (codec.dequantise_delta(u.delta, spec) for u in (honest, lie))
    assert np.array_equal(true.indices, said.indices)
    assert np.allclose(said.values, -true.values, rtol=0.1)

    honest, lie, spec, _ = answers(tmp_path / "2", "delta x 100", Phase.WARMUP)
    true, said = (codec.dequantise_delta(u.delta, spec) for u in (honest, lie))
    norms = [float(np.linalg.norm(delta.values)) for delta in (true, said)]
    assert norms[1] == pytest.approx(100 * norms[0], rel=0.02)

    honest, lie, *_ = answers(tmp_path / "3", "moments, own examples", Phase.WARMUP)
    assert np.all(lie.statistics.mean == 50)
    assert lie.statistics.num_examples == honest.statistics.num_examples


def test_a_liar_about_cuts_is_honest_before_them(tmp_path):
    honest, lie, *_ = answers(tmp_path, "validation bad after cuts", Phase.WARMUP)
    assert same(honest, lie)


def test_the_honest_code_is_back_after_the_block_even_when_it_fails():
    import fedprune.simulations.engines.worker

    before = fedprune.simulations.engines.worker.run_round
    with suppress(ValueError), lies.hostile(lambda _, answer: answer):
        assert fedprune.simulations.engines.worker.run_round is not before
        raise ValueError
    assert fedprune.simulations.engines.worker.run_round is before


def test_a_kept_result_is_not_measured_again(tmp_path):
    calls = []

    def work():
        calls.append(1)
        return {"accuracy": 0.5}

    for _ in range(2):
        found = RowStore(tmp_path / "new").get("row", work)
        assert found["accuracy"] == 0.5
    assert len(calls) == 1
    RowStore(tmp_path / "other").get("row", work)
    assert len(calls) == 2


@pytest.mark.parametrize("text", ["{", "[]", '{"accuracy": 1}'])
def test_a_broken_kept_result_is_refused_by_its_path(tmp_path, text):
    (tmp_path / "row.json").write_text(text)
    with pytest.raises(IntegrityError, match=r"row\.json.* stored result"):
        RowStore(tmp_path).get("row", dict)


def test_a_measurement_that_fails_leaves_nothing_behind(tmp_path):
    def fails():
        message = "no"
        raise ValueError(message)

    with pytest.raises(ValueError, match="no"):
        RowStore(tmp_path).get("row", fails)
    assert not list(tmp_path.iterdir())


def test_rank_correlations_are_those_worked_out_by_hand():
    assert spearman([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1)
    assert spearman([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    assert spearman([1, 2, 3], [10, 20, 15]) == pytest.approx(0.5)
    # Ties share their mean rank: 1.5, 1.5, 3 against 1, 2, 3.
    assert spearman([5, 5, 9], [1, 2, 3]) == pytest.approx(math.sqrt(0.75))
    assert spearman([7, 7, 7], [1, 2, 3]) == 0


def test_intervals_are_those_worked_out_by_hand():
    mean, half = interval([1.0, 2.0, 3.0])
    assert (mean, half) == (2.0, pytest.approx(4.302653 / math.sqrt(3)))
    assert math.isnan(interval([1.0])[1])
    assert spread_text([1.0]) == "n = 1, no interval: +1.00"
    assert spread_text([1.0, 1.0]).startswith("95 % interval +1.00 to +1.00, n = 2")


def test_a_unit_that_does_nothing_costs_no_loss_and_the_network_stays():
    task = make_task()
    model = task.build_model().eval()
    with torch.no_grad():
        for tensor in (model.bn1.weight, model.bn1.bias):
            tensor[3] = 0.0  # unit 11: the fourth channel inside the block
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rises = loss_rises(model, tiny_structure(), task.dataset.train, task)
    assert rises[11] == 0.0
    assert np.count_nonzero(rises) == 15
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_rows_are_run_one_by_one_and_the_figures_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(
        firstaid,
        "measure_attack",
        lambda attack, seed: {"accuracy_final": 0.5 if attack else 0.9 + seed / 100},
    )
    arguments = ["--rows", "attacks", "--seeds", "2", "--work", str(tmp_path / "work")]
    target = tmp_path / "figures.json"
    assert firstaid.main([*arguments, "--json", str(target)]) == 0
    found = {f["name"]: f for f in json.loads(target.read_bytes())["figures"]}
    assert len(found) == 1 + len(lies.ATTACKS)
    lost = found["attacks: delta x 100, accuracy lost"]
    assert (lost["value"], lost["met"]) == (pytest.approx(40.5), False)
    assert len(list((tmp_path / "work").iterdir())) == 2 * len(found)
    assert firstaid.main([*arguments, "--check"]) == 1


def test_without_the_pretrained_weights_the_row_says_that_it_did_not_run(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("FEDPRUNE_DATA", str(tmp_path))
    assert firstaid.main(["--rows", "pretrained", "--work", str(tmp_path)]) == 0
    assert "not run" in capsys.readouterr().out


def test_the_pretrained_network_has_the_parameters_of_its_weights():
    model = resnet20.ResNet20()
    assert sum(p.numel() for p in model.parameters()) == 269_722
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
