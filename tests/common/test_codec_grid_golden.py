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
        "98010748cd030d07c5025adf20c219bd332c00d015900ad038a600f52cea01d0"
        "15900a221fcb173a1407014b144b3532d403eff66aafb80e6b79b5442e5b4e75"
        "ce9798ce0699b7aa5098ed01b109a2c1af031369295c197cbf350abf2b6d02d6"
        "cf23240e2f115e71c43d16e1b29d9d33fc732577dce521f5e4f767879cae3179"
        "a53da3473edd653ffed21e136a32a5ce66c69fc2bf3249c7e545cdd23fb7c9df"
        "81ad233b8db65e10edcc4b3f2dfdcab54a031cf0dfeb8fdd424d41c412eeaf53"
        "2722518a5e2034b7f3b8af3e8d5c6b717408934e6955aea53be118fba2bd2e68"
        "0bd433ea593b41ee64df50a9ddb148addc9e6358e69f7e614ff57e89c76c37f9"
        "fd910c506dfef551adddc29d4be5e2276905d34b6bb72e7dc024f196a94f6d93"
        "d393149740878be956fbcb12749b5b8c708089bd3a1f789362b6831339b50414"
        "8aae2514a19b1a5c8c0ea771e6a73eee1e03b8e47e56e27769f40d733ffe0d5a"
        "2dbdc2abc2d62a8e4d62a67011541ab8519b90825426b831934c3427518ac150"
        "2be1fb6f954fc7968038e51f29b641a97937a45f21d63b7d05f6e5124799fc13"
        "50be1d875d120e1718c43e7788b90d28065b231d56db8e53eaf2e32baa28102e"
        "2c54106e6ef6392c7e4fd3dbd36c2cdfdd16ccd61b950950db6818d69941b98d"
        "e3edce7da8362a90c4666a9b96827bebbc83c5f74eb2cf7138717ec407da44b6"
        "dd05122536c28793a2bd6b281cc4eef68842936400c3f1eb78dff1cb245d0eb2"
        "b3f053f6d3f6cbbf1372ca2d38e651327b20360bf025c358cd141726f30c7b3b"
        "8ad1657a52197ead2699a552c282ef105f99376728090794cc179e145f55ccf4"
        "626e62444ac4c921e0411020200086b010000788780dcb4402209c00cea0d00b"
        "611030223003629180d87000b010000788780dcb4402209c00cea0d00b611030"
        "223003629180d870c44d18b10822af023402cf20e8330860043c9e8c44d18b10"
        "822af023402cf20e8330860043c9c38f1c3c70e3c71e3871c38f1c3c70e3c71e"
        "3871c38f1c3c70e3c71e3871c38f1c3c70e3c71e3871c38f1c3c70e3c71e3871"
        "c38f1c3c70e3c71e3871c38f1c3c70e3c71e3871c38f1c3c70e3c71e3871c38f"
        "1c3c70e3c71e3871c38f1c3c70e3c71ec4100c986b3a7a9acd2d9fd2c2c7c402"
        "04aa"
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
        "980107cc90cd04b00ac4780c0b34006a023c002c1075444118334f3e3542008e"
        "1a39002b189e21610f48251275151417d4f5144bf15bbae31b45aa15c0242c1a"
        "203d2c7036f41ba29302bd8ea08ea0e740e7407d347d34eb43eb439f3a9f3a7e"
        "e87ee819511951b078b07804b904b9ca7bca7bb38db38d625c625ca072a072f4"
        "8bf48bc501d80000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000009249249249249249249249249249249249249249249249249"
        "2492492492492492492492492492492492492492492492492492492492492492"
        "4924924924924924924924924924924924924924924924924924924924924924"
        "9249249249249249249249249249249249249249249249249249249249249249"
        "249249249249249249249249249249249249249249249249249249249240c410"
        "7dfb59e6ca0e7706c4e306fe4dd2bfb9"
    ),
    "change, large": (
        "9a0108cd0102c41018dbee2cc6ce0ed12742436f332ccfebcc80cc8d01c47043"
        "d51b0016fd1500eedd150057f81700e9e70300a0f302003fc61100c0ed0200c4"
        "233e43d26e034ff0ac422a6c50576b8bfb9ac5945455741834443478a6c7ef75"
        "caf367f02be0e0afba3a2f0d2997cf88a0a099dad186ee82e9dc2cd17a01bd7e"
        "3dbf6a3a965e907aa4b7950115fe0fc4020000c4109d2a1cc752d3ea19590b8a"
        "533f0a9c4f"
    ),
    "change, by weights": (
        "9a0108cd0102c41018dbee2cc6ce0ed12742436f332ccfebcc81cce404c47a6e"
        "c6ab02e7c7020044f7390c51d61d0030c8ec0ab0d7c90215c0270052ff0200ba"
        "c795860827047bc836bad66adee3531875840f660ee405d57ae5c516740ef31f"
        "90dfa231174c0851133c74d96724d919b010a597c88aa69a67a9c486c4b644f7"
        "4865f0d0641c93dce1ab856d2de1aae11eee825449527dd63cc400c41096c498"
        "51e787f00eb0fce649bf744c47"
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
