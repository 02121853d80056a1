"""Messages of version 1 as bytes: they decode to the same values for ever."""

from dataclasses import fields

import numpy as np
import pytest

from common import codec
from common.codec.fields import read_fields
from common.codec.recipe import Recipe
from common.messages import (
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
            "98050147c400c400c410517f7793b465c770eb3379bfc80118abc42eebc00b00"
            "ebc00b00ebc00b00ebc00b00ebc00b00ebc00b00ebc00b007dc0630b33003300"
            "33003300330033003300c400"
        ),
        "01c50040fea9d537f6f64638093b340e",
    ),
    "agreed, bfloat16, nothing": (
        (
            "98050647c400c400c410517f7793b465c770eb3379bfc80118abc422e0002800"
            "6d00e0286d00e0286d00e0286d00e0286d00e0286d00e0281d0028286d00c400"
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
            "98cc800128c400c400c400c44ccf06060037ffaf06b90d0d00112e0b00580202"
            "00c8643001d733b23a0a100a00bebebdf41afac85c29f61ff6cf1c3c365fde62"
            "7d7ea67bbaf6db025d40f4e43f1805293ceabc94966c48566dc400"
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
            "98cc800324c400c400c400c43e9f913700c5739e0492870b0011e325009f8b09"
            "00794c010047aa030097826b00bcd90c6659fe1ebfdaf58f0ecb75ceeed748a5"
            "8400de5391d8d1b165593bc400"
        ),
        "8b17d744110f151f3afb0cdc3f1f7172",
    ),
    "plain, step, some": (
        (
            "98cc800424c400c400c400c4387c857e0079707107c980ce43ba540b00bca002"
            "0075def037e9c6d426928e370a5d7fe87f15317077d82b2a62c8a140239e813c"
            "44f6e36465c400"
        ),
        "f76b8de4ed7a4bfa4fde2d8466678bdd",
    ),
    "plain, ternary, some": (
        (
            "98cc80051fc400c400c400c4265f0d3e016ada4009a6941b6702520d66ae8d04"
            "003b5b7ca14ea3677f676c2d0704ea9ea4e2c8c400"
        ),
        "f711b89a9445d25f59fa1bdf73812413",
    ),
    "plain, bfloat16, some": (
        (
            "98cc800628c400c400c400c440301fca0c267b2200391c0100b22b0b001b8b02"
            "0075e20600dd720200f08a01008dc2102c02e18768b1fe92761c07587bae5d33"
            "7f64bf1e3fe43ea17fdd9dd4bfc41887009c28006183810e100c600002034516"
            "1038e7dee8d064"
        ),
        "e75ae19a2f84b0f138a9ef61b1fa4a64",
    ),
    "context, int8, some": (
        (
            "98cc800128c400c400c400c44ccf06060037ffaf06b90d0d00112e0b00580202"
            "00c8643001d733b23a0a100a00bebebdf41afac85c29f61ff6cf1c3c365fde62"
            "7d7ea67bbaf6db025d40f4e43f1805293ceabc94966c48566dc400"
        ),
        "c9d9da8f6625c08c3cfe1a63e3719c4b",
    ),
    "context, step, some": (
        (
            "98cc800424c400c400c400c4387c857e0079707107c980ce43ba540b00bca002"
            "0075def037e9c6d426928e370a5d7fe87f15317077d82b2a62c8a140239e813c"
            "44f6e36465c400"
        ),
        "f76b8de4ed7a4bfa4fde2d8466678bdd",
    ),
    "agreed, int8, some": (
        (
            "98040147c400c400c410517f7793b465c770eb3379bfc80118abc44832f14f00"
            "9630020041b294055a91830a0bf178694e1220346cb00900fcccc3a7a01c2f18"
            "4b3a248036ba84c44a24df5a31ffbfe6a2648b76cd5fda5f2b5bed5e187f25f5"
            "81561f56c400"
        ),
        "c9d9da8f6625c08c3cfe1a63e3719c4b",
    ),
    "agreed, bfloat16, some": (
        (
            "98040647c400c400c410517f7793b465c770eb3379bfc80118abc436a8cf9d00"
            "14c03709731fe80162c047bca81f00324300680055e067b43d1e0b00771f0740"
            "68c0e684c856b08bc10ed46ee54902579116c41887009c28006183810e100c60"
            "00020345161038e7dee8d064"
        ),
        "e75ae19a2f84b0f138a9ef61b1fa4a64",
    ),
    "plain, int8, rows": (
        (
            "9850012dc400c400c400c4460d610c00d05168002df03b000320c200c9c0fd18"
            "0440010027310700e61d0400930d040605a4709e67dadb030458c49255b826c9"
            "b051d8bc13fed9aab0fd6cbf4030fbac2181c400"
        ),
        "0df237bb2269a10371cfe4c93a3121f2",
    ),
    "plain, int8, all": (
        (
            "98cc80017dc400c400c400c47aa5810f00ff39010028f73b009046b71906de12"
            "00df50d5e3642b1d02f56e401c8dd00bc5f161bfc57693d2b8f05d383c5d8d54"
            "f028f0c243eae8c0b4b1376ee2389b4eb065a20dc9ea005e711fed05c6e5aa96"
            "6e286591b4f5ad3b24399458acc8433ed4a5ecc08c91f4a1d67999abaa6b9f5b"
            "ef5e7cc6d81da4c41d83200096c800025b247748f74fee1f0753b83c3b15c0f0"
            "ac47a3e2f118"
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
            "98cc800372c400c400c400c450639455006f9bc7019e72070028d81b0c9b5023"
            "00378c03005a1bca22dfe00700fe747987146c5aa6136bca26f128434112d243"
            "5c17f6f2617b0f63d9293bc37aea2bc92827613dc3bda2e0ee7a2acb5fc400"
        ),
        "933bbc93418c777d453a5693988742be",
    ),
    "plain, step, all": (
        (
            "98cc80046fc400c400c400c44eb7a8500246973f0008db5200950202000b9b13"
            "abfc3d0100e46c6f0039060700852a9af96437a255d8e13913411599648956b0"
            "c3c946cd82b322886b02cc5904638daff7df499d692cb9b5522795c400"
        ),
        "5c51e15d2b8d8401108cd107451eeda6",
    ),
    "plain, ternary, all": (
        (
            "98cc80055dc400c400c400c42e8dd93000e5618a015a900300a3e40c003a9bba"
            "2b373a01005eab010027600200d0b375d07dc5525d6a09e3120360c400"
        ),
        "1ec08a6fc524d04139944d093b64761b",
    ),
    "plain, bfloat16, all": (
        (
            "98cc80067dc400c400c400c446cf070700ec6d5103b2a153127062ce4c73cd47"
            "035f28fac443cb460bddd501001d9505ef6adf215ce3376112ea5a0c3d4f8df4"
            "a9d176a7ed4cfd7ffcc4dacb5db0f99dfaa01cc46d80491c2e006040c0061828"
            "20a0c3414a0c204080810408102a5029a184cd94303001408300043848084386"
            "0c14180020c10709021204c022e704042070604206c30a342068c34608000020"
            "01820286852028996206040028604001c0891dc3e0ea77078762b81e1588f47c"
            "5e23"
        ),
        "43bbfce5272c9c5597deebc87a254185",
    ),
    "context, int8, all": (
        (
            "98cc80017dc400c400c400c47aa5810f00ff39010028f73b009046b71906de12"
            "00df50d5e3642b1d02f56e401c8dd00bc5f161bfc57693d2b8f05d383c5d8d54"
            "f028f0c243eae8c0b4b1376ee2389b4eb065a20dc9ea005e711fed05c6e5aa96"
            "6e286591b4f5ad3b24399458acc8433ed4a5ecc08c91f4a1d67999abaa6b9f5b"
            "ef5e7cc6d81da4c41d83200096c800025b247748f74fee1f0753b83c3b15c0f0"
            "ac47a3e2f118"
        ),
        "66d77d1fcbff8abc87130c3d386bd9ae",
    ),
    "context, step, all": (
        (
            "98cc80046fc400c400c400c44eb7a8500246973f0008db5200950202000b9b13"
            "abfc3d0100e46c6f0039060700852a9af96437a255d8e13913411599648956b0"
            "c3c946cd82b322886b02cc5904638daff7df499d692cb9b5522795c400"
        ),
        "5c51e15d2b8d8401108cd107451eeda6",
    ),
    "plain, step, block": (
        (
            "984804cd0188c400c400c400c4ceba8ba00104acc5039bcb2600060ca4004ac0"
            "2000a96001000441d9610ca1a94b2e60474b50730635429901e3a52b218c06a0"
            "4186648868649f4c7f633101462035420057dbd6dec12c3aa90014010d857ab0"
            "542dc876ab9980f61c3be12429c31f025cf52eb76f4ed96ae8ecafc9c6548edb"
            "0d7672095e52acc4955550fef16b63da0561842bfb0f2eb1a948ca8ef8207c16"
            "dd37a16cfa503169be2957251b652a17427e1b7d8906ee0fff4e3e6ba3f04b58"
            "01777fdedee41336decfea320f16b87414477244295c055980e0ca9bc421b329"
            "6649464b66492f49266e93c493371336dd9b54cdb695b6ccb6d56d996b324b"
        ),
        "fa0c26a6f8a788bac925235985c5800c",
    ),
    "last, int4, wide": (
        (
            "98cca303cd043bc400c4104e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4ec400c502a4"
            "58660800d5f3182b96b1c9066d2d070004da0b00495ee508818c4e031104cc2e"
            "ebead00638ab6287880a44ca2e19acf0086b5b1177dcd7f708a33e4545a65bee"
            "7b103a5b428aa51d232ff4c20b48a375d3333e87fc038031dbf0462390100511"
            "16314d98d76968be99d94421182f8fee00182f5b080db013933fe943292d61ea"
            "fc7503c4043f55a87b2bcb378d879496ab339c5ffb96c5916528b86f3c9f9757"
            "a3a617a073a8df9586ab2882678c60228a8fe9e227d53d6651a6dcdb060e3bd4"
            "bd71141cb386df11defdf01b921cd739f0048943b091accb28557b87c812c7a1"
            "860419065b988bf6b49147a2576c5d86c791e2fcf02b1dd0ac5ad2103a85e041"
            "f90ff4c135aa24a536694ca3f81ae4d3fe176018788c1193ca3b1f8d7a4ea38f"
            "d1faf8269d06ba9e0bf646e6cd32d1368171d499c8bbe47edf9e21af57e895af"
            "dac265a1c5a22ed1ab6a79d14e5d369f97734d4311bd4399d609b25582ad2d95"
            "50bb4f7db32b92616ead85206c31513eed7606a78563f182efa0f9874f0792f0"
            "e4b371e0dc48b8d832f4b5953d83ea175f3105450c59437370d39933b953aeb3"
            "6831e824066a3f3762d5fcf557e305d29eec66a8af621b0543040079395185c9"
            "ef88afb9635d8e4855d3dae02704083cfb5345b6c9d13de2098d1984fb2520d8"
            "891037056bcf6796e14ac73ce494098e5c76a5b19f833032bb5bd81488078fc9"
            "38451113c5d9736258276fc66b365d61edf9653c7a8c76d77645a1da2ef2e343"
            "61fc1cb85deb01fc32e831af2b40b4757d4703f9cbe79988162f69b95fa94871"
            "9a5bc5393c9d24e63cfb6ba28facd8e28a6479919490b034bbcb118afbf461a6"
            "3264c831107ef04202bed975a0d073711daa6572664c5bc933db4812a463ab7a"
            "948c37bf8f63a57794b3aa8bc7e9c63df6701d4ef035d541c38d8186f5e78604"
            "4eb13ac2c400"
        ),
        "7948f15699860645b3d54757aa94f4d4",
    ),
    "last, ternary, wide": (
        (
            "98cc8305cd0352c400c4104e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4ec400c5016a"
            "59a8090027d60100b328fb1aee5286622c569b27d150bf070d613ac3e9ea0500"
            "3bc5f4ac819b610fa05e50e3a8eba127810fb44408c8485d8680760624cd32b2"
            "234ba6e6da4d65eec9e8a77d1f77f755e6d4c0290380c18f61728581ccdcbb09"
            "d48e15eda2669ade54e43df7fc34b8af948ff1118f42139344d9a26636c21c8c"
            "1d362deac70ff9a2b6ff74260212820ea0da6a2d2f9904e8491226c441cb2afc"
            "85d86daab23d2dba1a30d3cfe03881adf527b02eba634fe8fd26a7bae0469cd5"
            "821505b5012da8ce52da8c935a00c3ae892cc83c670347878938d5906eedcb98"
            "525252e4f553a9351baa7a52df262829b2a6e45fe3f2a4384092778a53dd6809"
            "dd7b25b37c82a4ed8586c78c828e2f7b45d2f998375fd813b28bfb64c05905cb"
            "fdd25712f17d7751672b5ed6ddf0b4f40e38ec3b34a900ae8c81c57df52585a7"
            "6231cecb713c82160888f5877692444ffe04573222ba979bf988d76780a76654"
            "6463bc49ae9475e5d059c400"
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
    "960101a7656467652d303302c50155dc00100102a572756e2d3103a873706172"
    "73696679dc00110220cb3fa999999999999acb3feccccccccccccdab626e2d6c"
    "312b67726f7570cb3f60624dd2f1a9fccb3fa999999999999aa472617465a469"
    "6e7438cb3fb0000000000000c3cb3ff0000000000000cb3fe0000000000000cb"
    "4000000000000000a67461796c6f72c3c2c41053535353535353535353535353"
    "53535302c2c4027b7d9495c410535353535353535353535353535353530ac402"
    "b340c41070707070707070707070707070707070c3c407656e636f646564c410"
    "5757575757575757575757575757575793cd03e8c408cdcccc3d00b88847c408"
    "0000000000000040c410545454545454545454545454545454549495c4105353"
    "53535353535353535353535353530ac402b340c400c2c400c410545454545454"
    "54545454545454545454c0c3920ac4024840c410a0d6c9be6cfc18ac77780a10"
    "2a2508b8c4103d987291f16f04d827b79ffd4a152c60"
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
