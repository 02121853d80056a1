"""Devices that are started alike on one machine take different identities."""

import contextlib
import os
import time

import pytest

from fedprune.common.errors import ConfigError
from fedprune.common.system import claim
from fedprune.common.system.claim import claimed, own_state


@pytest.fixture
def keys(tmp_path):
    for name in ("edge-02", "edge-01"):
        (tmp_path / "clients" / name).mkdir(parents=True)
        (tmp_path / "clients" / name / "node.key").write_text("x")
    return tmp_path / "clients"


@pytest.fixture
def state(tmp_path):
    return str(tmp_path / "state" / "{id}")


def test_each_takes_the_first_that_is_free_and_gives_it_back(keys, state):
    with claimed(keys, state) as first:
        with claimed(keys, state) as second:
            assert (first, second) == ("edge-01", "edge-02")
            with (
                pytest.raises(ConfigError, match=r"all 2 clients of .* are taken"),
                claimed(keys, state),
            ):
                pass
        with claimed(keys, state) as again:
            assert again == "edge-02"


def test_an_error_of_the_work_is_not_taken_for_a_taken_key(keys, state):
    def work():
        message = "no such data"
        raise ConfigError(message)

    with pytest.raises(ConfigError, match="no such data"), claimed(keys, state):
        work()


def test_without_keys_or_with_one_state_for_all_it_is_refused(keys, state, tmp_path):
    for where, folder, why in (
        (tmp_path, state, "has no NAME/node.key"),
        (keys, str(tmp_path), r"want \{id\} in it"),
    ):
        with pytest.raises(ConfigError, match=why), claimed(where, folder):
            pass


def test_a_health_check_finds_the_client_of_its_own_replica(
    keys, state, tmp_path, monkeypatch
):
    with contextlib.ExitStack() as stack:
        for host, name in (("replica-1", "edge-01"), ("replica-2", "edge-02")):
            monkeypatch.setattr(claim, "gethostname", lambda host=host: host)
            assert stack.enter_context(claimed(keys, state)) == name
            assert own_state(tmp_path / "state/{id}") == tmp_path / "state" / name
    monkeypatch.setattr(claim, "gethostname", lambda: "replica-3")
    with pytest.raises(ConfigError, match="no client of"):
        own_state(tmp_path / "state/{id}")


def test_of_two_claims_of_one_replica_the_last_counts(keys, state, tmp_path):
    for name in ("edge-01", "edge-02"):
        with claimed(keys, state):
            pass
        (tmp_path / "clients" / name / "node.key").unlink()
        past = time.time() - 60
        if name == "edge-01":
            os.utime(tmp_path / "state/edge-01/machine", (past, past))
    assert own_state(tmp_path / "state/{id}") == tmp_path / "state/edge-02"


def test_a_plain_folder_is_itself(tmp_path):
    assert own_state(tmp_path) == tmp_path
