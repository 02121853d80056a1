"""Messages of version 1 as bytes: they decode to the same values for ever."""

from dataclasses import fields

import numpy as np
import pytest

from fedprune.common import codec
from fedprune.common.codec.delta.header import read_fields
from fedprune.common.codec.delta.options import Recipe
from fedprune.common.messages import (
    Expected,
    ModelSpec,
    Phase,
    SparseDelta,
    TensorSpec,
    digest_of,
)

SMALL = ModelSpec(
    tensors=(TensorSpec(name="w", shape=(2, 4)), TensorSpec(name="b", shape=(3,))),
    moments=1,
    units=2,
)

GRID = ModelSpec(
    tensors=(
        TensorSpec(name="w", shape=(6, 5, 2, 2)),
        TensorSpec(name="none", shape=(0, 3)),
        TensorSpec(name="b", shape=(6,)),
    ),
    moments=0,
    units=0,
)
WIDE = ModelSpec(tensors=(TensorSpec(name="w", shape=(60, 60)),), moments=0, units=0)
_NUMBERS = np.arange(GRID.size)
# By hand, in exact steps: no generator's stream may change these messages.
BASE = ((_NUMBERS * 37 % 41 - 20) * (_NUMBERS % 3 > 0) / 64).astype(np.float32)
CHANGE = ((_NUMBERS * 53 % 61 - 30) / 512 - np.sign(BASE) / 16).astype(np.float32)
NAME = b"N" * 16


def golden_inputs():
    """Return what both ends hold, the delta and the kind of values of each message."""
    shape = codec.Shape(GRID)
    sets = {
        "nothing": [],
        "one": [7],
        "some": [i for i in range(GRID.size) if i * 11 % 7 < 3 and i % 20 < 15],
        "rows": [*range(20, 60), *range(120, 126)],
        "all": list(range(GRID.size)),
    }
    plain = codec.Known(shape=shape, base=np.zeros_like(BASE))
    weights = codec.Known(shape=shape, base=BASE)
    mask = np.zeros(GRID.size, bool)
    mask[sets["some"] + [3, 118]] = True
    agreed = codec.Known(shape=shape, base=BASE, mask=np.sort(mask)[::-1] | mask)
    found = {}
    for name, indices in sets.items():
        positions = np.array(indices, dtype=np.int64)
        delta = SparseDelta(size=GRID.size, indices=positions, values=CHANGE[positions])
        found[f"plain, int8, {name}"] = (plain, delta, "int8")
        if name in ("some", "all"):
            for kind in ("float32", "int4", "step", "ternary", "bfloat16"):
                found[f"plain, {kind}, {name}"] = (plain, delta, kind)
            found[f"context, int8, {name}"] = (weights, delta, "int8")
            found[f"context, step, {name}"] = (weights, delta, "step")
        if name in ("nothing", "some"):
            found[f"agreed, int8, {name}"] = (agreed, delta, "int8")
            found[f"agreed, bfloat16, {name}"] = (agreed, delta, "bfloat16")
    numbers = np.arange(WIDE.size)
    base = (((numbers * 37 % 41) - 20.5) / 64).astype(np.float32)
    last = ((numbers * 29 % 31 - 15) * (numbers % 9 > 5) / 1024).astype(np.float32)
    positions = np.flatnonzero(last)
    delta = SparseDelta(size=WIDE.size, indices=positions, values=last[positions])
    both = codec.Known(shape=codec.Shape(WIDE), base=base, last=last, last_name=NAME)
    rows, columns = numbers // 60, numbers % 60
    block = np.flatnonzero((rows * 7 % 60 < 24) & (columns * 11 % 60 < 18))
    delta_of_block = SparseDelta(size=WIDE.size, indices=block, values=base[block] / 8)
    plain = codec.Known(shape=codec.Shape(WIDE), base=np.zeros_like(base))
    found["plain, step, block"] = (plain, delta_of_block, "step")
    found["last, int4, wide"] = (both, delta, "int4")
    found["last, ternary, wide"] = (both, delta, "ternary")
    return found


def delta_digest(q):
    """Return the digest of a decoded delta's numbers."""
    return digest_of(
        q.indices.astype("<i8").tobytes(),
        q.values.astype("<f4").tobytes(),
        q.scales.tobytes(),
    ).hex()


UPDATE = (
    "9e0103a572756e2d3103a7656467652d3033c410505050505050505050505050"
    "50505050c41042424242424242424242424242424242cd012ccb3fe000000000"
    "0000c42f98cc800103c400c400c400c4200d91f0fd80c50c4c3c9a1c02bb6801"
    "00bb680100bb680100bb680100bb680100c400c4080000803e00004040935ac4"
    "0200bec402003a93cb4012000000000000070ac41043eb4a5d25337d2ac3c5cd"
    "b4a3d0118b"
)
# name -> (bytes, digest of the decoded delta)
DELTAS = {
    "plain, int8, nothing": (
        "98000100c400c400c400c400c400",
        "01c50040fea9d537f6f64638093b340e",
    ),
    "agreed, int8, nothing": (
        (
            "98050147c400c400c410517f7793b465c770eb3379bfc80118abc42ef3001000"
            "f3001000f3001000f3001000f3001000f3001000f3001000a560520fd800d800"
            "d800d800d800d800d800c400"
        ),
        "01c50040fea9d537f6f64638093b340e",
    ),
    "agreed, bfloat16, nothing": (
        (
            "98050647c400c400c410517f7793b465c770eb3379bfc80118abc42250008800"
            "3100508831005088310050883100508831005088310050884e0018793100c400"
        ),
        "941e0c502c87478811f1b6a130227018",
    ),
    "plain, int8, one": (
        (
            "98cc800101c400c400c400c4204f44d538498301004983010049830100498301"
            "0049830100d57e01008200ba00c400"
        ),
        "4d752997e2f3ca5332b38bc9b2943513",
    ),
    "plain, int8, some": (
        (
            "98cc800128c400c400c400c44c211f04006af7f803a8810800eb740a00148f01"
            "0018e18a00b1e4335021270c0096b35f53456826de60f6782fa426da7030de1f"
            "7d7fa6fb3a717b99fd66f7165d92e454bc9149c51eb9f61a89c400"
        ),
        "c9d9da8f6625c08c3cfe1a63e3719c4b",
    ),
    "plain, float32, some": (
        (
            "98cc800228c400c400c400c4242c961871827b0100eb83291fe943010067071d"
            "972d2a8d29ed5d70646021b40d3a9ac9ebc4a0000070bd000008bd000084bd00"
            "00603c0000203d000060bd0000d0bd0000f0bc000080bb000010bd0000303d00"
            "0050bd0000d0bc0000c0bd0000c0bb0000943d0000b0bc0000ecbd000030bd00"
            "00f03c000084bd0000f03c0000d03d0000003c0000b0bd000060bc0000703d00"
            "0010bd0000703d0000403c0000183d0000e03d0000803c000000bd0000c0bb00"
            "00b43d0000283d000058bd0000a03c0000383d"
        ),
        "e75ae19a2f84b0f138a9ef61b1fa4a64",
    ),
    "plain, int4, some": (
        (
            "98cc800324c400c400c400c43e0091380099542f05d2150900f6392300629509"
            "00ba34010047aa0300828d6b00c1f30c663cde61f698d9fe1f54df1e316a4b11"
            "8552dcc8d1b66545501f3ac400"
        ),
        "8b17d744110f151f3afb0cdc3f1f7172",
    ),
    "plain, step, some": (
        (
            "98cc800424c400c400c400c438ef8ca50019763d0944926b520cee0b009c1703"
            "002bfaa94157d939336c1ec80acf6b0efb7633862acc84392212e226e37e0172"
            "246c636ea5c400"
        ),
        "f76b8de4ed7a4bfa4fde2d8466678bdd",
    ),
    "plain, ternary, some": (
        (
            "98cc80051fc400c400c400c426380b1c01d2d4ad06bb1eff4e156e824d3d1103"
            "00ae6ac57bd4f15063714083063932999cafd7c400"
        ),
        "f711b89a9445d25f59fa1bdf73812413",
    ),
    "plain, bfloat16, some": (
        (
            "98cc800628c400c400c400c4408082cb18976436006d8e0200bdfc1300e10106"
            "00d8480d00c729060009000300f2c778affa971cac5968f87f276c80179d7d01"
            "bf493f29bfd13eec7dfeff2dd3c41887009c28006183810e100c600002034516"
            "1038e7dee8d064"
        ),
        "e75ae19a2f84b0f138a9ef61b1fa4a64",
    ),
    "context, int8, some": (
        (
            "98cc800128c400c400c400c44c211f04006af7f803a8810800eb740a00148f01"
            "0018e18a00b1e4335021270c0096b35f53456826de60f6782fa426da7030de1f"
            "7d7fa6fb3a717b99fd66f7165d92e454bc9149c51eb9f61a89c400"
        ),
        "c9d9da8f6625c08c3cfe1a63e3719c4b",
    ),
    "context, step, some": (
        (
            "98cc800424c400c400c400c438ef8ca50019763d0944926b520cee0b009c1703"
            "002bfaa94157d939336c1ec80acf6b0efb7633862acc84392212e226e37e0172"
            "246c636ea5c400"
        ),
        "f76b8de4ed7a4bfa4fde2d8466678bdd",
    ),
    "agreed, int8, some": (
        (
            "98040147c400c400c410517f7793b465c770eb3379bfc80118abc4483c912700"
            "2990010027b27405ad91a3036fd1784618122041085008006d8d873bc71c0518"
            "5c5a3fe006ba1fab7d84505974bfe063d2817a56803fe15f5b9bb87fd47e1895"
            "71562eb6c400"
        ),
        "c9d9da8f6625c08c3cfe1a63e3719c4b",
    ),
    "agreed, bfloat16, some": (
        (
            "98040647c400c400c410517f7793b465c770eb3379bfc80118abc43a38efdd01"
            "10c0a71a6d1f200631000200f11f10882700800018e00100559e0b001c0056ff"
            "9b1f3cc09826e8b875fba74db38503c2a0d882f8ffd6c41887009c2800618381"
            "0e100c6000020345161038e7dee8d064"
        ),
        "e75ae19a2f84b0f138a9ef61b1fa4a64",
    ),
    "plain, int8, rows": (
        (
            "9850012dc400c400c400c446d5200b0094914b00a3af2b0003408f003240150f"
            "1641010063910600719e0200be105d9cdaaa1f26f9ebc4bfd0a37e17dbf289f8"
            "3ad2c3dc31f4e6bd5b2b95ddf9d0aa6de320c400"
        ),
        "0df237bb2269a10371cfe4c93a3121f2",
    ),
    "plain, int8, all": (
        (
            "98cc80017dc400c400c400c478196f0500460bd2a708e217000bdf1b11ad7506"
            "0086a1ad4b04193f016fddf40683c119c5c9c55493a4784f9e5ebe71dc07d1d6"
            "2bfe2050d847c9a418a982e63b04f084c26b4955005891688dbd86ef4adbae70"
            "641ad5efed0da43694506cdd23d654ddacde8c523469973519e3aaae9f540f69"
            "bbc4982584c41d83200096c800025b247748f74fee1f0753b83c3b15c0f0ac47"
            "a3e2f118"
        ),
        "66d77d1fcbff8abc87130c3d386bd9ae",
    ),
    "plain, float32, all": (
        (
            "98cc80027dc400c400c400c4204427010044270100e6caf84944270100442701"
            "0044270100f8240100f8240100c501f4000070bd000090bc000008bd0000603c"
            "000084bd0000a4bd000008bd0000603c0000f03d0000203d0000b03d000060bd"
            "000000bc0000b0bd0000d0bd000060bd0000e43d0000c43d0000903c0000843d"
            "0000483d0000f0bc0000dcbd000080bb0000303d000010bd0000983d000080bb"
            "0000303d0000e03c000050bd000020bc0000d0bc0000b03c000068bd000094bd"
            "0000d0bc0000b03c0000c03b0000403d0000c03d0000a03d0000a0bd0000c0bd"
            "000040bd0000c0bb0000d43d0000d03c0000943d0000683d0000b0bc0000ccbd"
            "0000ecbd0000503d0000e0bc000030bd0000803b0000503d0000103d000030bd"
            "0000803b000090bc0000f03c000048bd000084bd000090bc0000f03c0000603c"
            "0000603d0000d03d0000b03d0000003c000090bd0000b0bd000020bd0000f0bd"
            "0000483d0000083d0000a43d0000843d000060bc0000083d0000dcbd0000703d"
            "0000a0bc000010bd0000403c0000703d0000303d000010bd0000403c0000ec3d"
            "0000183d000028bd000068bd000020bc0000b4bd0000b03c000068bd0000e03d"
            "0000c03d0000803c000080bd0000a0bd000000bd0000e0bd0000c0bb0000283d"
            "0000b43d0000943d0000c0bb0000283d0000ccbd000058bd000040bc0000e0bc"
            "0000a03c0000803b0000503d0000e0bc0000a03c0000803b0000383d000008bd"
            "000048bd"
        ),
        "43bbfce5272c9c5597deebc87a254185",
    ),
    "plain, int4, all": (
        (
            "98cc800372c400c400c400c450a394550029cb8601a9c3060064cd3a0a39701f"
            "00699d0200201fad1e38b60900e74396d7e0c2bc72b76a4e27c52a24437e32a5"
            "3f597774c5fad2a3dadb9bbefbe6ab37468d00e44074e2d8f1ba09d47ec400"
        ),
        "933bbc93418c777d453a5693988742be",
    ),
    "plain, step, all": (
        (
            "98cc80046fc400c400c400c44e354c17034e1a60002b666900ea48030065b5c0"
            "ed938e0100d19c920002e40800cf7c082b6da398393d421813f8141eb544e421"
            "67e7a19bc56564ceeca16b124144d0009690aa5b2e9855ac3002d3c400"
        ),
        "5c51e15d2b8d8401108cd107451eeda6",
    ),
    "plain, ternary, all": (
        (
            "98cc80055dc400c400c400c42cca8b2000e0fb03014257020082ff0500723b4a"
            "1ac4aa96cc601e0100c76e01009c3bd00b2655ffeb71cf3acac400"
        ),
        "1ec08a6fc524d04139944d093b64761b",
    ),
    "plain, bfloat16, all": (
        (
            "98cc80067dc400c400c400c44821151e00ffbdd70eca92dc51a7af769e1f6a4b"
            "0e0893020078e2302e3722030079eff47fe65f585fd4df67576776501beb74b9"
            "ad71ba9ccc17db623ee5bb0b7a5116eb78055f56c5c46d80491c2e006040c006"
            "182820a0c3414a0c204080810408102a5029a184cd9430300140830004384808"
            "43860c14180020c10709021204c022e704042070604206c30a342068c3460800"
            "002001820286852028996206040028604001c0891dc3e0ea77078762b81e1588"
            "f47c5e23"
        ),
        "43bbfce5272c9c5597deebc87a254185",
    ),
    "context, int8, all": (
        (
            "98cc80017dc400c400c400c478196f0500460bd2a708e217000bdf1b11ad7506"
            "0086a1ad4b04193f016fddf40683c119c5c9c55493a4784f9e5ebe71dc07d1d6"
            "2bfe2050d847c9a418a982e63b04f084c26b4955005891688dbd86ef4adbae70"
            "641ad5efed0da43694506cdd23d654ddacde8c523469973519e3aaae9f540f69"
            "bbc4982584c41d83200096c800025b247748f74fee1f0753b83c3b15c0f0ac47"
            "a3e2f118"
        ),
        "66d77d1fcbff8abc87130c3d386bd9ae",
    ),
    "context, step, all": (
        (
            "98cc80046fc400c400c400c44e354c17034e1a60002b666900ea48030065b5c0"
            "ed938e0100d19c920002e40800cf7c082b6da398393d421813f8141eb544e421"
            "67e7a19bc56564ceeca16b124144d0009690aa5b2e9855ac3002d3c400"
        ),
        "5c51e15d2b8d8401108cd107451eeda6",
    ),
    "plain, step, block": (
        (
            "984804cd0188c400c400c400c4cef26bb601764c4c0455cc26005acc87002ac1"
            "1d0043010100c500064878207741df208701df998872b25a25eaa12c414c4861"
            "6babd7e730cf9c8baabc6b0a8a3adcc1689100f1f5fb7d2ec3eabbc4341a7ef7"
            "8e1bd135f67521d049d1442429c38c0184f0748e1747a3afe085546e3b925d9d"
            "3d33300955111d41a4b684dc3ec73155e360fe662b0d3eaf688aa22df5e585b9"
            "01d7406d53ce2c4d9f88bde321646537139fcc5b9723c98da3939bebabae96d4"
            "845565fd77852af94610c16f6d54635414a8b146b61b245b74e4ab1bc421b329"
            "6649464b66492f49266e93c493371336dd9b54cdb695b6ccb6d56d996b324b"
        ),
        "fa0c26a6f8a788bac925235985c5800c",
    ),
    "last, int4, wide": (
        (
            "98cca303cd043bc400c4104e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4ec400c502a0"
            "4167736a1458c308d0b1330b37f5fc0031f30400d07e9a019ea2190105943300"
            "822e948af81676482e2bec54215e8e1d67fc83a80bb07d37668302b85bcd22f1"
            "e3d08376f39540b8b934b50e747972f734bdc50f55b7b8f9acfaeb1665f45fc6"
            "6b97e588a80da52f025da5087ca1a3d18707e7870ddb0a60146e2098d01ce4d1"
            "7d076a8634bfbfa2068d2af2b05a0f018e158f84a2ad049bc115b4d6dc09dd00"
            "922cbf9d24aec418cc51a87d0bc25b22f5620c9c1eb66db4a836955d3ec22a00"
            "f6f9f167a9e17b83e7c311cc5309c7dd775a13b0a6263d8479b8a8d53ce29606"
            "cbcf03f37cc57e0e15187222737cc1858cb23c9e32e1e44cdd8c62069c2e81aa"
            "cf1f23f1840ad050a7ca382e1eb87da92282a1843bb81deb437eb580d2ab6082"
            "2f5064225f038ce1119119130c0311ed60ed2d1d231b56a686fdee6167ef8d18"
            "2316b0bb246832fb64018e8dc71020cfd980b5f07d4211c0895d8c157e0d62bd"
            "a17a3657cf4639dc28f0ac451e258b22fdf8ca6806d9a73d5684ccd5cc0f9ab0"
            "d9297b826b75dc0535834cfbec5caa4e701866c40cd07d139e3075d3bfb30693"
            "27073ce93229cb48c88ab21dc80f44ef032a8986be5663e4e60d08f2efe8c92e"
            "0ec06c6f044de5817bc19c1d3304bbfede760750e9157fb9a979576ebe5f8d51"
            "bc4c3d828cfb4440c5cde4b6190d4b6d8a350eabdf124d36d03a40d2586b3a28"
            "2cbff9a4052c066271fa40b1fab3fc35839cca5fbe2cabbfb4d1f5673e76840c"
            "47ee952835fb0621032223091e9fa2b8cdfd14682db616290c844b71adad845e"
            "87434e45a3e761e70eda3466d14372b1cdc83efafb863639214992c87bd2dbf1"
            "65fa342f16d5f64f699bd095580606ae9d1d6aecac46827f1206a5f8b994fa5e"
            "8e88c356a3d28df293cd4b188cbeb272504cf9cc5ba62f0e2acb012288ee852d"
            "c400"
        ),
        "7948f15699860645b3d54757aa94f4d4",
    ),
    "last, ternary, wide": (
        (
            "98cc8305cd0352c400c4104e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4ec400c5016a"
            "59a8090027d60100536e730b12f60239e4c8f10bd150bf07136f7c3459510100"
            "3e883bc5f4ac1e8783472a6f50e3a1279e5d810ff08f15644f25018024cd32b2"
            "a75a48e684a0750122acf0a81f77f75503dfad368eec4e804005f03e3f81e4d6"
            "46009feb5d1456edfa05f6d0cfbd39263aee9844318fa6d7ec90f70652a45dcd"
            "0c239fd06f1a83f81f275b16e3ee9b33eb1acb0e8dc03882d8e633d2f8f6c3ff"
            "8ff99a5253c6f10ac7f249926ec4103e8a35bc5c78dcad126ee974f903dfa6d1"
            "ff4e94706c287f532e018821da8b04b0db2ce77095c44d85d6ea3a3d67add5b2"
            "3cefe280c744b93f1eb16721167fd64e230e4ff64b20e65a1e94aa03deefeec2"
            "393f1e2103fa6ceaac47d78db632a87b62cf8c3e15843ff6b29171a6f978d886"
            "21ee297ae676e85edc95896686e4d84da1b6b80d42b818e8dd1bc27a06b9ca1b"
            "3d50d89622c0361d0992c9083b1ceb64e72f54b5f2226e8ca956cd26b224d933"
            "2f183961c7f23905f757c400"
        ),
        "0e96355c11df47c587308614699f31f7",
    ),
}

WEIGHTS_INT8 = (
    "96010400c2c4160000000080003f007fc100010000000055000035c000c410a0"
    "b8903a622b4b7b5c5b072764230fdf"
)
WEIGHTS_FLOAT32 = (
    "96010401c2c42c0000fe429a997dc2000000000000803f000000000000000000"
    "00000000000000abaaaa3e000000c000000000c410251af708e06ae391a31df2"
    "4fab22c2b0"
)
PLAN = (
    "960101a7656467652d303302c50174dc00110102a572756e2d3103a873706172"
    "73696679dc00150220cb3fa999999999999acb3feccccccccccccdab626e2d6c"
    "312b67726f7570cb3f60624dd2f1a9fccb3fa999999999999aa472617465a469"
    "6e7438cb3fb0000000000000c3cb3ff0000000000000cb3fe0000000000000cb"
    "4000000000000000a67461796c6f72c3c2cb4014000000000000cb3fd0000000"
    "000000cd012ccf7fffffffffffffffc410535353535353535353535353535353"
    "5302c2c4027b7d9495c410535353535353535353535353535353530ac402b340"
    "c41070707070707070707070707070707070c3c407656e636f646564c4105757"
    "575757575757575757575757575793cd03e8c408cdcccc3d00b88847c4080000"
    "000000000040c410545454545454545454545454545454549495c41053535353"
    "5353535353535353535353530ac402b340c400c2c400c4105454545454545454"
    "5454545454545454c0c0c3920ac4024840c4103aa61277eb8bdfc2d14287081a"
    "7904dfc41098747e7c5b911204b51428deff50b76d"
)


@pytest.mark.parametrize("name", golden_inputs())
def test_a_delta_of_version_1_decodes_to_the_same_values(name):
    known, _, kind = golden_inputs()[name]
    data, digest = DELTAS[name]
    found = codec.decode_delta(
        bytes.fromhex(data), known, values=kind, max_entries=known.shape.size
    )
    assert delta_digest(found) == digest


@pytest.mark.parametrize("name", golden_inputs())
def test_the_bytes_of_a_delta_of_version_1_never_change(name):
    known, delta, kind = golden_inputs()[name]
    wanted = codec.quantise_delta(delta, known.shape.spec, kind, 0.01)
    assert codec.encode_delta(wanted, known).hex() == DELTAS[name][0]


def test_the_golden_deltas_use_every_context():
    found = [read_fields(bytes.fromhex(data)) for data, _ in DELTAS.values()]
    headers = [one.header for one in found]
    for flag in [field.name for field in fields(Recipe)]:
        used = {getattr(header.recipe, flag) for header in headers}
        assert used == {False, True}, flag
    assert {header.values for header in headers} == set(codec.VALUES)


def test_an_update_of_version_1_decodes_to_the_same_values():
    expected = Expected(
        run_id="run-1",
        round=3,
        client_id="edge-03",
        plan=b"P" * 16,
        base=b"B" * 16,
        base_weights=np.zeros(SMALL.size, np.float32),
        spec=SMALL,
        values="int8",
        update_density=1.0,
        scored=True,
        measured=True,
        max_bytes=4096,
        max_examples=1000,
        max_value=100.0,
        max_weight=1000,
    )
    update = codec.decode_update(bytes.fromhex(UPDATE), expected)
    assert (update.run_id, update.round, update.client_id) == ("run-1", 3, "edge-03")
    assert (update.plan, update.base) == (b"P" * 16, b"B" * 16)
    assert (update.num_examples, update.loss) == (300, 0.5)
    assert update.importance.tolist() == [0.25, 3]
    assert update.statistics.num_examples == 90
    assert update.statistics.mean.tolist() == [-1.5]
    assert update.statistics.variance.tolist() == [0.75]
    assert update.validation.loss_sum == 4.5
    assert (update.validation.correct, update.validation.count) == (7, 10)
    assert update.delta.indices.tolist() == [0, 2, 10]
    assert update.delta.values.tolist() == [125, -63, 117]
    assert update.delta.scales.tolist() == [172, 0, 194]
    known = codec.hold(SMALL, expected.base_weights)
    assert codec.encode_update(update, known).hex() == UPDATE


WEIGHTS = [127, -63.4, 0, 1, 0, 0, 0, 0, 1 / 3, -2, 0]


@pytest.mark.parametrize(
    ("values", "data", "wanted"),
    [
        ("int8", WEIGHTS_INT8, [127, -63, 0, 1, 0, 0, 0, 0, 0.333251953125, -2, 0]),
        ("float32", WEIGHTS_FLOAT32, np.float32(WEIGHTS).tolist()),
    ],
)
def test_weights_of_version_1_have_the_same_bytes_and_values(values, data, wanted):
    assert codec.decode_weights(bytes.fromhex(data), SMALL).tolist() == wanted
    found = codec.encode_weights(np.float32(WEIGHTS), SMALL, values)
    assert found.hex() == data


def test_a_plan_of_version_1_decodes_to_the_same_values():
    plan = codec.decode_plan(bytes.fromhex(PLAN), 4096)
    assert (plan.run_id, plan.round, plan.phase) == ("run-1", 3, Phase.SPARSIFY)
    assert (plan.client_id, plan.acknowledged) == ("edge-03", 2)
    assert (plan.structure, plan.structure_json) == (b"S" * 16, b"{}")
    assert (plan.teacher, plan.keep_broadcast) == (b"T" * 16, True)
    assert plan.teacher_statistics is None
    assert np.flatnonzero(plan.targets).tolist() == [1, 4, 9]
    assert len(plan.targets) == 10
    settings = plan.settings
    assert (settings.epochs, settings.batch, settings.penalty) == (2, 32, "bn-l1+group")
    assert (settings.lr, settings.momentum, settings.strength) == (0.05, 0.9, 0.002)
    assert (settings.update_density, settings.choice) == (0.05, "rate")
    assert (settings.values, settings.step_error) == ("int8", 0.0625)
    assert (settings.error_feedback, settings.decay) == (True, 1.0)
    assert (settings.distill_weight, settings.temperature) == (0.5, 2.0)
    assert settings.importance == "taylor"
    assert (settings.measure, settings.freeze) == (True, False)
    assert (settings.clip, settings.validation) == (5.0, 0.25)
    assert (settings.score_examples, settings.seed) == (300, 2**63 - 1)
    assert codec.encode_plan(plan).hex() == PLAN


def test_the_broadcasts_of_version_1_decode_to_the_same_values():
    plan = codec.decode_plan(bytes.fromhex(PLAN), 4096)
    broadcast, teacher = plan.broadcast, plan.teacher_broadcast
    assert broadcast.plan.keep.tolist() == [
        bool(bit) for bit in (1, 0, 1, 1, 0, 0, 1, 1, 0, 1)
    ]
    assert broadcast.plan.structure == b"S" * 16
    assert (broadcast.plan.parent, broadcast.plan.rollback) == (b"p" * 16, True)
    assert (broadcast.weights, broadcast.digest) == (b"encoded", b"W" * 16)
    assert broadcast.statistics.num_examples == 1000
    assert broadcast.statistics.mean.tolist() == np.float32([0.1, 70000]).tolist()
    assert broadcast.statistics.variance.tolist() == [0, 2]
    assert (teacher.plan.parent, teacher.plan.rollback) == (b"", False)
    assert (teacher.weights, teacher.digest) == (b"", b"T" * 16)
    assert teacher.statistics is None
