"""Code of one's own on a client: a plan names the function, the client the file."""

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
from fedprune.common.errors import ConfigError, PayloadError
from fedprune.common.messages import Phase
from fedprune.server.rounds.cycle import Cursor
from fedprune.server.rounds.plan import plan_round

SCORING = Cursor(phase=Phase.SPARSIFY, index=1, step=0.5)
KEYS = {
    "prune__importance": ("score", "def score(products):\n    return {}\n"),
    "client__penalty": ("shrink", "def shrink(channels, threshold):\n    return {}\n"),
    "update__choice": ("pick", "def pick(total, count):\n    return {}\n"),
}
RESULTS = {
    "prune__importance": (
        "abs(products).max(axis=0)",
        "(products ** 4).sum(axis=0)",
        "abs(products).max(axis=1)[:-1]",
    ),
    "client__penalty": (
        "(1 - threshold / channels.clamp(min=1e-9)).clamp(min=0)",
        "channels * 0 + 0.5",
        "(channels * 0 + 0.5)[:-3]",
    ),
    "update__choice": (
        "abs(total) > sorted(abs(total))[-count - 1]",
        "(total != 0).cumsum() <= count",
        "total",
    ),
}


class Federation:
    """A server whose configuration names code, and one client."""

    def __init__(self, root, key, reference):
        self.root, self.number = root, 0
        task = make_task(**{key: reference})
        run_spec = make_setting(task)
        self.state = replace(start(task, run_spec), cursor=SCORING)
        self.work = plan_round(self.state, run_spec)
        self.plan = plan_for(self.work)

    def ask(self, **changes):
        """Return the bytes of a client whose own configuration says other values."""
        self.number += 1
        cache = ModelCache(make_task(**changes))
        store = ClientStore(self.root / str(self.number), self.plan.client_id)
        return answer_to(self.plan, cache, store)

    def read(self, data):
        return codec.decode_update(
            data, self.work.expected(self.work.request.assignments[0])
        )


def write(path, key, result):
    name, text = KEYS[key]
    path.parent.mkdir(exist_ok=True)
    path.write_text(text.format(result), encoding="utf-8")
    return f"{path}:{name}"


@pytest.mark.parametrize("key", KEYS)
def test_a_client_runs_what_its_own_configuration_names(key, tmp_path):
    here, other, _ = RESULTS[key]
    servers = write(tmp_path / "server" / "mine.py", key, here)
    same = write(tmp_path / "device" / "theirs.py", key, here)
    another = write(tmp_path / "device" / "changed.py", key, other)
    federation = Federation(tmp_path, key, servers)
    field = key.rpartition("__")[2]
    assert getattr(federation.plan.settings, field) == f"own:{KEYS[key][0]}"
    answers = [federation.ask(**{key: name}) for name in (servers, same, another)]
    assert answers[0] == answers[1] != answers[2]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("own", ["the default", "another function"])
def test_a_client_whose_configuration_names_no_such_function_refuses(
    key, own, tmp_path
):
    name, _ = KEYS[key]
    reference = write(tmp_path / "mine.py", key, RESULTS[key][0])
    federation = Federation(tmp_path, key, reference)
    changes = {key: f"{tmp_path}/mine.py:other"} if own == "another function" else {}
    dotted = key.replace("__", ".")
    with pytest.raises(
        PayloadError, match=f"{dotted}.*'{name}'.*want 'file.py:{name}'"
    ):
        federation.ask(**changes)


@pytest.mark.parametrize("key", KEYS)
def test_a_registered_name_in_a_plan_is_not_replaced_by_code_of_the_clients(
    key, tmp_path
):
    path = tmp_path / "mine.py"
    path.write_text("open('executed', 'w').close()\n1 / 0\n", encoding="utf-8")
    federation = Federation(tmp_path, "rounds__cuts", 2)
    plain = federation.ask()
    assert federation.ask(**{key: f"{path}:{KEYS[key][0]}"}) == plain


@pytest.mark.parametrize("key", KEYS)
def test_what_an_own_function_must_not_return_is_one_line_of_its_name(key, tmp_path):
    reference = write(tmp_path / "mine.py", key, RESULTS[key][2])
    federation = Federation(tmp_path, key, reference)
    with pytest.raises(ConfigError, match=f"'{reference}' returned .*; want") as caught:
        federation.ask(**{key: reference})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["1.5", "-0.5", "float('nan')"])
def test_a_penalty_that_grows_or_turns_channels_is_refused(value, tmp_path):
    key = "client__penalty"
    reference = write(tmp_path / "mine.py", key, f"channels * 0 + {value}")
    federation = Federation(tmp_path, key, reference)
    with pytest.raises(ConfigError, match=f"'{reference}' returned .*; want .*0..1"):
        federation.ask(**{key: reference})


def test_draws_of_a_criterion_are_new_in_each_round(tmp_path):
    text = "def score(products, draws):\n    return draws\n"
    (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    key, reference = "prune__importance", f"{tmp_path / 'mine.py'}:score"
    federation = Federation(tmp_path, key, reference)
    scores = []
    for round_ in (1, 2, 2):
        federation.plan = replace(federation.plan, round=round_)
        federation.work = replace(federation.work, plan=federation.plan)
        scores.append(federation.read(federation.ask(**{key: reference})).importance)
    assert not np.array_equal(scores[0], scores[1])
    np.testing.assert_array_equal(scores[1], scores[2])
