"""Hostile answers in a whole run: refused and named; the run continues or stops."""

from contextlib import ExitStack

import numpy as np
import pytest
from helpers.forging import forging
from helpers.small_runs import events, figures, run_small

import fedprune.simulations.engines.worker
from fedprune.client.rounds.round import run_round
from fedprune.common.codec import Kind, seal, unseal
from fedprune.common.errors import DataError, RoundError
from fedprune.server.runs.events import ClientAnswered, RoundFinished, WarningGiven
from fedprune.simulations.runs.api import simulate

ROUNDS = {"rounds.warmup": 3, "rounds.cuts": 0, "rounds.final": 0}
MOST = 20000  # bytes of an answer that is read
RUN, ROUND, CLIENT, EXAMPLES, LOSS, DELTA, VALIDATION = 0, 1, 2, 5, 6, 7, 10


def edit(position, value):
    def change(answer):
        fields = list(unseal(answer, Kind.UPDATE, len(answer)))
        fields[position] = value(fields[position])
        return seal(Kind.UPDATE, fields)

    return change


def flip_a_bit(answer):
    return answer[:-40] + bytes([answer[-40] ^ 1]) + answer[-39:]


# What the client does to its honest answer -> the field that the refusal names.
ATTACKS = {
    "a flipped bit": (flip_a_bit, "digest"),
    "half of the bytes": (lambda a: a[: len(a) // 2], "message"),
    "nothing at all": (lambda _: b"", "message"),
    "oversized": (lambda a: a + bytes(MOST), "message"),
    "a round ago": (edit(ROUND, lambda r: r - 1), "round"),
    "another run": (edit(RUN, lambda r: r[::-1]), "run_id"),
    "in another's name": (edit(CLIENT, lambda _: "client-003"), "client_id"),
    "a loss of NaN": (edit(LOSS, lambda _: float("nan")), "loss"),
    "validation of NaN": (edit(VALIDATION, lambda v: [np.nan, *v[1:]]), "validation"),
    "a billion examples": (edit(EXAMPLES, lambda _: 10**9), "num_examples"),
    "an empty delta": (edit(DELTA, lambda _: b""), "delta"),
}


@pytest.fixture
def answer_with():
    """Let ``change(client id, round)`` return what is done to an answer, or None."""
    with ExitStack() as stack:

        def install(change):
            def forge(plan, answer):
                done = change(plan.client_id, plan.round)
                return answer if done is None else done(answer)

            stack.close()  # the change before this one
            stack.enter_context(forging(forge))

        yield install


@pytest.mark.slow
@pytest.mark.parametrize(("attack", "field"), ATTACKS.values(), ids=ATTACKS)
def test_a_hostile_answer_is_refused_by_name_and_the_round_goes_on(
    tmp_path, answer_with, attack, field
):
    def change(client, _round):
        return attack if client == clients[1] else None

    clients = ["client-000", "client-001", "client-002", "client-003"]
    answer_with(change)
    two = {"rounds.warmup": 1}  # and the closing round
    result = run_small(tmp_path, ROUNDS | two | {"update.max_bytes": MOST})
    asked = events(result.directory, ClientAnswered)
    clients_seen = sorted({e.client for e in asked})
    assert clients_seen == clients
    for event in asked:
        hostile = event.client == clients[1]
        assert event.status == ("refused" if hostile else "accepted")
        if hostile:
            assert f"client {clients[1]}: field '{field}" in event.reason
            assert event.num_examples == 0
    rounds = events(result.directory, RoundFinished)
    assert len(rounds) == result.summary["rounds"]
    assert {(e.accepted, e.refused) for e in rounds} == {(3, 1)}
    assert result.summary["refused"] == len(rounds)


@pytest.mark.slow
def test_a_refused_answer_leaves_no_trace_in_the_model(tmp_path, answer_with):
    answer_with(lambda client, _: flip_a_bit if client == "client-001" else None)
    refused = run_small(tmp_path / "refused", ROUNDS)

    def abstains(_answer):
        message = "stays silent"
        raise DataError(message)

    answer_with(lambda client, _: abstains if client == "client-001" else None)
    silent = run_small(tmp_path / "silent", ROUNDS)
    assert refused.summary["model_sha256"] == silent.summary["model_sha256"]


@pytest.mark.slow
def test_a_round_of_hostile_answers_only_ends_the_run_and_leaves_the_model(
    tmp_path, answer_with
):
    honest = run_small(tmp_path / "honest")
    answer_with(lambda _, round_: flip_a_bit if round_ == 3 else None)
    with pytest.raises(
        RoundError, match=r"round 3: .* field 'digest'.*; 0 of 4 "
    ) as error:
        run_small(tmp_path / "hostile")
    assert error.value.exit_code == 4
    (folder,) = (tmp_path / "hostile").iterdir()
    assert not (folder / "summary.json").exists()
    assert [e.round for e in events(folder, RoundFinished)] == [1, 2]
    assert all(e.round == 3 for e in events(folder, WarningGiven))
    files = sorted(p.name for p in (folder / "checkpoints").glob("*.safetensors"))
    assert files[-1] == "main-round-00002.safetensors"

    answer_with(lambda *_: None)
    resumed = simulate(resume_from=folder)
    assert figures(resumed.summary) == figures(honest.summary)


@pytest.mark.slow
def test_a_client_whose_code_raises_fails_alone_and_with_its_reason(
    tmp_path, monkeypatch
):
    def raises(opened, cache, store):
        if opened.plan.client_id == "client-002":
            message = "boom"
            raise ZeroDivisionError(message)
        return run_round(opened, cache, store)

    monkeypatch.setattr(fedprune.simulations.engines.worker, "run_round", raises)
    result = run_small(tmp_path, ROUNDS)
    failed = [
        e for e in events(result.directory, ClientAnswered) if e.status == "failed"
    ]
    assert {e.client for e in failed} == {"client-002"}
    assert all("ZeroDivisionError: boom" in e.reason for e in failed)
    assert {e.accepted for e in events(result.directory, RoundFinished)} == {3}
