"""Grid messages that were written down once, and what they say."""

import numpy as np

from fedprune.common.codec.grid.quantise import TOP, empty_grid, tidy
from fedprune.common.messages import GridWeights
from fedprune.common.spec import ModelSpec, TensorSpec

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
        "980207401407c42c369476359734c4135cb514026534eb049c34240008351e00"
        "8c7e622d4853632d18c3620ed6245381781534f3c400c410d2123326a395dd65"
        "f4ae457d0e379955"
    ),
    "full, zeros": ("980207000000c400c400c410c09b5b66efb1d697ccd15b28178dc73b"),
    "full, one level": (
        "980207400101c420b17447017489020074c9020074c9020074c9020074c90200"
        "8931010066022200c400c410f41bf51677de798e2d80aef9790038c3"
    ),
    "full, extreme": (
        "980207401e0ec42cf1a0bf00f1bfbf0071aabf00f1aabf0071abbf00f1bfbf00"
        "d6e3fda5d6e3fda5e37fe37fe37fe37fe37fe37fc41affffffffffffffffffff"
        "fffffffffffffffffffffffaaaaaaa80c410213cecdf69b1b380cc707028fd3e"
        "a6bc"
    ),
    "full, large": (
        "98020724cd030d07c5025a112faf12023b1800901dee04ff085400e607b60074"
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
        "1c3c70e3c71e3871c38f1c3c70e3c71ec410c9076a08b03997cf2196d1bd4f74"
        "b27c"
    ),
    "change": (
        "9a0208cd0102c410e93dc605a94e11535e7e10ff8ee57289400501c420cc472f"
        "0055c02800b9c7090067f22e001f752700dae70400451d090099f20100c400c4"
        "10238f0a3cd4bfd1ecce9e9346d7185636"
    ),
    "change of nothing": (
        "9a0208cd0102c410e93dc605a94e11535e7e10ff8ee57289000000c400c400c4"
        "108c9f962d5cc5b80055dc1b18dfa18b30"
    ),
    "change of steps": (
        "9a0208cd0102c410e93dc605a94e11535e7e10ff8ee57289400f05c426665523"
        "00981412008955120051821f485162134851225248f67804124394c1007cd616"
        "b94d32c400c4106d670469209cefe8785cea575b069ea2"
    ),
    "change to zeros": (
        "9a0208cd0102c410e93dc605a94e11535e7e10ff8ee57289000000c4203020e0"
        "0b3020e00b3020e00b3020e00b3020e00b3020e00b0000010000000100c400c4"
        "10d2fa65d63642eaf42b64b0cddb0434f1"
    ),
    "change, extreme": (
        "9a0208cd0102c410e93dc605a94e11535e7e10ff8ee5728940150fc42ef5208f"
        "08b51ff828048a9c08cf8ace01428b99258c1f3b0347ccc7d88cc20300121269"
        "7d81dd85dd81dddb7f6b7dc40efffefffefffefffeffffffdab260c410a014ab"
        "534b664afe0c0944696a379fab"
    ),
    "full, by rows": (
        "98020748cd04b00ac4907b23862ad913e42f3b271c00123923003f13d910f936"
        "e20e292005004b030600dcd41b950d554b34f2f1d3baeb98fa6a6a797e0a54b8"
        "d85f7ae40d4f4545a4ce5b363b3ecc20cc2039c539c5a425a425846d846dc4f2"
        "c4f22cdb2cdbf658f6580edb0edbf338f33869996999085d085d3b973b975e99"
        "5e99165b165b34f334f35da75da746874687d56bd56b46464646c501d8000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000924"
        "9249249249249249249249249249249249249249249249249249249249249249"
        "2492492492492492492492492492492492492492492492492492492492492492"
        "4924924924924924924924924924924924924924924924924924924924924924"
        "9249249249249249249249249249249249249249249249249249249249249249"
        "249249249249249249249249249249249249249240c4107d9cc8ee9ad27d5645"
        "826cbc6caff1a9"
    ),
    "change, large": (
        "9a0208cd0102c41018dbee2cc6ce0ed12742436f332ccfeb40cc8d01c470e1f3"
        "0e00a9d60b0095fe070099d80f0057cc0100e2d30100cfe30e00f7760100b9e0"
        "9fe4104ae7bca52b6de712905721a6628893222e02939a3f6fc1cdf8538e8215"
        "52e3353d3e0fbd4f33e1cd606cfec9aadd7aeccf53fb7c5ec7eeb942c24ca4f1"
        "bdd4e3ef6932c342af84a1b2f2abc4020000c4105fa31b84789634a8238ac8f6"
        "ea33a130"
    ),
    "change, by weights": (
        "9a0208cd0102c41018dbee2cc6ce0ed12742436f332ccfeb41cce404c47af2ea"
        "f300e8c70200a0ea9c1147e52300e0f04310dcc3160fc8e82700fffb0300b042"
        "3d642e7b98b6b2c900405861377fb3d520b8203d49b418f724ec32a8ec7b6979"
        "27ab99283b93921f9665e786fb94c5c01e8aacaf5ecdeedea6e495e4f2fc9714"
        "96b05d461e1327936c29d1a6d6ae64ddd189674210b767ddc400c410f80f726e"
        "2937f398b2c901e6ff926693"
    ),
}
