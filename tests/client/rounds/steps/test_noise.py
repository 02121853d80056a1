"""A client adds the noise of its own configuration, or abstains."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.tiny_federation import (
    answer_to,
    make_setting,
    make_task,
    plan_for,
    start,
)

from fedprune.client.rounds.model_cache import ModelCache
from fedprune.client.rounds.store import ClientStore
from fedprune.common import codec
from fedprune.common.errors import DataError
from fedprune.common.messages import Phase
from fedprune.server.rounds.cycle import Cursor
from fedprune.server.rounds.plan import plan_round

SCORING = Cursor(phase=Phase.SPARSIFY, index=1, step=0.5)
QUIET = {"run__controls": [], "update__stateless": True}


@pytest.fixture(autouse=True)
def _own_state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


class Client:
    """One client with its own configuration, asked by a server with another."""

    def __init__(self, root, server=None, **own):
        asking = make_task(**(own if server is None else server))
        run_spec = make_setting(asking)
        state = replace(start(asking, run_spec), cursor=SCORING)
        work = plan_round(state, run_spec)
        self.plan = plan_for(work)
        self.asked = replace(work, plan=self.plan)
        self.cache = ModelCache(make_task(**own))
        self.store = ClientStore(root, self.plan.client_id)

    def answer(self):
        expected = self.asked.expected(self.asked.request.assignments[0])
        found = answer_to(self.plan, self.cache, self.store)
        return codec.decode_update(found, expected)


def test_an_answer_with_noise_is_another_and_counts_once(tmp_path):
    plain = Client(tmp_path / "a", **QUIET).answer()
    hidden = Client(tmp_path / "b", **QUIET, privacy__local_noise=0.5).answer()
    assert plain.num_examples > 1
    assert hidden.num_examples == 1
    assert hidden.loss != plain.loss
    assert not np.array_equal(hidden.importance, plain.importance)
    assert hidden.validation.count == 1


def test_the_same_round_has_the_same_noise(tmp_path):
    own = QUIET | {"privacy__local_noise": 0.5}
    first = Client(tmp_path / "a", **own)
    second = Client(tmp_path / "b", **own)
    answers = [answer_to(one.plan, one.cache, one.store) for one in (first, second)]
    assert answers[0] == answers[1]


def test_a_plan_that_asks_for_residuals_is_not_answered(tmp_path):
    client = Client(
        tmp_path, server={"run__controls": []}, **QUIET, privacy__local_noise=0.5
    )
    with pytest.raises(
        DataError, match=r"abstains: .*residuals; want update.stateless"
    ):
        client.answer()
    assert not (tmp_path / "state" / "privacy.key").exists()


def test_too_few_examples_are_not_counted_in_the_reason(tmp_path):
    """It goes to the server, from which their number is hidden."""
    client = Client(tmp_path, **QUIET, privacy__min_examples=10_000)
    with pytest.raises(DataError, match=r"min_examples is 10000") as error:
        client.answer()
    name = client.plan.client_id
    count = len(client.cache.data(name).train)
    assert str(count) not in str(error.value).replace("10000", "").replace(name, "")
