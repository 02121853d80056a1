"""Broadcasts on a grid, version 1, as bytes: they are the same integers for ever."""

import numpy as np
import pytest

from common import codec
from common.codec.grid import TOP, empty_grid, tidy
from common.messages import GridWeights, ModelSpec, TensorSpec

SPEC = ModelSpec(
    tensors=(
        TensorSpec(name="w", shape=(4, 3, 2)),
        TensorSpec(name="none", shape=(0, 3)),
        TensorSpec(name="b", shape=(5,)),
        TensorSpec(name="one", shape=()),
    ),
    moments=0,
    units=0,
)
LARGE = ModelSpec(tensors=(TensorSpec(name="w", shape=(40, 30)),), moments=0, units=0)


def by_hand(spec: ModelSpec, turn: int) -> GridWeights:
    """Return a grid without a generator: no stream may change these messages."""
    numbers = np.arange(spec.size)
    levels = (numbers * 37 % 41 - 20) * (numbers % 3 > 0) * (1 + numbers % 5)
    levels = levels + (numbers * 11 % 17 < turn)
    rows = np.arange(spec.rows)
    return tidy((40 + rows % 3).astype(np.uint8), levels.astype(np.int16), spec)


def inputs() -> dict[str, tuple[ModelSpec, GridWeights, GridWeights | None]]:
    """Return shapes, grid and base (None for a message that stands alone)."""
    first, second = by_hand(SPEC, 0), by_hand(SPEC, 3)
    coarser = tidy(
        (first.codes + (np.arange(SPEC.rows) % 2)).astype(np.uint8),
        (first.levels // 2).astype(np.int16),
        SPEC,
    )
    extreme = tidy(
        np.array([1, 63, 20, 21, 22, 63], np.uint8),
        np.where(np.arange(SPEC.size) % 2, TOP, -TOP).astype(np.int16),
        SPEC,
    )
    large = by_hand(LARGE, 0)
    outer = np.where(np.abs(large.levels) > 40, np.sign(large.levels), 0)
    outer = outer * np.where(np.abs(large.levels) > 70, 9, 2)
    grown = tidy(large.codes, (large.levels + outer).astype(np.int16), LARGE)
    numbers = np.arange(LARGE.size)
    of_rows = (1 << (numbers // 30 % 4 * 3)) * np.where(numbers % 3, 1, -1)
    ladder = tidy(large.codes, of_rows.astype(np.int16), LARGE)
    one = tidy(first.codes, (np.arange(SPEC.size) == 7).astype(np.int16), SPEC)
    return {
        "full": (SPEC, first, None),
        "full, zeros": (SPEC, empty_grid(SPEC), None),
        "full, one level": (SPEC, one, None),
        "full, extreme": (SPEC, extreme, None),
        "full, large": (LARGE, large, None),
        "change": (SPEC, second, first),
        "change of nothing": (SPEC, first, first),
        "change of steps": (SPEC, coarser, first),
        "change to zeros": (SPEC, empty_grid(SPEC), first),
        "change, extreme": (SPEC, extreme, first),
        "full, by rows": (LARGE, ladder, None),
        "change, large": (LARGE, by_hand(LARGE, 2), large),
        "change, by weights": (LARGE, grown, large),
    }


def encode(spec: ModelSpec, grid: GridWeights, base: GridWeights | None) -> bytes:
    if base is None:
        return codec.encode_full(grid, spec)
    name = codec.BaseName(round=258, name=base.name)
    return codec.encode_change(grid, spec, name, base)


MESSAGES = {
    "full": (
        "980107cc801407c42c2194b3438914df172bb50f025234be049c34240008351e"
        "008c7e622d4853632d18c3620ebc3097c1eb941a13c400c410f2b6047d663b26"
        "3d7385d2e5f5c0ae52"
    ),
    "full, zeros": ("980107000000c400c400c410cfd1ef1e5401e6d8ff344742a428ec31"),
    "full, one level": (
        "980107cc800101c420b17447017489020074c9020074c9020074c9020074c902"
        "008931010066022200c400c41065210276d5f88d094b7c12a9c2eea2cb"
    ),
    "full, extreme": (
        "980107cc801e0ec42cc4204200c43f4200442a4200c42a4200442b4200c43f42"
        "00e36b0862e36b0862f8e5f8e5f8e5f8e5f8e5f8e5c41affffffffffffffffff"
        "fffffffffffffffffffffffffaaaaaaa80c4100e1ffbd77fecfdf7f13a276ae3"
        "3477d1"
    ),
    "full, large": (
        "98010748cd030d07c5025a352f4d0a3e0c0900b509cd00d0170d00a41f1803c4"
        "3ad50263289f03ed1b19004894ce3478954bd49f6f4a7d83e8964e452e6a8e4a"
        "af5baea20b9c98a02d398f54f4091706142c34069d4a3f3b584ae0bceb724b57"
        "178b07cb815e98c1f304d3eb5296e2bfbd429cecb6f4822af1580669fc9b9369"
        "853d4cce8740703b1edc054c479c2e07854946eb8dc39f2e0979057b2dc8ac80"
        "1fb1a9a0833c4d6adfe28b3fed73b2bbcabeaafdc19caa537cee6fdfa20b271f"
        "714440cf79b89ea733d4f385ad483e5e363057f2e8a9aeed15349b31194f4e10"
        "ecea942a3a48e12025e6e9455188fc35c75ce449d011467d7efe1e0668411739"
        "5e71c991ccd624f90c443655eb41ae0c4d42294ed25f3fa02b070ec2c95fd94e"
        "7e05d5e1542c805963509ddf2b5ae37d139d5b7a36c7188e2129a358b899bbd8"
        "7a796433aa4907649d414c03a83b857faf105fff3ede41adc9a18d94b6852d31"
        "8c7ba27da2cd296e0f478d6be1d1cf7e5ad4d48130e218bdfe6b3271141d778b"
        "017a8b197cce06b12030057389fb390dc2f9633a81bc9b10bc4b25a2e703dc97"
        "50e55d211d894ef5779d7e2d48d5ad15c6c963861631ef80cadc63620a0770d4"
        "cbd2907d0f04d929fe9ab2059565ec505d688bcc9c6fa90d5bf5f75f1957e077"
        "90e4d9f0c3b499f248108a7d76ed9a5bfc6825853dc10fbd58467e2508f7a4e2"
        "9ee4fd72162cc88662e22b0a1c6bcf92cdb948a19243d1c19185d97b04b90e8f"
        "bef73489935babdfd435ea10988bd2d8fa511625907d43172dc8d623d213bb37"
        "24816a53e6745dbb269f85cbe1f6cf4b1ec61849284c670c8dfd1dcbecba02ad"
        "026aee89aac4c921e0411020200086b010000788780dcb4402209c00cea0d00b"
        "611030223003629180d87000b010000788780dcb4402209c00cea0d00b611030"
        "223003629180d870c44d18b10822af023402cf20e8330860043c9e8c44d18b10"
        "822af023402cf20e8330860043c9c38f1c3c70e3c71e3871c38f1c3c70e3c71e"
        "3871c38f1c3c70e3c71e3871c38f1c3c70e3c71e3871c38f1c3c70e3c71e3871"
        "c38f1c3c70e3c71e3871c38f1c3c70e3c71e3871c38f1c3c70e3c71e3871c38f"
        "1c3c70e3c71e3871c38f1c3c70e3c71ec41018cfec13b3403c5c7593983d8b0a"
        "32f8"
    ),
    "change": (
        "9a0108cd0102c410e93dc605a94e11535e7e10ff8ee57289cc800501c420cc47"
        "2f0055c02800b9c7090067f22e001f752700dae70400451d090099f20100c400"
        "c4105b6b3ae1da8a929a84d7aca482d17dac"
    ),
    "change of nothing": (
        "9a0108cd0102c410e93dc605a94e11535e7e10ff8ee57289000000c400c400c4"
        "10a335ea6e3d6db09f409117d307e2d4e4"
    ),
    "change of steps": (
        "9a0108cd0102c410e93dc605a94e11535e7e10ff8ee57289cc800f05c4266655"
        "2300981412008955120051821f485162134851225248f67804124394c1007cd6"
        "16b94d32c400c4101b626b7ec5c40b86b0c1b71a4599c3b1"
    ),
    "change to zeros": (
        "9a0108cd0102c410e93dc605a94e11535e7e10ff8ee57289000000c4203020e0"
        "0b3020e00b3020e00b3020e00b3020e00b3020e00b0000010000000100c400c4"
        "10dec7d5d60ca811dc2b8fa1889d3274e4"
    ),
    "change, extreme": (
        "9a0108cd0102c410e93dc605a94e11535e7e10ff8ee57289cc80150fc42efc00"
        "6604afbf3017458a4b048a8add00162b47138c1f3b0347ccc7d88cc203006762"
        "121294b7697d45bd773d551dc40efffefffefffefffeffffffdab260c410420e"
        "37da33b64c8b693b3ebdbb62f568"
    ),
    "full, by rows": (
        "980107cc90cd04b00ac47c002ca801ca2cea01488601003b9801002127a701e1"
        "04650190292dbc183f36d0aabcbb0951d0e1f56e18af0d506c19f4c34ee29d50"
        "0081ac4cc0ab4c37b497dda1d181d981608160ee80ee80e954e9548248824869"
        "1869185d9b5d9b02170217c518c518221922191f181f1843a843a8e0b2e0b2dd"
        "c4ddc4dfb0dfb0c501d800000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000092492492492492492492492492492492492492492"
        "4924924924924924924924924924924924924924924924924924924924924924"
        "9249249249249249249249249249249249249249249249249249249249249249"
        "2492492492492492492492492492492492492492492492492492492492492492"
        "4924924924924924924924924924924924924924924924924924924924924924"
        "9240c4101c37ec258d75e3b90376fb7a203b1b7f"
    ),
    "change, large": (
        "9a0108cd0102c41018dbee2cc6ce0ed12742436f332ccfebcc80cc8d01c470af"
        "cf17004efe150065e2150016f4170048c20300dff00200f3ca110051ee020015"
        "0d0566bb0fce12c3f79ea606301357b0aa35b6d9e8d239489d2bb36b4202abe9"
        "7ea27c4cc0d37c2b7788b3596d71c316be1d213dcca44cafc1d5e1a7cd2fabb8"
        "7edc36faf554da8ac2be12e1f573eec4020000c41061fa67573b0da4d9074ed8"
        "6607eef1cf"
    ),
    "change, by weights": (
        "9a0108cd0102c41018dbee2cc6ce0ed12742436f332ccfebcc81cce404c47a65"
        "f0c70166ed0e002af35709cec85d00f0e7931779f51d0234c7e000dee30700ee"
        "383fde7517e9263b611e8fbe2e3536429342623276cf682df04429a4e5d99839"
        "6ab0e86407f488525a2f51feb0fade4d2689b378c50558fc05f0c4d9c45fa4a5"
        "151e57f531522b200a9e292972f4c704f897e5556c4f3dcbbac400c410ecc560"
        "0ecc36dd6df09d103852979d3b"
    ),
}


@pytest.mark.parametrize("name", list(inputs()))
def test_a_broadcast_of_version_1_is_read_and_written_as_ever(name):
    spec, wanted, base = inputs()[name]
    data = bytes.fromhex(MESSAGES[name])
    if base is None:
        found = codec.decode_full(data, spec)
    else:
        assert codec.base_name(data, spec) == codec.BaseName(round=258, name=base.name)
        found = codec.decode_change(data, spec, base, base)
    assert found.codes.tolist() == wanted.codes.tolist()
    assert found.levels.tolist() == wanted.levels.tolist()
    assert encode(spec, wanted, base).hex() == MESSAGES[name]


def test_the_golden_broadcasts_use_all_contexts_of_small_messages():
    heads = [codec.unseal(bytes.fromhex(m), k, 1 << 20) for m, k in _kinds()]
    recipes = [head[-5] for head in heads]
    used = {bit for recipe in recipes for bit in range(8) if recipe >> bit & 1}
    assert {0, 3, 4, 6, 7} <= used  # base, columns, row_sizes, coarse, flat
    assert not {1, 2} & used  # last, agreed
    assert {head[-3] for head in heads} >= {0, 1, 15}


def _kinds() -> list[tuple[str, codec.Kind]]:
    return [
        (data, codec.Kind.FULL if name.startswith("full") else codec.Kind.CHANGE)
        for name, data in MESSAGES.items()
    ]
