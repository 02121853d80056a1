"""Messages of version 1 as bytes: they decode to the same values for ever.

Of weights only decoded values are compared: deflate differs between builds of zlib.
"""

import numpy as np
import pytest

from common import codec
from common.codec.fields import read_fields
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
    "0000c43298400103c400c400c400c424950d120036200500908d6f0ebb680100"
    "bb680100bb680100a18b0300000001000d11d6e1c400c4080000803e00004040"
    "935ac40200bec402003a93cb4012000000000000070ac41093ad937db098a4a8"
    "e39d4bc2e6c53379"
)
# name -> (bytes, digest of the decoded delta)
DELTAS = {
    "plain, int8, nothing": (
        "98000100c400c400c400c400c400",
        "01c50040fea9d537f6f64638093b340e",
    ),
    "agreed, int8, nothing": (
        (
            "98150147c400c400c410517f7793b465c770eb3379bfc80118abc44e74603c00"
            "74603c0074603c0074603c0074603c0074603c0074603c000f00e601a900a900"
            "a900a900a900a900a90018201820182018201820182018208320b0a0b0a0b0a0"
            "b0a0b0a0b0a0b0a06c60c400"
        ),
        "01c50040fea9d537f6f64638093b340e",
    ),
    "agreed, bfloat16, nothing": (
        (
            "98150647c400c400c410517f7793b465c770eb3379bfc80118abc45020000020"
            "2000200020002000200020002000200020002000200020000000010000000000"
            "0000000000000000000000003800380038003800380038003800000050005000"
            "500050005000500050000000c400"
        ),
        "941e0c502c87478811f1b6a130227018",
    ),
    "plain, int8, one": (
        (
            "98400101c400c400c400c4225809040075a0180075a0180075a0180016601800"
            "166018001660180019007f00478dc400"
        ),
        "4d752997e2f3ca5332b38bc9b2943513",
    ),
    "plain, int8, some": (
        (
            "98400128c400c400c400c44ec10c3500e00b500132ac1300636cd000876c8b00"
            "01cc3000ce2b9600b38e6a00d210767d0f1c5f0c7996e4eb41f844c2efdde9bc"
            "9ec6627da4a6aec174fbf8fdfe718b3f855aa0ffc3d00ebb3cbfc400"
        ),
        "c9d9da8f6625c08c3cfe1a63e3719c4b",
    ),
    "plain, float32, some": (
        (
            "98400228c400c400c400c42ea90b0800ecab240065ac0100fbcb1000b30b1200"
            "75cc0300246c0c000ea8df0c460dd28ae46d12150e6a4c40e007c4a0000070bd"
            "000008bd000084bd0000603c0000203d000060bd0000d0bd0000f0bc000080bb"
            "000010bd0000303d000050bd0000d0bc0000c0bd0000c0bb0000943d0000b0bc"
            "0000ecbd000030bd0000f03c000084bd0000f03c0000d03d0000003c0000b0bd"
            "000060bc0000703d000010bd0000703d0000403c0000183d0000e03d0000803c"
            "000000bd0000c0bb0000b43d0000283d000058bd0000a03c0000383d"
        ),
        "e75ae19a2f84b0f138a9ef61b1fa4a64",
    ),
    "plain, int4, some": (
        (
            "98400324c400c400c400c43e562cfd02ee4b401ac08ad500954bfc03158c6b01"
            "ab8c3600a70c4a00030a55008e73c0c52bf1c1c079dfa0d8eeae83ff00480084"
            "00dce793a6ca40d00064c400"
        ),
        "8b17d744110f151f3afb0cdc3f1f7172",
    ),
    "plain, step, some": (
        (
            "98400424c400c400c400c442d00c1c003aac6201ddca010954acfb32666c7903"
            "c3ab8400994bb400fd90cdcac840ac7f175d82dfc9a80d3d99a4b80e361ac484"
            "5883140170450ce320222f22dee2c400"
        ),
        "f76b8de4ed7a4bfa4fde2d8466678bdd",
    ),
    "plain, ternary, some": (
        (
            "9840051fc400c400c400c43002ac8661270c01004cea0a00d0cc0a005bab3d03"
            "f28b4900936b36006da7e607147bb004e563c057e0302d0933c9d733c400"
        ),
        "f711b89a9445d25f59fa1bdf73812413",
    ),
    "plain, bfloat16, some": (
        (
            "98400628c400c400c400c44a760c3502916b0a00886c6879c0cb0400aceb0600"
            "9a2c45e05ccc02009902e605ee402db3148578da95bac77797b6575f07c74797"
            "87df07860f7fe0bf26de187f70ff41df0ade20bfe1dfc41887009c2800618381"
            "0e100c6000020345161038e7dee8d064"
        ),
        "e75ae19a2f84b0f138a9ef61b1fa4a64",
    ),
    "context, int8, some": (
        (
            "98400128c400c400c400c44ec10c3500e00b500132ac1300636cd000876c8b00"
            "01cc3000ce2b9600b38e6a00d210767d0f1c5f0c7996e4eb41f844c2efdde9bc"
            "9ec6627da4a6aec174fbf8fdfe718b3f855aa0ffc3d00ebb3cbfc400"
        ),
        "c9d9da8f6625c08c3cfe1a63e3719c4b",
    ),
    "context, step, some": (
        (
            "98400424c400c400c400c442d00c1c003aac6201ddca010954acfb32666c7903"
            "c3ab8400994bb400fd90cdcac840ac7f175d82dfc9a80d3d99a4b80e361ac484"
            "5883140170450ce320222f22dee2c400"
        ),
        "f76b8de4ed7a4bfa4fde2d8466678bdd",
    ),
    "agreed, int8, some": (
        (
            "98140147c400c400c410517f7793b465c770eb3379bfc80118abc44ea2b1337f"
            "e1b013282792b49ac0f117a8919178011732142c03301b380cada005efba6340"
            "1a3727e0c2992ce0c8ff4d7e7e607359afe073005720a0c0a8a0fd1fb0f143df"
            "17fb9a9f3710e29f61adc400"
        ),
        "c9d9da8f6625c08c3cfe1a63e3719c4b",
    ),
    "agreed, bfloat16, some": (
        (
            "98140647c400c400c410517f7793b465c770eb3379bfc80118abc4529fef0500"
            "7009dc0000f3c300001ea000f0fe9f00071b3001701e8c005fbe0100004e7000"
            "581f1800571f470017a09f1f78601700fb1e6700070057e0176007e01fa08ade"
            "dadfce9ebddf53feecbf61de53dfc41887009c28006183810e100c6000020345"
            "161038e7dee8d064"
        ),
        "e75ae19a2f84b0f138a9ef61b1fa4a64",
    ),
    "plain, int8, rows": (
        (
            "9850012dc400c400c400c444e5206b004dd1410035f02c003201d40145816801"
            "e4e00700273107000727283d1c01a3a3a38c982d7115d5762df3a8b83669fa11"
            "6238bc6ff25c001f8077f83144d6d4c3c400"
        ),
        "0df237bb2269a10371cfe4c93a3121f2",
    ),
    "plain, int8, all": (
        (
            "9840017dc400c400c400c478cc1131d6da700a00692f0100a171f92049b13400"
            "d831fb2ef230ad1288330200cc3f8affdd8724c65c535d3f5318b09c4a38d87c"
            "5df7d87b9d18d6119c3b1770b797953b2d577c4f315266431696d84dd3561807"
            "ebd3352f6f25415649ee81643ab6834ec8aedb357c37601a688c06f053b97674"
            "8f040ac8c41d83200096c800025b247748f74fee1f0753b83c3b15c0f0ac47a3"
            "e2f118"
        ),
        "66d77d1fcbff8abc87130c3d386bd9ae",
    ),
    "plain, float32, all": (
        (
            "9840027dc400c400c400c420f5b01900f5b01900d30f7a0cf5b0190077711900"
            "777119007771190018040100c501f4000070bd000090bc000008bd0000603c00"
            "0084bd0000a4bd000008bd0000603c0000f03d0000203d0000b03d000060bd00"
            "0000bc0000b0bd0000d0bd000060bd0000e43d0000c43d0000903c0000843d00"
            "00483d0000f0bc0000dcbd000080bb0000303d000010bd0000983d000080bb00"
            "00303d0000e03c000050bd000020bc0000d0bc0000b03c000068bd000094bd00"
            "00d0bc0000b03c0000c03b0000403d0000c03d0000a03d0000a0bd0000c0bd00"
            "0040bd0000c0bb0000d43d0000d03c0000943d0000683d0000b0bc0000ccbd00"
            "00ecbd0000503d0000e0bc000030bd0000803b0000503d0000103d000030bd00"
            "00803b000090bc0000f03c000048bd000084bd000090bc0000f03c0000603c00"
            "00603d0000d03d0000b03d0000003c000090bd0000b0bd000020bd0000f0bd00"
            "00483d0000083d0000a43d0000843d000060bc0000083d0000dcbd0000703d00"
            "00a0bc000010bd0000403c0000703d0000303d000010bd0000403c0000ec3d00"
            "00183d000028bd000068bd000020bc0000b4bd0000b03c000068bd0000e03d00"
            "00c03d0000803c000080bd0000a0bd000000bd0000e0bd0000c0bb0000283d00"
            "00b43d0000943d0000c0bb0000283d0000ccbd000058bd000040bc0000e0bc00"
            "00a03c0000803b0000503d0000e0bc0000a03c0000803b0000383d000008bd00"
            "0048bd"
        ),
        "43bbfce5272c9c5597deebc87a254185",
    ),
    "plain, int4, all": (
        (
            "98400372c400c400c400c452d22f391e11d0257322b006137baf0100cd108409"
            "bcef8c01ed700276a9be010079cbbbb01f2659165b6b7424d32b0a89b1419d28"
            "3aab34d0a3748f8fa279c8d4235ac84bd826426193b2b265e8216ab1d246c400"
        ),
        "933bbc93418c777d453a5693988742be",
    ),
    "plain, step, all": (
        (
            "9840046fc400c400c400c46028d0f14087b01d1a74d07f181a304600feef2800"
            "b98f1a009c2f64032fd40100a76c64976379fbaa1dcc6162ed120b152b846c24"
            "7ea12a8206019a6447a2fda022646d011703a66195c477e58f82c3a2f9f79a29"
            "616c7a4cbb57f4333765edf3c400"
        ),
        "5c51e15d2b8d8401108cd107451eeda6",
    ),
    "plain, ternary, all": (
        (
            "9840055dc400c400c400c432f5efd2f6722e0700d94f5311a570b91ebfee0b01"
            "516f6305884fae083f79450085e3c31c49b9360a38cfab3ed555a4fb7d80c400"
        ),
        "1ec08a6fc524d04139944d093b64761b",
    ),
    "plain, bfloat16, all": (
        (
            "9840067dc400c400c400c4606af1f23f4431330097efcddffef04f003eb11400"
            "bc300b00da702c0043e40100a94ee7caffff7fffefbf7fffffff6f7f77bf0fbf"
            "e7fd27bf9fbe677f5fde52ffbd7f26df92dfdd7f76bfb3be6edf533f8415bdf7"
            "255f0b7830bed37bdcdceac4c46d80491c2e006040c006182820a0c3414a0c20"
            "4080810408102a5029a184cd943030014083000438480843860c14180020c107"
            "09021204c022e704042070604206c30a342068c3460800002001820286852028"
            "996206040028604001c0891dc3e0ea77078762b81e1588f47c5e23"
        ),
        "43bbfce5272c9c5597deebc87a254185",
    ),
    "context, int8, all": (
        (
            "9840017dc400c400c400c478cc1131d6da700a00692f0100a171f92049b13400"
            "d831fb2ef230ad1288330200cc3f8affdd8724c65c535d3f5318b09c4a38d87c"
            "5df7d87b9d18d6119c3b1770b797953b2d577c4f315266431696d84dd3561807"
            "ebd3352f6f25415649ee81643ab6834ec8aedb357c37601a688c06f053b97674"
            "8f040ac8c41d83200096c800025b247748f74fee1f0753b83c3b15c0f0ac47a3"
            "e2f118"
        ),
        "66d77d1fcbff8abc87130c3d386bd9ae",
    ),
    "context, step, all": (
        (
            "9840046fc400c400c400c46028d0f14087b01d1a74d07f181a304600feef2800"
            "b98f1a009c2f64032fd40100a76c64976379fbaa1dcc6162ed120b152b846c24"
            "7ea12a8206019a6447a2fda022646d011703a66195c477e58f82c3a2f9f79a29"
            "616c7a4cbb57f4333765edf3c400"
        ),
        "5c51e15d2b8d8401108cd107451eeda6",
    ),
    "last, int4, wide": (
        (
            "986303cd043bc400c4104e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4ec400c502fa3a"
            "ecc466354cc300c6ccfe0896cc0300c84b0100842c251ece8bb000a56c010010"
            "0cf1cb79ccf9abaf4be40bdd0bfceb0dcc57cca04c978bec2befcb020c1ec6c9"
            "aeb476029d070378e27507122db48d5299656eaebae40985b2301c5f982d2138"
            "4260c86429eb46a9d66818f0110a4b1525566c7f606e06ea62c52fd385299962"
            "a01f962f1728a1f7e46c05edf40e0f6794db1286330fa3d4eabe7017c5833236"
            "989d4c15962710f0e55f53843f405de9f63a367deb7d6f87ed758de6dc53fbe2"
            "d568d7875626f64acee7c2d90e263e779a209bac7991210689001c4935b72b65"
            "9289c6ddf88b2e498607068fabe8564edbaeca257a2606f865e9102013af874b"
            "6c066f8f4a631e9688e505306587d4a01126cff69128815757f34a2d33aaa230"
            "99c171d4274a8602abf029ec9b5368513d3b337f5bcf30be85adb074af1648a6"
            "c26d55a7d0c2b67f58173a48d022b9617b463b733de2babe83a1844ba44dc34e"
            "c5c158e733cf08bc87c8fe9044712fcdc8c63133b32610f3c02a29ebfc929e19"
            "5cdf3aba211e1332971e2662e41004cc889b9a1f83d043f222121ed58f982971"
            "1800e5b715e7c8b0327e791c1ae108f0a6e9a2f08484bd4e734e734e734e734e"
            "732a73a2732273497392738a739273927392739273927392336e4a92493a496d"
            "4a6949964a9f490b49964b0b4bde4b66ca8a486b67a28483ec72a58ff01cdba5"
            "8421692cb71bf344788114170f9ab1ec417cbb38c9293c929cfe0394c8e74005"
            "2b30b22572fabaf43b46f1a7c5f12946c48435ac286835115d9c4a573421769e"
            "c1bc32774b6a567a39f5a7dba9e95986ad54329fee0c3a273a4b17c72d5cd92b"
            "3f17396dd00fe2cd8df8f8898a02122f1155a7ac852e31c62badc154fb5a50a7"
            "8de4506734bf722b87153951eda12a2593c331a568790492255a95d4f3462a8d"
            "751103d0bd66501332fd8db39a654f88fbddd27b23a948df9e19b33783410018"
            "6e18cced643d6ee17d61ace8725908c5927451db123275dddf4d82987ead82dd"
            "00b808d1f394adda97f61857f2c5cdabf0db0778a246e1b240c400"
        ),
        "7948f15699860645b3d54757aa94f4d4",
    ),
    "last, ternary, wide": (
        (
            "984305cd0352c400c4104e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4ec400c5019ab8"
            "ea420069cc1300850c2d000beca0187d4cc300d6cba40183aa59e104ec3301c6"
            "ebad2c3bacacac89ea1eacc2ec386c576c7b4c5b6cb6ac2e0ca30b6c0c7d7f9b"
            "fb5b710fb9ff4ca4d256e02e5c88154ce66fbbe8b431557417ea8081b05c9282"
            "2f2701880907e006b7fe9f8e712b3e1933e4dc397a38106d47bb222096388ed4"
            "f63880e1263c15ae074f8030965a1ec77e4961e1392402664900ce2b20823b7e"
            "d8608beda67fe20bc416b1b79171f02b0bc33bee9a0821badaf3870602605d5a"
            "ec1544e011a90d3b452082f95a896653a96e9f3bb95dde347bb31857b8efb92f"
            "86015e623331837d6ed3ea09f5ccbfea71a1d24235a5f085e90810feb5c8defb"
            "1e668a3b04f3dc7cae7e98d140ab551d2c4c334b7fe6663610f97bf7a95d08e3"
            "3a20010a3a86ac79e138817cf3eb9a8d875fc835a1131d138b4a86643ad2ae2a"
            "7d175650bbd00efa48e68f3b86ea1e93d37722d4138a13a8872118cd2d5f40e9"
            "8fe40ed18533621b909fae91eddd7718af828b3e453358fd9408ace8652d05ac"
            "016a4caa9579f0d1c198ff6ef7a2f467f878f243f8c4fde4f4c400"
        ),
        "0e96355c11df47c587308614699f31f7",
    ),
}

WEIGHTS_INT8 = (
    "96010400c3c41563008206067b86fa830c8c0c4010cac0607a800100c4108964"
    "4483126767c106ac92ae42ca57b9"
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
    headers = [fields.header for fields in found]
    for flag in ("base", "last", "agreed", "row_sizes"):
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


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (WEIGHTS_INT8, [127, -63, 0, 1, 0, 0, 0, 0, 0.333251953125, -2, 0]),
        (
            WEIGHTS_FLOAT32,
            [127, np.float32(-63.4), 0, 1, 0, 0, 0, 0, np.float32(1 / 3), -2, 0],
        ),
    ],
    ids=["int8", "float32"],
)
def test_weights_of_version_1_decode_to_the_same_values(data, wanted):
    assert codec.decode_weights(bytes.fromhex(data), SMALL).tolist() == wanted


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
