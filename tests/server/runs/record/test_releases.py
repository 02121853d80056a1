"""What a private run has released: rounds that are played again count where they tell
something else.
"""

from dataclasses import replace

import pytest
from helpers.small_drive import driven
from helpers.tiny_federation import make_setting, make_task

from fedprune.common.privacy.hiding import Privacy
from fedprune.common.privacy.noise import NoiseKey
from fedprune.common.privacy.spending import Release, Spending, releases_of, spent
from fedprune.server.runs.events import PrivacySpent, WarningGiven, of_kind
from fedprune.server.runs.record.releases import Releases
from fedprune.simulations.engines.engines import InProcessEngine

pytest.importorskip("dp_accounting")


class Others:
    """An engine whose clients say another loss than before."""

    def __init__(self, inner):
        self.inner = inner

    def ask(self, work):
        for part in self.inner.ask(work):
            records = tuple(replace(r, loss=r.loss + 0.5) for r in part.records)
            yield replace(part, records=records)


def play(folder, wrap):
    """Play two rounds and the closing one; return events and releases."""
    changes = {"privacy__epsilon": 8.0, "run__controls": []}
    task = make_task(rounds__warmup=2, rounds__cuts=0, rounds__final=0, **changes)
    spending = Spending(
        epsilon=8.0,
        delta=1e-5,
        multiplier=4.0,
        releases=releases_of(task.config),
    )
    privacy = Privacy(
        key=NoiseKey(bytes(range(32))), spending=spending, clip=task.config.privacy.clip
    )
    run_spec = replace(make_setting(task), privacy=privacy)
    releases = Releases(folder / "checkpoints", "main")
    engine = wrap(InProcessEngine(task, folder / "clients"))
    _, events = driven(folder, run_spec, task, engine, releases=releases)
    return events, releases.counts(), spending


def test_a_round_that_is_played_again_counts_where_it_tells_something_else(tmp_path):
    events, first, planned = play(tmp_path, lambda engine: engine)
    assert first == planned.releases
    once = [event.epsilon for event in of_kind(events, PrivacySpent)]
    assert once[-1] == spent(planned, planned.releases)

    again, same, _ = play(tmp_path, lambda engine: engine)
    assert same == first
    repeated = [event.epsilon for event in of_kind(again, PrivacySpent)]
    assert repeated == [once[-1]] * len(once)  # the later rounds have been told too

    others, more, _ = play(tmp_path, Others)
    assert more[Release.FIGURES] == 2 * first[Release.FIGURES]
    assert more[Release.DELTA] == first[Release.DELTA]
    last = list(of_kind(others, PrivacySpent))[-1]
    assert last.epsilon == spent(planned, more) > once[-1]


def test_more_than_was_wanted_is_warned_of(tmp_path, monkeypatch):
    monkeypatch.setattr("fedprune.server.runs.record.rounds.spent", lambda *_: 8.1)
    events, *_ = play(tmp_path, lambda engine: engine)
    texts = [event.text for event in of_kind(events, WarningGiven)]
    assert any("epsilon 8.1 is spent, and 8 was wanted" in text for text in texts)


def test_a_torn_line_is_none_and_the_next_one_is_read(tmp_path):
    _, first, _ = play(tmp_path, lambda engine: engine)
    file = tmp_path / "checkpoints" / "main-releases.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-5])
    torn = Releases(tmp_path / "checkpoints", "main").counts()
    assert sum(torn.values()) == sum(first.values()) - 1
    _, again, _ = play(tmp_path, lambda engine: engine)
    assert again == first
