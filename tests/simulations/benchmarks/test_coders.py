"""The benchmark of both coders: what is compared, and how a difference is told."""

import pytest

from fedprune.common import codec, native
from fedprune.common.native import choice
from fedprune.simulations.benchmarks import coders
from fedprune.simulations.benchmarks.kit.codec.drawn import DIGEST, draw, reply

KERNELS, WHY = choice.load(choice.LIBRARY)


def test_updates_follow_from_their_number_and_are_of_every_kind():
    drawn = [draw(number) for number in range(200)]
    assert {one.delta.kind for one in drawn} == set(codec.VALUES)
    assert {one.side_info.mask is None for one in drawn} == {True, False}
    assert any(len(one.delta.indices) == 0 for one in drawn)
    replies = [reply(number) for number in range(20)]
    assert replies == [reply(number) for number in range(20)]
    assert len(set(replies)) == 20
    assert {len(one) for one in replies} == {DIGEST}


def test_a_coder_that_writes_other_bytes_replies_differently(monkeypatch):
    before = reply(3)
    encode = codec.encode_delta
    monkeypatch.setattr(codec, "encode_delta", lambda *given: encode(*given) + b"x")
    assert reply(3) != before


@pytest.mark.skipif(KERNELS is None, reason=WHY)
def test_numpy_and_the_kernels_reply_alike(monkeypatch):
    found = []
    for kernels in (None, KERNELS):
        monkeypatch.setattr(native, "kernels", lambda kernels=kernels: kernels)
        found.append([reply(number) for number in range(50)])
    assert found[0] == found[1]


@pytest.mark.slow
@pytest.mark.skipif(KERNELS is None, reason=WHY)
def test_a_piece_is_two_processes_and_is_compared_once(monkeypatch, tmp_path):
    monkeypatch.setattr(coders, "SIZE", 20)
    given = ["--work", str(tmp_path), "--messages", "40"]
    assert coders.main([*given, "--now", "1", "--json", str(tmp_path / "a.json")]) == 0
    assert sorted(path.name for path in tmp_path.glob("coders*")) == [
        "coders-part-0.json"
    ]


def test_differing_messages_are_counted_and_named():
    found = {"part-0": {"messages": 50, "differ": []}}
    assert coders.figure(found).met is True
    found["part-1"] = {"messages": 50, "differ": [57, 60]}
    told = coders.figure(found)
    assert (told.value, told.met) == (2, False)
    assert told.detail.endswith("the first are numbers 57, 60")
