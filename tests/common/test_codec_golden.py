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
            "98cc800101c400c400c400c42064c6e238a3830100a3830100a3830100a38301"
            "00a3830100687f01001080ba00c400"
        ),
        "4d752997e2f3ca5332b38bc9b2943513",
    ),
    "plain, int8, some": (
        (
            "98cc800128c400c400c400c44c86050600882ab0066b0b0d00a22f0b00580202"
            "00c66330015534b23a8c160c001abb6cde2c4636560deb7d6da9a1fb5c5fde62"
            "7d7ea67bbaf6db025d40f4e43f1805293ceabc94966c48566dc400"
        ),
        "c9d9da8f6625c08c3cfe1a63e3719c4b",
    ),
    "plain, float32, some": (
        (
            "98cc800228c400c400c400c424c59c16712c7e01005e80291f674a010088061d"
            "974e298d2972c70466f321b40dd894bf49c4a0000070bd000008bd000084bd00"
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
            "98cc800324c400c400c400c43edd913200f5749e049e8009000ae72500d28c09"
            "00d14d0100ceab0300dd836b00915cdf51d4776bb9ed6fa9a259c0582ad748a5"
            "8400de5391d8d1b165593bc400"
        ),
        "8b17d744110f151f3afb0cdc3f1f7172",
    ),
    "plain, step, some": (
        (
            "98cc800424c400c400c400c438bf117d00b1727107f21e354188570b00b8a302"
            "00947dee39f5c8d4269e91370a68566c396cbfcef5fd302a62c8a140239e813c"
            "44f6e36465c400"
        ),
        "f76b8de4ed7a4bfa4fde2d8466678bdd",
    ),
    "plain, ternary, some": (
        (
            "98cc80051fc400c400c400c426bc0a3e0150dc400960867963f8ba4567b69104"
            "008a2ccfa3f47b6b7f22ea2d07c7d1a1eee235c400"
        ),
        "f711b89a9445d25f59fa1bdf73812413",
    ),
    "plain, bfloat16, some": (
        (
            "98cc800628c400c400c400c4400b1dca0cd4af25004b1b0100592f0b00158b02"
            "00d6b8060024730200e48b010080e3fae8173b0775bb5b8c454990cfd7ae5d33"
            "7f64bf1e3fe43ea17fdd9dd4bfc41887009c28006183810e100c600002034516"
            "1038e7dee8d064"
        ),
        "e75ae19a2f84b0f138a9ef61b1fa4a64",
    ),
    "context, int8, some": (
        (
            "98cc800128c400c400c400c44c86050600882ab0066b0b0d00a22f0b00580202"
            "00c66330015534b23a8c160c001abb6cde2c4636560deb7d6da9a1fb5c5fde62"
            "7d7ea67bbaf6db025d40f4e43f1805293ceabc94966c48566dc400"
        ),
        "c9d9da8f6625c08c3cfe1a63e3719c4b",
    ),
    "context, step, some": (
        (
            "98cc800424c400c400c400c438bf117d00b1727107f21e354188570b00b8a302"
            "00947dee39f5c8d4269e91370a68566c396cbfcef5fd302a62c8a140239e813c"
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
            "98cc80017dc400c400c400c47a894e12003b3a01003cb02a00302d2218992526"
            "005a0100c1c4fe1d0236c50a1f291727c5f1618cd3b2996f38c45d383c0ece27"
            "904810c2e3eae8f2b4a11778a2683b3710562209a9e2a086906a2dea85f50a4e"
            "90a5643633e2cd2844c914f76cc663d5f43d6cc02c16d321d66cf9d2ca1b5f47"
            "ef017927048127c41d83200096c800025b247748f74fee1f0753b83c3b15c0f0"
            "ac47a3e2f118"
        ),
        "66d77d1fcbff8abc87130c3d386bd9ae",
    ),
    "plain, float32, all": (
        (
            "98cc80027dc400c400c400c4208027010080270100860b084a80270100802701"
            "00802701005a2501005a250100c501f4000070bd000090bc000008bd0000603c"
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
            "98cc800372c400c400c400c45013a651007aed9f0148720700cdd41b0cdc4f23"
            "00118c0300b5ec69245be00700b79a316fa4c3f5aa286a4625f128434112d243"
            "5c7715f2617b0f63d9293b6d9bea2bc92834233dc3bda2e0ee50c6cb5fc400"
        ),
        "933bbc93418c777d453a5693988742be",
    ),
    "plain, step, all": (
        (
            "98cc80046fc400c400c400c44e28804402d2953e00a4d45200450202008988e8"
            "a8cd3a0100cc2e7b0021050700fbf530fb93d0ddd9d8e13913411599648956b0"
            "c3c946cd82b322886b02cc5904638daff7df499d692cb9b5522795c400"
        ),
        "5c51e15d2b8d8401108cd107451eeda6",
    ),
    "plain, ternary, all": (
        (
            "98cc80055dc400c400c400c42e34d930008b618a01938b03005ee80c00cba53c"
            "2b7046010016af01000bfe01000c824f3b623e00888d8e1808fbf9c400"
        ),
        "1ec08a6fc524d04139944d093b64761b",
    ),
    "plain, bfloat16, all": (
        (
            "98cc80067dc400c400c400c44637090700487a23038f9b6e0f3c95e04c843d3f"
            "03904a91e3821c260b70d601001d2205ef6adfde5ceebe2b30d437fafeda8c7c"
            "a85c76b88c71b9fcf910dd297b0ff919bd5d7bc46d80491c2e006040c0061828"
            "20a0c3414a0c204080810408102a5029a184cd94303001408300043848084386"
            "0c14180020c10709021204c022e704042070604206c30a342068c34608000020"
            "01820286852028996206040028604001c0891dc3e0ea77078762b81e1588f47c"
            "5e23"
        ),
        "43bbfce5272c9c5597deebc87a254185",
    ),
    "context, int8, all": (
        (
            "98cc80017dc400c400c400c47a894e12003b3a01003cb02a00302d2218992526"
            "005a0100c1c4fe1d0236c50a1f291727c5f1618cd3b2996f38c45d383c0ece27"
            "904810c2e3eae8f2b4a11778a2683b3710562209a9e2a086906a2dea85f50a4e"
            "90a5643633e2cd2844c914f76cc663d5f43d6cc02c16d321d66cf9d2ca1b5f47"
            "ef017927048127c41d83200096c800025b247748f74fee1f0753b83c3b15c0f0"
            "ac47a3e2f118"
        ),
        "66d77d1fcbff8abc87130c3d386bd9ae",
    ),
    "context, step, all": (
        (
            "98cc80046fc400c400c400c44e28804402d2953e00a4d45200450202008988e8"
            "a8cd3a0100cc2e7b0021050700fbf530fb93d0ddd9d8e13913411599648956b0"
            "c3c946cd82b322886b02cc5904638daff7df499d692cb9b5522795c400"
        ),
        "5c51e15d2b8d8401108cd107451eeda6",
    ),
    "plain, step, block": (
        (
            "984804cd0188c400c400c400c4cea48ca001808c7606004c1a002e8c970043c0"
            "2300a9600100d6c01d503ca1a64b1c60fb0943319373ed100c30f8ebfd6b6f80"
            "1380c1ee74e3da0122f56588012d7aa918a0bab7c2684583199fdb277c57eccb"
            "65e435acac7299c14534be24cda262c15696f7b0ec83c46c66e997ceaeb8963e"
            "49585bf3a3cfa183b735a95d428ced56b6a16f66c649e8f18b6fc59213a5ee59"
            "92aaba403c767828e7c75ee261a230b7c4fd3fa447722992416e8acbbe6f6bd7"
            "51db261c650245ba06d26a5149166e37edca9824743bb79959427a1bc421b329"
            "6649464b66492f49266e93c493371336dd9b54cdb695b6ccb6d56d996b324b"
        ),
        "fa0c26a6f8a788bac925235985c5800c",
    ),
    "last, int4, wide": (
        (
            "98cca303cd043bc400c4104e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4ec400c502a4"
            "f7720800d93dd94167d68c002bfe9e0001e60400f660d51c2802c808d5948a15"
            "497db5003f85ca80ac00975cba822d09b7bbf08d532d3eec4e69f62a6666cf39"
            "ff7938aa293476905a4d4c7f27fd132f5cd2ba72b22af590a1f236099ab104a4"
            "a1c2f1d951894e12319a795503d27c719a97ba8e1577489aa22bbfd3069f4216"
            "f9c668c41210e2fd40e8f77b1ea639385e42ffa7d11e9a5b6ff8e6e2659b99e2"
            "7f3fb2a27d288df5c9310d503e56f4059121f01111766fb1f4a461a7998edf20"
            "4c60b6e4d70d504d8746de094802fdae48469a22c8a0ec094b326962a042d411"
            "4505a81ce88622074cedd24fd52690dd1f09330761371981b98ecd7608cc148a"
            "2d9f6789f30c1280efe61e1c48d44190b42a110494036bcd21a39cacd9442410"
            "8f196345e088cdbab6276a604465290ed41ec9739f836aaa487594048b036ad5"
            "702395ff4755f26673c2381976d3df189abbf0e05b472359fb20e78e853692ce"
            "5c864b07889380d8e93ab413f82e10f53a18e723c4123209ee21e4082e54f9ad"
            "8099bdf58f006d4b44ebcb8faf7287c93b215216b4184773d433de7357133446"
            "7f54d66228ea7bec991484f58cec2cc5d295842ba172f0ead5200c385697a752"
            "98d7db9886adbfadf10c4005fddc30ab296c892bf56b4602be4d9ce5c91f1987"
            "e815d80c7dece98627f69b5d738ddc0ff2f97a975ea60c8bb19832bbe44866ec"
            "d2241f5089fe07aebe0229084e181248427904d81aeaeef8f17476ebc4013abb"
            "6d7be1d62353bc9a4ba57aea4fa3c5e702b5d7bae4e1fb4f609e26b6cd106bd3"
            "917d033916decd0385bc11e42ef32ca6f782964bb4ee9812f4cabba2dd3cd2e7"
            "5fc26cfd97bb8a4d985cb64c9dd166b321f48b6c56ec274a191b2891d12d5a01"
            "d37bcafb38c72b397e9064ecdbf2b4fdbc089071600354c6f00d1d8a98a1b4c2"
            "7239b780c400"
        ),
        "7948f15699860645b3d54757aa94f4d4",
    ),
    "last, ternary, wide": (
        (
            "98cc8305cd0352c400c4104e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4ec400c5016a"
            "5e680a00672c0100aa6c5f1017aeae5c5c65940b7f540b13cb27b77deef90100"
            "31b53b9188f1b2b51fb5764e874ab451828f4dd54d6763beb98bf61a7ac3b598"
            "1f234fe25d7056091a6d2e3c1f50a7a0447375705969fe9816083f3aaf6dbe85"
            "2198cf1cd1e54ab3b4327fef0221f5512a4dbd9114d54898c2831e915b128e46"
            "78dfed348907f11355a0e7f3130d3521cc06987a82f40315436bc8a1afc84578"
            "58df4542fa48c81dd3cccc33609e1fc284aac3f4f9bfd548d1470dbf44d73b61"
            "8b945ba787b37a45431b7a8e199cb4f56e2fcf2b562a1598b3f9df7b5eb02d81"
            "697d76ff11a0ed3984fb838e1e4f2c1ea849c0f0d704fb93640f5d977e782610"
            "d827591a0718d02a43907a09a00d16dbcaa3ab8ac9d2eba7df970c3c854f9801"
            "d0ba241b8ea34ff540c3e3a0e05b0f4e1ec7cba0fb49e041041156e399b95f78"
            "13beb23f2e02b419fe9dff940302e9a1ef14c7c2340ba0549e8ed82b5ef070aa"
            "fc0e22fb6709de9b2734c400"
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
    "960101a7656467652d303302c50145dc00100102a572756e2d3103a873706172"
    "736966799f0220cb3fa999999999999acb3feccccccccccccdab626e2d6c312b"
    "67726f7570cb3f60624dd2f1a9fccb3fa999999999999aa4696e7438c3cb3ff0"
    "000000000000cb3fe0000000000000cb4000000000000000a67461796c6f72c3"
    "c2c4105353535353535353535353535353535302c2c4027b7d9495c410535353"
    "535353535353535353535353530ac402b340c410707070707070707070707070"
    "70707070c3c407656e636f646564c41057575757575757575757575757575757"
    "93cd03e8c408cdcccc3d00b88847c4080000000000000040c410545454545454"
    "545454545454545454549495c410535353535353535353535353535353530ac4"
    "02b340c400c2c400c41054545454545454545454545454545454c0c3920ac402"
    "4840c41056ad9e1fd440bc646bda63e6e75081e3c4105a20aa6e43af73470f10"
    "fe6780f16023"
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
    wanted = codec.quantise_delta(delta, known.shape.spec, kind)
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
    assert (settings.update_density, settings.values) == (0.05, "int8")
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
