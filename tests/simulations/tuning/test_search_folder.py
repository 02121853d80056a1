"""The folder of a search: nothing that it claims goes unchecked, nothing is used up."""

from dataclasses import replace

import pytest
from helpers.small_runs import SMALL
from helpers.some_events import STARTED

from fedprune.common.config import load_config
from fedprune.common.errors import FedPruneError, IntegrityError
from fedprune.server.runs.events import EventLog
from fedprune.simulations.tuning import search as searching
from fedprune.simulations.tuning.folder import new_folder, open_folder
from fedprune.simulations.tuning.record import Reference, Trial, write_record
from fedprune.simulations.tuning.search import Search
from fedprune.simulations.tuning.space import Space
from fedprune.simulations.tuning.target import parse_target

TARGET = parse_target("accuracy_drop<=1, params<=0.4")


@pytest.fixture
def new(tmp_path):
    """Return folder and record of a search that has just begun, and its first point."""
    config = load_config(None, SMALL)
    folder, record = new_folder(config, TARGET, 3, tmp_path / "search")
    return folder, record, Space(base=config, target=TARGET).first()[0]


@pytest.mark.parametrize(
    "change",
    [
        {"task.use": "evil.py:Task"},
        {"task.data": "evil.py:load"},
        {"prune.importance": "evil.py:score"},
        {"run.dir": "/elsewhere"},
        {"client.strength": 7.0},
        {"widths": 0.0},
    ],
)
def test_a_trial_that_no_search_draws_is_refused(new, change):
    folder, record, point = new
    write_record(folder, record.with_trial(Trial(number=1, point=dict(point))))
    assert open_folder(folder, None, trust_code=True).trials[0].point == point
    forged = record.with_trial(Trial(number=1, point={**point, **change}))
    write_record(folder, forged)
    with pytest.raises(IntegrityError, match="trial 1 are none of this search"):
        open_folder(folder, None, trust_code=True)


@pytest.mark.parametrize("name", ["..", ".", ".hidden"])
def test_a_run_folder_lies_in_that_of_the_search(new, name):
    folder, record, point = new
    write_record(
        folder,
        record.with_trial(Trial.model_construct(number=1, point=dict(point), run=name)),
    )
    with pytest.raises(IntegrityError, match=r"trials\.0\.run"):
        open_folder(folder, None, trust_code=True)


@pytest.mark.parametrize(("trials", "ended"), [(3, 3), (20, 3)])
def test_a_cause_outside_of_the_settings_does_not_use_up_the_trials(
    new, monkeypatch, trials, ended
):
    folder, record, point = new

    def fail(*_words, **_more):
        message = "no space left"
        raise OSError(message)

    monkeypatch.setattr(searching, "next_point", lambda *_words: point)
    monkeypatch.setattr(searching.runs, "run", fail)
    reference = Reference(run="dense", finished=True)
    change = {"reference": reference, "trials_wanted": trials}
    search = Search(folder=folder, record=record.model_copy(update=change), say=print)
    if trials > ended:
        with pytest.raises(FedPruneError, match="3 trials in a row failed alike: OSE"):
            search.run()
    else:
        search.run()  # they have all ended: the command says so
    assert len(search.record.ended) == ended


@pytest.mark.parametrize(("better", "told"), [("higher", 2.5), ("lower", -2.5)])
def test_the_sampler_is_told_how_good_a_stopped_trial_was(
    new, monkeypatch, better, told
):
    folder, record, point = new
    found = []

    def ask(_space, seen, _seed):
        found.extend(seen)
        raise KeyboardInterrupt

    (folder / "dense").mkdir()
    with EventLog(folder / "dense" / "events.jsonl") as log:
        log.write(replace(STARTED, better=better))
    stopped = Trial(number=1, point=dict(point), status="stopped", rungs=((5, 2.5),))
    record = record.model_copy(
        update={"reference": Reference(run="dense", finished=True)}
    )
    monkeypatch.setattr(searching, "next_point", ask)
    search = Search(folder=folder, record=record.with_trial(stopped), say=print)
    with pytest.raises(KeyboardInterrupt):
        search.run()
    assert found[0].rungs == {5: told}
