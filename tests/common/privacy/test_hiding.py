"""Noise that sums of integers cannot hold is refused before a run begins."""

import pytest
from helpers.tiny_federation import make_config

from fedprune.common.errors import ConfigError
from fedprune.common.privacy.hiding import privacy_of

pytest.importorskip("dp_accounting")


def test_a_clip_that_makes_too_much_noise_is_refused_before_a_key_is_made(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("FEDPRUNE_STATE", str(tmp_path / "state"))
    wanted = {"privacy__epsilon": 8.0, "run__controls": []}
    with pytest.raises(ConfigError, match=r"smaller privacy\.clip"):
        privacy_of(make_config(**wanted, privacy__clip=1e9), moments=True)
    assert not (tmp_path / "state" / "privacy.key").exists()
    assert privacy_of(make_config(**wanted), moments=True) is not None
