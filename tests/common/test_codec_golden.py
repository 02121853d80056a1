"""Messages of version 1 as bytes: they decode to the same values for ever.

Only decoded values are compared: deflate output differs between builds of zlib.
"""

import numpy as np
import pytest

from common import codec
from common.messages import Expected, ModelSpec, Phase, TensorSpec

SMALL = ModelSpec(
    tensors=(TensorSpec(name="w", shape=(2, 4)), TensorSpec(name="b", shape=(3,))),
    moments=1,
    units=2,
)
WIDE = ModelSpec(tensors=(TensorSpec(name="w", shape=(64, 64)),), moments=0, units=0)

UPDATES = {
    "gaps, int8": (
        "9e0103a572756e2d3103a7656467652d3033c410505050505050505050505050"
        "50505050c41042424242424242424242424242424242cd012ccb3fe000000000"
        "0000c4139a01010101c2c4010ac2c40175c2c4030000c2c4080000803e000040"
        "40935ac40200bec402003a93cb4012000000000000070ac4107db7886b959a6f"
        "0df5af34fe16c886cb"
    ),
    "bitmap, int8": (
        "9e0103a572756e2d3103a7656467652d3033c410505050505050505050505050"
        "50505050c41042424242424242424242424242424242cd012ccb3fe000000000"
        "0000c4169a01030002c2c402a020c2c4037dc175c2c403ac00c2c4080000803e"
        "00004040935ac40200bec402003a93cb4012000000000000070ac41068d48280"
        "a5e63b739397b0f619be65a1"
    ),
    "float32": (
        "9e0103a572756e2d3103a7656467652d3033c410505050505050505050505050"
        "50505050c41042424242424242424242424242424242cd012ccb3fe000000000"
        "0000c41c9a02030002c2c402a020c2c40c5c8fa23f5c8f22bf00000041c2c400"
        "c0c093cb4012000000000000070ac410af0f58d2125a4af0b96b280d120e60de"
    ),
    "nothing": (
        "9e0103a572756e2d3103a7656467652d3033c410505050505050505050505050"
        "50505050c41042424242424242424242424242424242cd012ccb3fe000000000"
        "0000c4119a01000100c2c400c2c400c2c403000000c0c093cb40120000000000"
        "00070ac410612d48de03451d208c66a3c7b1096eca"
    ),
    "deflated bitmap": (
        "9e0103a572756e2d3103a7656467652d3033c410505050505050505050505050"
        "50505050c41042424242424242424242424242424242cd012ccb3fe000000000"
        "0000c4329a01cd055601cd0556c3c40e63601a05a360148c8251403d0000c3c4"
        "0dab1d05a360148c825140450000c3c4055b43210000c0c093cb401200000000"
        "0000070ac41056f796958a5b4523519960f80a267fb8"
    ),
    "two byte gaps": (
        "9e0103a572756e2d3103a7656467652d3033c410505050505050505050505050"
        "50505050c41042424242424242424242424242424242cd012ccb3fe000000000"
        "0000c41f9a02030105c2c40505c2d7011dc2c40c0000803f0000004000004040"
        "c2c400c0c093cb4012000000000000070ac4100e4ebeac53c3ab0fc424148447"
        "7fcf4a"
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

# 125 and -63 times ladder[172], 117 times ladder[194]: the same bits everywhere.
SENT_HEX = [
    "0x1.4435bc0000000p+0", "-0x1.46cdb80000000p-1", "0x1.fe5b8e0000000p+2",
]  # fmt: skip


def decode(name, spec, values, *, full):
    expected = Expected(
        run_id="run-1",
        round=3,
        client_id="edge-03",
        plan=b"P" * 16,
        base=b"B" * 16,
        base_weights=np.zeros(spec.size, np.float32),
        spec=spec,
        values=values,
        update_density=1.0,
        scored=full,
        measured=full,
        max_bytes=4096,
        max_examples=1000,
        max_value=100.0,
    )
    update = codec.decode_update(bytes.fromhex(UPDATES[name]), expected)
    sent = codec.dequantise_delta(update.delta, spec)
    return update, sent


def test_an_update_of_version_1_decodes_to_the_same_values():
    update, _ = decode("bitmap, int8", SMALL, "int8", full=True)
    assert (update.run_id, update.round, update.client_id) == ("run-1", 3, "edge-03")
    assert (update.plan, update.base) == (b"P" * 16, b"B" * 16)
    assert (update.num_examples, update.loss) == (300, 0.5)
    assert update.importance.tolist() == [0.25, 3]
    assert update.statistics.num_examples == 90
    assert update.statistics.mean.tolist() == [-1.5]
    assert update.statistics.variance.tolist() == [0.75]
    assert update.validation.loss_sum == 4.5
    assert (update.validation.correct, update.validation.count) == (7, 10)


def test_an_int8_bitmap_of_version_1_decodes_to_the_same_values():
    update, sent = decode("bitmap, int8", SMALL, "int8", full=True)
    assert update.delta.indices.tolist() == [0, 2, 10]
    assert update.delta.values.tolist() == [125, -63, 117]
    assert update.delta.scales.tolist() == [172, 0, 194]
    assert [float(v).hex() for v in sent.values] == SENT_HEX


def test_int8_gaps_of_version_1_decode_to_the_same_values():
    update, _ = decode("gaps, int8", SMALL, "int8", full=True)
    assert update.delta.indices.tolist() == [10]
    assert update.delta.values.tolist() == [117]
    assert update.delta.scales.tolist() == [0, 0, 194]


def test_float32_values_of_version_1_decode_to_the_same_values():
    update, sent = decode("float32", SMALL, "float32", full=False)
    assert update.importance is None
    assert update.statistics is None
    assert sent.indices.tolist() == [0, 2, 10]
    assert sent.values.tolist() == np.float32([1.27, -0.635, 8]).tolist()


def test_an_empty_delta_of_version_1_decodes_to_no_values():
    update, _ = decode("nothing", SMALL, "int8", full=False)
    assert len(update.delta.indices) == 0
    assert update.delta.scales.tolist() == [0, 0, 0]


def test_deflated_sections_of_version_1_decode_to_the_same_values():
    update, _ = decode("deflated bitmap", WIDE, "int8", full=False)
    assert update.delta.indices.tolist() == list(range(0, 4096, 3))
    assert np.all(update.delta.values == 125)
    assert update.delta.scales.tolist() == [172] * 64


def test_long_gaps_of_version_1_decode_to_the_same_positions():
    _, sent = decode("two byte gaps", WIDE, "float32", full=False)
    assert sent.indices.tolist() == [5, 200, 4000]
    assert sent.values.tolist() == [1, 2, 3]


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
