"""Messages of version 2 as bytes: they decode to the same values for ever."""

from dataclasses import fields

import numpy as np
import pytest

from fedprune.common import codec
from fedprune.common.codec.delta.header import read_fields
from fedprune.common.codec.delta.options import CodingFlags
from fedprune.common.messages import Phase, SparseDelta
from fedprune.common.spec import ModelSpec, TensorSpec, digest_of

pytestmark = pytest.mark.usefixtures("coder")

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


def golden_inputs():
    """Return what both ends hold, the delta and the kind of values of each message."""
    shape = codec.Layout(GRID)
    sets = {
        "nothing": [],
        "one": [7],
        "some": [i for i in range(GRID.size) if i * 11 % 7 < 3 and i % 20 < 15],
        "rows": [*range(20, 60), *range(120, 126)],
        "all": list(range(GRID.size)),
    }
    plain = codec.SideInformation(layout=shape, base=np.zeros_like(BASE))
    weights = codec.SideInformation(layout=shape, base=BASE)
    mask = np.zeros(GRID.size, bool)
    mask[sets["some"] + [3, 118]] = True
    known_positions = codec.SideInformation(
        layout=shape, base=BASE, mask=np.sort(mask)[::-1] | mask
    )
    found = {}
    for name, indices in sets.items():
        positions = np.array(indices, dtype=np.int64)
        delta = SparseDelta(size=GRID.size, indices=positions, values=CHANGE[positions])
        found[f"plain, int8, {name}"] = (plain, delta, "int8")
        if name in ("some", "all"):
            for kind in ("float32", "step"):
                found[f"plain, {kind}, {name}"] = (plain, delta, kind)
            found[f"context, int8, {name}"] = (weights, delta, "int8")
            found[f"context, step, {name}"] = (weights, delta, "step")
        if name in ("nothing", "some"):
            found[f"agreed, int8, {name}"] = (known_positions, delta, "int8")
    numbers = np.arange(WIDE.size)
    base = (((numbers * 37 % 41) - 20.5) / 64).astype(np.float32)
    positions = np.flatnonzero((abs(base) > 0.1) & (numbers % 13 > 1))
    moved = base * (numbers * 29 % 31 - 20) / 256 - np.sign(base) / 16
    moved = moved[positions].astype(np.float32)
    delta = SparseDelta(size=WIDE.size, indices=positions, values=moved)
    weights = codec.SideInformation(layout=codec.Layout(WIDE), base=base)
    rows, columns = numbers // 60, numbers % 60
    block = np.flatnonzero((rows * 7 % 60 < 24) & (columns * 11 % 60 < 18))
    delta_of_block = SparseDelta(size=WIDE.size, indices=block, values=base[block] / 8)
    plain = codec.SideInformation(layout=codec.Layout(WIDE), base=np.zeros_like(base))
    found["plain, step, block"] = (plain, delta_of_block, "step")
    for kind in ("int8", "step"):
        found[f"context, {kind}, wide"] = (weights, delta, kind)
    return found


def delta_digest(q):
    """Return the digest of a decoded delta's numbers."""
    return digest_of(
        q.indices.astype("<i8").tobytes(),
        q.values.astype("<f4").tobytes(),
        q.scales.tobytes(),
    ).hex()


UPDATE = (
    "9e020da572756e2d3103a7656467652d3033c410505050505050505050505050"
    "50505050c41042424242424242424242424242424242cd012ccb3fe000000000"
    "0000c42c97400103c400c400c4200d91f0fd80c50c4c3c9a1c02bb680100bb68"
    "0100bb680100bb680100bb680100c400c4080000803e00004040935ac40200be"
    "c402003a93cb4012000000000000070ac41088dce168f0c9aa3ec1b571d48f3c"
    "d032"
)
# name -> (bytes, digest of the decoded delta)
DELTAS = {
    "plain, int8, nothing": (
        "97000100c400c400c400c400",
        "01c50040fea9d537f6f64638093b340e",
    ),
    "agreed, int8, nothing": (
        (
            "97030147c400c410517f7793b465c770eb3379bfc80118abc42ef3001000f300"
            "1000f3001000f3001000f3001000f3001000f3001000a560520fd800d800d800"
            "d800d800d800d800c400"
        ),
        "01c50040fea9d537f6f64638093b340e",
    ),
    "plain, int8, one": (
        (
            "97400101c400c400c4204f44d538498301004983010049830100498301004983"
            "0100d57e01008200ba00c400"
        ),
        "4d752997e2f3ca5332b38bc9b2943513",
    ),
    "plain, int8, some": (
        (
            "97400128c400c400c44c211f04006af7f803a8810800eb740a00148f010018e1"
            "8a00b1e4335021270c0096b35f53456826de60f6782fa426da7030de1f7d7fa6"
            "fb3a717b99fd66f7165d92e454bc9149c51eb9f61a89c400"
        ),
        "c9d9da8f6625c08c3cfe1a63e3719c4b",
    ),
    "plain, float32, some": (
        (
            "97400228c400c400c4242c961871827b0100eb83291fe943010067071d972d2a"
            "8d29ed5d70646021b40d3a9ac9ebc4a0000070bd000008bd000084bd0000603c"
            "0000203d000060bd0000d0bd0000f0bc000080bb000010bd0000303d000050bd"
            "0000d0bc0000c0bd0000c0bb0000943d0000b0bc0000ecbd000030bd0000f03c"
            "000084bd0000f03c0000d03d0000003c0000b0bd000060bc0000703d000010bd"
            "0000703d0000403c0000183d0000e03d0000803c000000bd0000c0bb0000b43d"
            "0000283d000058bd0000a03c0000383d"
        ),
        "e75ae19a2f84b0f138a9ef61b1fa4a64",
    ),
    "plain, step, some": (
        (
            "97400324c400c400c438ef8ca50019763d0944926b520cee0b009c1703002bfa"
            "a94157d939336c1ec80acf6b0efb7633862acc84392212e226e37e0172246c63"
            "6ea5c400"
        ),
        "f76b8de4ed7a4bfa4fde2d8466678bdd",
    ),
    "context, int8, some": (
        (
            "97400128c400c400c44c211f04006af7f803a8810800eb740a00148f010018e1"
            "8a00b1e4335021270c0096b35f53456826de60f6782fa426da7030de1f7d7fa6"
            "fb3a717b99fd66f7165d92e454bc9149c51eb9f61a89c400"
        ),
        "c9d9da8f6625c08c3cfe1a63e3719c4b",
    ),
    "context, step, some": (
        (
            "97400324c400c400c438ef8ca50019763d0944926b520cee0b009c1703002bfa"
            "a94157d939336c1ec80acf6b0efb7633862acc84392212e226e37e0172246c63"
            "6ea5c400"
        ),
        "f76b8de4ed7a4bfa4fde2d8466678bdd",
    ),
    "agreed, int8, some": (
        (
            "97020147c400c410517f7793b465c770eb3379bfc80118abc4483c9127002990"
            "010027b27405ad91a3036fd1784618122041085008006d8d873bc71c05185c5a"
            "3fe006ba1fab7d84505974bfe063d2817a56803fe15f5b9bb87fd47e18957156"
            "2eb6c400"
        ),
        "c9d9da8f6625c08c3cfe1a63e3719c4b",
    ),
    "plain, int8, rows": (
        (
            "9728012dc400c400c446d5200b0094914b00a3af2b0003408f003240150f1641"
            "010063910600719e0200be105d9cdaaa1f26f9ebc4bfd0a37e17dbf289f83ad2"
            "c3dc31f4e6bd5b2b95ddf9d0aa6de320c400"
        ),
        "0df237bb2269a10371cfe4c93a3121f2",
    ),
    "plain, int8, all": (
        (
            "9740017dc400c400c478196f0500460bd2a708e217000bdf1b11ad75060086a1"
            "ad4b04193f016fddf40683c119c5c9c55493a4784f9e5ebe71dc07d1d62bfe20"
            "50d847c9a418a982e63b04f084c26b4955005891688dbd86ef4adbae70641ad5"
            "efed0da43694506cdd23d654ddacde8c523469973519e3aaae9f540f69bbc498"
            "2584c41d83200096c800025b247748f74fee1f0753b83c3b15c0f0ac47a3e2f1"
            "18"
        ),
        "66d77d1fcbff8abc87130c3d386bd9ae",
    ),
    "plain, float32, all": (
        (
            "97cc80027ec400c400c400c501f8000070bd000090bc000008bd0000603c0000"
            "84bd0000a4bd000008bd0000603c0000f03d0000203d0000b03d000060bd0000"
            "00bc0000b0bd0000d0bd000060bd0000e43d0000c43d0000903c0000843d0000"
            "483d0000f0bc0000dcbd000080bb0000303d000010bd0000983d000080bb0000"
            "303d0000e03c000050bd000020bc0000d0bc0000b03c000068bd000094bd0000"
            "d0bc0000b03c0000c03b0000403d0000c03d0000a03d000000000000a0bd0000"
            "c0bd000040bd0000c0bb0000d43d0000d03c0000943d0000683d0000b0bc0000"
            "ccbd0000ecbd0000503d0000e0bc000030bd0000803b0000503d0000103d0000"
            "30bd0000803b000090bc0000f03c000048bd000084bd000090bc0000f03c0000"
            "603c0000603d0000d03d0000b03d0000003c000090bd0000b0bd000020bd0000"
            "f0bd0000483d0000083d0000a43d0000843d000060bc0000083d0000dcbd0000"
            "703d0000a0bc000010bd0000403c0000703d0000303d000010bd0000403c0000"
            "ec3d0000183d000028bd000068bd000020bc0000b4bd0000b03c000068bd0000"
            "e03d0000c03d0000803c000080bd0000a0bd000000bd0000e0bd0000c0bb0000"
            "283d0000b43d0000943d0000c0bb0000283d0000ccbd000058bd000040bc0000"
            "e0bc0000a03c0000803b0000503d0000e0bc0000a03c0000803b0000383d0000"
            "08bd000048bd"
        ),
        "fa9e1dddac5656be4421a90a71a5237e",
    ),
    "plain, step, all": (
        (
            "9740036fc400c400c44e354c17034e1a60002b666900ea48030065b5c0ed938e"
            "0100d19c920002e40800cf7c082b6da398393d421813f8141eb544e42167e7a1"
            "9bc56564ceeca16b124144d0009690aa5b2e9855ac3002d3c400"
        ),
        "5c51e15d2b8d8401108cd107451eeda6",
    ),
    "context, int8, all": (
        (
            "9740017dc400c400c478196f0500460bd2a708e217000bdf1b11ad75060086a1"
            "ad4b04193f016fddf40683c119c5c9c55493a4784f9e5ebe71dc07d1d62bfe20"
            "50d847c9a418a982e63b04f084c26b4955005891688dbd86ef4adbae70641ad5"
            "efed0da43694506cdd23d654ddacde8c523469973519e3aaae9f540f69bbc498"
            "2584c41d83200096c800025b247748f74fee1f0753b83c3b15c0f0ac47a3e2f1"
            "18"
        ),
        "66d77d1fcbff8abc87130c3d386bd9ae",
    ),
    "context, step, all": (
        (
            "9740036fc400c400c44e354c17034e1a60002b666900ea48030065b5c0ed938e"
            "0100d19c920002e40800cf7c082b6da398393d421813f8141eb544e42167e7a1"
            "9bc56564ceeca16b124144d0009690aa5b2e9855ac3002d3c400"
        ),
        "5c51e15d2b8d8401108cd107451eeda6",
    ),
    "plain, step, block": (
        (
            "972403cd0188c400c400c4cef26bb601764c4c0455cc26005acc87002ac11d00"
            "43010100c500064878207741df208701df998872b25a25eaa12c414c48616bab"
            "d7e730cf9c8baabc6b0a8a3adcc1689100f1f5fb7d2ec3eabbc4341a7ef78e1b"
            "d135f67521d049d1442429c38c0184f0748e1747a3afe085546e3b925d9d3d33"
            "300955111d41a4b684dc3ec73155e360fe662b0d3eaf688aa22df5e585b901d7"
            "406d53ce2c4d9f88bde321646537139fcc5b9723c98da3939bebabae96d48455"
            "65fd77852af94610c16f6d54635414a8b146b61b245b74e4ab1bc421b3296649"
            "464b66492f49266e93c493371336dd9b54cdb695b6ccb6d56d996b324b"
        ),
        "fa0c26a6f8a788bac925235985c5800c",
    ),
    "context, int8, wide": (
        (
            "975101cd086bc400c400c503acde5802008d63590f9a857900893f0d005d6604"
            "00c0f49829c57b08007f0503006d08e4d4c09dab2ce56174c2d1796ecbd98f0c"
            "5aacc2326a815b0cc07b831fe3742863681b60757539479207139d20965b7d8a"
            "d1d57edf61699d779eeed92fdef8811e17a5977a85f334cfbc477549e58900e0"
            "4d6f9af63a443e306ea29f5fd0b058d118abb535d06cfd7ca45ee04686ab5277"
            "4ff5c87e5b23d1b6e4f4acb276fb441c8ce5e7f38a749d742a383801dbc34554"
            "e3586dbf64f7fad73d53053b4e4113fac162fec782a707ef7256281ca1f9d480"
            "142b803784bd37b5805e7daaa57353e4933f07ca140531701ac7c1c371a6713b"
            "9194b1d4888e6cd2b7dfe48ee9f71b15cce33c731d52bb5e1c7efec41195da25"
            "1a3bcef93d711aa23f82ccfc4c727f785ee444d19388ce156454e13698215ed4"
            "6386ee37f2abadf2635e6cdf146418593f4f22d57ef1eec1df6a0ffabb313dd6"
            "049e96e4fb40ad5935f91bdcfc27f21c1fee99aaba4c9fe71f2bab134c926d37"
            "3cf8e7d5b05755874d0c7279e22685e3885579cc2c09bf39574c8aee3da718f2"
            "a5001448f141c236b61d94ee3d57f63ea622bbaff5d733bd360ce519db2be7c8"
            "f1d21a6b1d72570be4adf84cbc5c53543e2a8be45f9863e02a7a7efceaf59da2"
            "980a1eb3ad23d75dec17550e6ec9207b2e70132093e42cb80adb271b32afa9ce"
            "d67351d0abf4ece2a822c8e53aea5614b012e9430c2e9096f083c9889205702c"
            "92358d9eb771bafc447747271c178d2c6affd4fe39fe8236a5516ea8539a50e1"
            "d29857027880a036da14be60e64d1fab23d93de2bfaddf647a19ff29fee1fdc5"
            "3dd13525de9bc22c914c944b7e7b5f4564f39c96c52a0b2fb9d4884d5bb08065"
            "22014350eb980a6e4703ae98f7776ace7c2246f1877530420d9f6fd094aac4ef"
            "de5c905a6e313491833f82276e3f53114375342031c0898a955d3d38d9f7794b"
            "18fb46a3152159ae9ed928ea97133f74f1549ef76514219c9550fafe7737b494"
            "48ccf69463ae2a0737ef6cd39ee3d3c02b36ceabfb48c4d297e3f2679b6f62cb"
            "8c5aed4f2fa0131fbd597f27a6d281b12e68d2df31bc82ab84283e77085503c4"
            "d6e0d358b861634c87ec7be1e78f01469981fb923f5ec650141770c58b187639"
            "fe0b3fe869a27b89e8e60aeb56877d7ed619b565be1499110a97734463f154bb"
            "f8b3170783b9b5f5365747177cc758571a607636de6decad4ed8625808ded3f5"
            "79c9d2a9371e6ef9120da55714d6b07570cf504246962b592313909774a27d61"
            "8447822cac7fdf260a6756443bf6deb5fdcd9e21168b6f3f64c50319a424bddc"
            "8915d38b8e776c49834f02d6dcb5b59e5c79129dc14459e59b49867ed9379ed5"
            "281c4388a776ca4181c233f54b1f004f11aad53b917143158654edaf850cfda0"
            "6438eeb0b43d7c185b42434e70de0c04a6ce3e22833024135888d1fcd04c94c5"
            "cc220fc912539d15e86ee671f0f05360db99bfe0880eb17d66e804865e336dc6"
            "6c9b366484b7191bb169d8475c65b655e7648ae532fd967e01e46ed4381e3820"
            "f9a74c8cef1d17e4962e4485145da024b15bcdd36d48838b12945d30b01627dc"
            "c374c8f75d364f65e72306e5d255685c88b958adc3017936667d0d3a01e2e393"
            "c08587ce3026dcc53a0cb87811821465e1fc3dc02cd390d5f0f70ca58f62cd83"
            "bfc6ed5a18c4bbfd65f5c1145edeeedae7e8af597bb88e1f80548491dc8845d3"
            "89ee39dda9835e22d6e775b58e7971e49dc1a559e5fe6930e7db269ed5226443"
            "8a629ddb0181c65faa79780207e2355bdc88fe18adb054f24535f433a06540ee"
            "b05287af930b6b834e644e0c09129b38a28300a4135108d1c7f34130c5c8b20f"
            "cce24a73e2bd0dd38fae029b2b1b7337fc1106317d718804851978cdc66cd236"
            "641ab719b46ec5a0475935b65754ec915ca653d67e78246e9950e07820f9b464"
            "641ce8bf5c92c5c428ae8d012b115bcce74db5238b1a445d32c602c5fb9865db"
            "37d9364f81979c8ee5d789685e50b95f42b70c19365d9d0d23e03c517278103e"
            "701e36e628a741950f023e1465effc3c0700b348d5ff870ca71762c5b60eff2d"
            "5a7644bbbbecbebe228beaeedb6be8ad9d65eeee1f82842497b44222ba713dce"
            "ed891af1e056e772d6d639f1e44a41a5113cbfcd261c3f269e792260710e299d"
            "db2901c6466a7963e0081f355aa788fe2815dcaa8248a7a19fb32a071dd60a58"
            "f5f20b6b890e64437830245b38f88300c093516223471f413253c88be7f99c09"
            "4e7e8d0ddccfae1e0a6cac7337ff8831d66b8cdd0090a3c66dbb669366641a12"
            "dc66d2c5a763593196caeafd922d6653f65e780791ba65e078e0f9b4e9641de3"
            "a2fd72c5c890ae8bb02562eb799ceda91058d2528ba6584058b43265e577d974"
            "d93e079c8c1bd789545e5222e57d070c05e65d9980"
        ),
        "23044d2b827bb92afa9eb59011f747a4",
    ),
    "context, step, wide": (
        (
            "974103cd086bc400c400c501e4de5802001d790200cb21a530f200030275640f"
            "04d7f89c00c57b0800512512006d08874bab2c894783d74b12f0a7acc2fe6274"
            "1c0bed815b45cd9c8568c46f4d92e163681b60d373d858b150ae0456b0272a8a"
            "d1ca58699d43d75c4a9d5deed9828a368af3349910ba50759c30a3612fe04de2"
            "b16f9a08df0a3cf51d3cd1218eb058822f2de86cfdc4cc802264859fdc8feaf5"
            "c87e5b605730127294b38c429d682cb2768f7af38a84b48b34ce8744ccc63a58"
            "6d00dcf7fac752641fc801386b411309388ec2aa61ae694247e0e6a2d5c67f98"
            "a79c1de9fda361e7104600058bf7ccbe98a678a190053885d64595c119e62155"
            "42b302b365574e2f6e0deb63b507deab0bc25ca34151b254192bb8456eb4967a"
            "78dbfbbd4ba7043aaf472690c2d72b47a39d5a07279161c1da56f04a60694e0c"
            "946825422b0f623bcaa1cc44ee311a61d6822174eb256c9b9ca936067eae68fe"
            "77144b23c4a143a3665b865b7aa497d83dea693f342f7b9813dcbcc511623e44"
            "03280e68c4f184cca30d01aba9ac59cc30f0e7255a41eeaea4725bbe9845dabf"
            "04241d0f39f8a9f47bb0df1460ecbc5d17aebf3de9872082183d13313f7c503f"
            "820e2ea6bbe3cc35393293ede1b44058f8e698570a900ba27f70db8591c3dc33"
            "c6f305643b5b30f845a14845cc9bbe4308c400"
        ),
        "50f082426a0008b59dba012453a7a313",
    ),
}

WEIGHTS_FLOAT32 = (
    "940204c42c0000fe429a997dc2000000000000803f0000000000000000000000"
    "0000000000abaaaa3e000000c000000000c41067271afcc6d323d1e0410e9711"
    "71244f"
)
PLAN = (
    "96020ca7656467652d303302c50174dc00110202a572756e2d3103a873706172"
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
    "5454545454545454c0c0c3920ac4024840c4103a01c76855b363027065303034"
    "a3716bc41047a1fd95673ba22946971008514963f0"
)
PLAN_OF_ALL_SETTINGS = (
    "96020ca7656467652d303302c501a1dc00110202a572756e2d3103a873706172"
    "73696679dc001a0220cb3fa999999999999acb3feccccccccccccdab626e2d6c"
    "312b67726f7570cb3f60624dd2f1a9fccb3fa999999999999aa472617465a469"
    "6e7438cb3fb0000000000000c3cb3ff0000000000000cb3fe0000000000000cb"
    "4000000000000000a67461796c6f72c3c2cb4014000000000000cb3fd0000000"
    "000000cd012ccf7fffffffffffffffa56164616d77cb3fb0000000000000cb3f"
    "d0000000000000a46266313692a5636f6e7631a86c61796572732e30c4105353"
    "535353535353535353535353535302c2c4027b7d9495c4105353535353535353"
    "53535353535353530ac402b340c41070707070707070707070707070707070c3"
    "c407656e636f646564c4105757575757575757575757575757575793cd03e8c4"
    "08cdcccc3d00b88847c4080000000000000040c4105454545454545454545454"
    "54545454549495c410535353535353535353535353535353530ac402b340c400"
    "c2c400c41054545454545454545454545454545454c0c0c3920ac4024840c410"
    "b0e8f7572a9cc7e7de0a9ecfd2dc9f74c410eba9199bd4626edcce2cea82f6b7"
    "a3e3"
)


# Earlier writers coded the positions of a delta that has all of them.
OLDER = (
    (
        "9740027dc400c400c4204427010044270100e6caf84944270100442701004427"
        "0100f8240100f8240100c501f4000070bd000090bc000008bd0000603c000084"
        "bd0000a4bd000008bd0000603c0000f03d0000203d0000b03d000060bd000000"
        "bc0000b0bd0000d0bd000060bd0000e43d0000c43d0000903c0000843d000048"
        "3d0000f0bc0000dcbd000080bb0000303d000010bd0000983d000080bb000030"
        "3d0000e03c000050bd000020bc0000d0bc0000b03c000068bd000094bd0000d0"
        "bc0000b03c0000c03b0000403d0000c03d0000a03d0000a0bd0000c0bd000040"
        "bd0000c0bb0000d43d0000d03c0000943d0000683d0000b0bc0000ccbd0000ec"
        "bd0000503d0000e0bc000030bd0000803b0000503d0000103d000030bd000080"
        "3b000090bc0000f03c000048bd000084bd000090bc0000f03c0000603c000060"
        "3d0000d03d0000b03d0000003c000090bd0000b0bd000020bd0000f0bd000048"
        "3d0000083d0000a43d0000843d000060bc0000083d0000dcbd0000703d0000a0"
        "bc000010bd0000403c0000703d0000303d000010bd0000403c0000ec3d000018"
        "3d000028bd000068bd000020bc0000b4bd0000b03c000068bd0000e03d0000c0"
        "3d0000803c000080bd0000a0bd000000bd0000e0bd0000c0bb0000283d0000b4"
        "3d0000943d0000c0bb0000283d0000ccbd000058bd000040bc0000e0bc0000a0"
        "3c0000803b0000503d0000e0bc0000a03c0000803b0000383d000008bd000048"
        "bd"
    ),
    "43bbfce5272c9c5597deebc87a254185",
)


def test_all_positions_that_were_coded_are_read_as_ever():
    side_info, _, kind = golden_inputs()["plain, float32, all"]
    data, digest = OLDER
    found = codec.decode_delta(
        bytes.fromhex(data), side_info, values=kind, max_entries=side_info.layout.size
    )
    assert delta_digest(found) == digest


@pytest.mark.parametrize("name", golden_inputs())
def test_a_delta_of_version_2_decodes_to_the_same_values(name):
    side_info, _, kind = golden_inputs()[name]
    data, digest = DELTAS[name]
    found = codec.decode_delta(
        bytes.fromhex(data), side_info, values=kind, max_entries=side_info.layout.size
    )
    assert delta_digest(found) == digest


@pytest.mark.parametrize("name", golden_inputs())
def test_the_bytes_of_a_delta_of_version_2_never_change(name):
    side_info, delta, kind = golden_inputs()[name]
    wanted = codec.quantise_delta(delta, side_info.layout.spec, kind, 0.01)
    assert codec.encode_delta(wanted, side_info).hex() == DELTAS[name][0]


def test_the_golden_deltas_use_every_context():
    found = [read_fields(bytes.fromhex(data)) for data, _ in DELTAS.values()]
    headers = [one.header for one in found]
    for flag in [field.name for field in fields(CodingFlags)]:
        used = {getattr(header.flags, flag) for header in headers}
        assert used == {False, True}, flag
    assert {header.values for header in headers} == set(codec.VALUES)


def test_an_update_of_version_2_decodes_to_the_same_values():
    expected = codec.Expected(
        run_id="run-1",
        round=3,
        client_id="edge-03",
        plan=b"P" * 16,
        base=b"B" * 16,
        side_info=codec.SideInformation.of(SMALL, np.zeros(SMALL.size, np.float32)),
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
    assert (update.validation.metric_sum, update.validation.count) == (7, 10)
    assert update.delta.indices.tolist() == [0, 2, 10]
    assert update.delta.values.tolist() == [125, -63, 117]
    assert update.delta.scales.tolist() == [172, 0, 194]
    assert codec.encode_update(update, expected.side_info).hex() == UPDATE


WEIGHTS = [127, -63.4, 0, 1, 0, 0, 0, 0, 1 / 3, -2, 0]


def test_weights_of_version_2_have_the_same_bytes_and_values():
    found = codec.decode_weights(bytes.fromhex(WEIGHTS_FLOAT32), SMALL)
    assert found.tolist() == np.float32(WEIGHTS).tolist()
    data = codec.encode_weights(np.float32(WEIGHTS), SMALL, "float32")
    assert data.hex() == WEIGHTS_FLOAT32


def test_a_plan_of_version_2_decodes_to_the_same_values():
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


def test_a_plan_with_all_settings_decodes_to_the_same_values():
    plan = codec.decode_plan(bytes.fromhex(PLAN_OF_ALL_SETTINGS), 4096)
    settings = plan.settings
    assert (settings.optimizer, settings.weight_decay) == ("adamw", 0.0625)
    assert (settings.proximal, settings.precision) == (0.25, "bf16")
    assert settings.frozen == ("conv1", "layers.0")
    assert codec.encode_plan(plan).hex() == PLAN_OF_ALL_SETTINGS
    plain = codec.decode_plan(bytes.fromhex(PLAN), 4096)
    names = [field.name for field in fields(settings)]
    for name in names[: names.index("optimizer")]:
        assert getattr(settings, name) == getattr(plain.settings, name)


def test_the_broadcasts_of_version_2_decode_to_the_same_values():
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
