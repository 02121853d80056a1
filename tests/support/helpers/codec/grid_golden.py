"""Grid messages that were written down once, and what they say."""

import numpy as np

from fedprune.common.codec.grid.quantise import TOP, empty_grid, tidy
from fedprune.common.messages import GridWeights, ModelSpec, TensorSpec

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


MESSAGES = {
    "full": (
        "980107cc801407c42c369476359734c4135cb514026534eb049c34240008351e"
        "008c7e622d4853632d18c3620ed6245381781534f3c400c41077899e0faebfb7"
        "ed0c0bdc702247d978"
    ),
    "full, zeros": ("980107000000c400c400c410cfd1ef1e5401e6d8ff344742a428ec31"),
    "full, one level": (
        "980107cc800101c420b17447017489020074c9020074c9020074c9020074c902"
        "008931010066022200c400c41065210276d5f88d094b7c12a9c2eea2cb"
    ),
    "full, extreme": (
        "980107cc801e0ec42cf1a0bf00f1bfbf0071aabf00f1aabf0071abbf00f1bfbf"
        "00d6e3fda5d6e3fda5e37fe37fe37fe37fe37fe37fc41affffffffffffffffff"
        "fffffffffffffffffffffffffaaaaaaa80c41070e4be7288011455ebed796813"
        "625c8a"
    ),
    "full, large": (
        "98010748cd030d07c5025a112faf12023b1800901dee04ff085400e607b60074"
        "055c039d1381067f0880004e94683558543fd40cd59f2c9d8ced70fb2e90ce3c"
        "6f07af7d6eb2f99210b2adb719a498b7f8ef98de9eb6ccd64a97d51d871a57d5"
        "3cdf70c74f6fcdad66a0b5ad1269821d3de65bccd68a62b791b466eb3b71527d"
        "a54e8337cce527890f23beeac5262556e6b61fb3ff3ca9a665962dbbdfe48966"
        "c2ec834e4dff9efd0cdaaa4e6df98af78a3c5de91ff5efe4426be152f20a3030"
        "875a31771903ff8cf425d035ad8cccdbf348d32909226e7a5b4e786063646f2d"
        "0b8b13daf935610c25c891fb1c9288f45cd1a327e772de696fe1fe1268663728"
        "fe120d84ad18358bedda22720ccc4260a9ee72866b63c01d71aec917a0568df1"
        "530fb4dfa083abc61507ecd9d36d9b9a709989ba7ace187722b9033919770465"
        "ea03e610a1c69aabcbd1078a46cf5ef4deb858fb5e16421149d12d3f9ff8ed02"
        "6ddaa2cfc2c94a628d5f66f190939a8df190f0f8d3add753b21035ee9035e2f7"
        "0baf5ced1585a760a049458e096922e1393fa4a041a0fc7c05800602e8b95cea"
        "2fe31d96dddc6e7798783e8288e2ed7b867e637fb54c6f73ea446357aa1430bf"
        "2b5510b32f2f99e71e4ab2cf14d92ce7dd17cc00fc2129a9fa0ff838b9d83949"
        "2382ce7ea88a2992c42beaf7958d9b04bd4ba520aed2ef77385a1ece66dd449f"
        "ddabf11d3600c7dc823a4cd17bc4ee046970b272a03fd3c359ddb1a5046cefb9"
        "d39a94c39320abd954516a4e186552317bfbb51dd091c3668c4537b331a5fbb6"
        "aa2006825254fdb0c6aea5dec1caaf357e95376a28096772acf73d708df6626f"
        "62f82d7bcac4c921e0411020200086b010000788780dcb4402209c00cea0d00b"
        "611030223003629180d87000b010000788780dcb4402209c00cea0d00b611030"
        "223003629180d870c44d18b10822af023402cf20e8330860043c9e8c44d18b10"
        "822af023402cf20e8330860043c9c38f1c3c70e3c71e3871c38f1c3c70e3c71e"
        "3871c38f1c3c70e3c71e3871c38f1c3c70e3c71e3871c38f1c3c70e3c71e3871"
        "c38f1c3c70e3c71e3871c38f1c3c70e3c71e3871c38f1c3c70e3c71e3871c38f"
        "1c3c70e3c71e3871c38f1c3c70e3c71ec41025e95ee24c7faea4f2320e317225"
        "562a"
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
        "9a0108cd0102c410e93dc605a94e11535e7e10ff8ee57289cc80150fc42ef520"
        "8f08b51ff828048a9c08cf8ace01428b99258c1f3b0347ccc7d88cc203001212"
        "697d81dd85dd81dddb7f6b7dc40efffefffefffefffeffffffdab260c4101f78"
        "d1b8f1234a0617a61d9a32cee173"
    ),
    "full, by rows": (
        "980107cc90cd04b00ac4907b23862ad913e42f3b271c00123923003f13d910f9"
        "36e20e292005004b030600dcd41b950d554b34f2f1d3baeb98fa6a6a797e0a54"
        "b8d85f7ae40d4f4545a4ce5b363b3ecc20cc2039c539c5a425a425846d846dc4"
        "f2c4f22cdb2cdbf658f6580edb0edbf338f33869996999085d085d3b973b975e"
        "995e99165b165b34f334f35da75da746874687d56bd56b46464646c501d80000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000009"
        "2492492492492492492492492492492492492492492492492492492492492492"
        "4924924924924924924924924924924924924924924924924924924924924924"
        "9249249249249249249249249249249249249249249249249249249249249249"
        "2492492492492492492492492492492492492492492492492492492492492492"
        "49249249249249249249249249249249249249249240c410fb0faadf85cc106a"
        "9554aa7fbb5bbfe3"
    ),
    "change, large": (
        "9a0108cd0102c41018dbee2cc6ce0ed12742436f332ccfebcc80cc8d01c470e1"
        "f30e00a9d60b0095fe070099d80f0057cc0100e2d30100cfe30e00f7760100b9"
        "e09fe4104ae7bca52b6de712905721a6628893222e02939a3f6fc1cdf8538e82"
        "1552e3353d3e0fbd4f33e1cd606cfec9aadd7aeccf53fb7c5ec7eeb942c24ca4"
        "f1bdd4e3ef6932c342af84a1b2f2abc4020000c410dcb8a188c49bd4b18487ff"
        "cd244aa29a"
    ),
    "change, by weights": (
        "9a0108cd0102c41018dbee2cc6ce0ed12742436f332ccfebcc81cce404c47af2"
        "eaf300e8c70200a0ea9c1147e52300e0f04310dcc3160fc8e82700fffb0300b0"
        "423d642e7b98b6b2c900405861377fb3d520b8203d49b418f724ec32a8ec7b69"
        "7927ab99283b93921f9665e786fb94c5c01e8aacaf5ecdeedea6e495e4f2fc97"
        "1496b05d461e1327936c29d1a6d6ae64ddd189674210b767ddc400c41045edd3"
        "7b76382b423783383474f488a5"
    ),
}
