"""The smallest network of every family of timm 1.0.31.

A family is a module of ``timm.models`` that registers networks.  ``smallest`` is the
rule by which the list was made; the names are written down, so that a later timm does
not change what is measured.
"""

from collections.abc import Mapping
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import nn

from fedprune.common.models.zoo import import_torchvision
from fedprune.simulations.benchmarks.kit.coverage.nets.entry import TIMM, Entry, noise

_FOR_TESTS = "test_"  # networks that timm keeps for its own tests
_SIDE = 96  # pixels
# Networks that need larger images.
_SIDES: Mapping[str, int] = {
    "deepseek_vit": 224,
    "efficientformer": 224,
    "byoanet": 256,
    "crossvit": 240,
}
# Two of twelve equal blocks and more, where a family has large networks only.
_SHORTER: Mapping[str, Mapping[str, object]] = {
    family: {"depth": 2}
    for family in ("beit", "deepseek_vit", "gemma4_vit", "naflexvit", "qwen3_vit")
} | {"vision_transformer_sam": {"depth": 2, "global_attn_indexes": (1,)}}
# family -> its smallest network
NAMES: Mapping[str, str] = {
    "beit": "beit_base_patch16_224",
    "byoanet": "halonet_h1",
    "byobnet": "mobileone_s1",
    "cait": "cait_xxs24_224",
    "coat": "coat_tiny",
    "convit": "convit_tiny",
    "convmixer": "convmixer_768_32",
    "convnext": "convnext_zepto_rms",
    "cpubone": "cpubone_nano",
    "crossvit": "crossvit_tiny_240",
    "csatv2": "csatv2",
    "cspnet": "cs3darknet_focus_s",
    "cspnext": "cspnext_tiny",
    "davit": "davit_tiny",
    "deepseek_vit": "deepseek_vit_412m",
    "deit": "deit_tiny_patch16_224",
    "densenet": "densenet121",
    "dla": "dla46x_c",
    "dpn": "dpn48b",
    "edgenext": "edgenext_xx_small",
    "efficientformer": "efficientformer_l1",
    "efficientformer_v2": "efficientformerv2_s0",
    "efficientnet": "mobilenetv2_035",
    "efficientvim": "efficientvim_m1",
    "efficientvit_mit": "efficientvit_b0",
    "efficientvit_msra": "efficientvit_m0",
    "eva": "vit_tiny_patch16_dinov3_qkvb",
    "fasternet": "fasternet_t0",
    "fastvit": "fastvit_t8",
    "focalnet": "focalnet_tiny_srf",
    "gcvit": "gcvit_xxtiny",
    "gemma4_vit": "gemma4_vit_167m",
    "ghostnet": "ghostnet_050",
    "hardcorenas": "hardcorenas_b",
    "hgnet": "hgnetv2_b0",
    "hiera": "hiera_tiny_224",
    "hieradet_sam2": "sam2_hiera_tiny",
    "hrnet": "hrnet_w18_small",
    "iformer": "iformer_t",
    "inception_next": "inception_next_atto",
    "inception_resnet_v2": "inception_resnet_v2",
    "inception_v3": "inception_v3",
    "inception_v4": "inception_v4",
    "lcnetv2": "lcnetv2_small",
    "levit": "levit_128s",
    "lowformer": "lowformer_b0",
    "mambaout": "mambaout_femto",
    "maxxvit": "maxvit_pico_rw_256",
    "metaformer": "poolformerv2_s12",
    "mlp_mixer": "gmlp_ti16_224",
    "mobilenetv3": "mobilenetv3_small_050",
    "mobilenetv5": "mobilenetv5_base",
    "mobilevit": "mobilevit_xxs",
    "mvitv2": "mvitv2_tiny",
    "naflexvit": "naflexvit_base_patch16_parfac_gap",
    "nasnet": "nasnetalarge",
    "nest": "nest_tiny",
    "nextvit": "nextvit_small",
    "nfnet": "nf_regnet_b0",
    "pit": "pit_ti_224",
    "pnasnet": "pnasnet5large",
    "pvt_v2": "pvt_v2_b0",
    "qwen3_vit": "qwen3_vit_88m",
    "rdnet": "rdnet_tiny",
    "regnet": "regnetx_002",
    "repghost": "repghostnet_050",
    "repvit": "repvit_m1",
    "res2net": "res2next50",
    "resnest": "resnest14d",
    "resnet": "resnet10t",
    "resnetv2": "resnetv2_18",
    "rexnet": "rexnet_100",
    "selecsls": "selecsls42",
    "senet": "legacy_seresnet18",
    "sequencer": "sequencer2d_s",
    "shvit": "shvit_s1",
    "sknet": "skresnet18",
    "starnet": "starnet_s050",
    "swiftformer": "swiftformer_xs",
    "swin_transformer": "swin_tiny_patch4_window7_224",
    "swin_transformer_v2": "swinv2_tiny_window16_256",
    "swin_transformer_v2_cr": "swinv2_cr_tiny_224",
    "tiny_vit": "tiny_vit_5m_224",
    "tnt": "tnt_s_legacy_patch16_224",
    "tresnet": "tresnet_m",
    "twins": "twins_svt_small",
    "vgg": "vgg11",
    "visformer": "visformer_tiny",
    "vision_transformer": "vit_tiny_patch16_224",
    "vision_transformer_hybrid": "vit_tiny_r_s16_p8_224",
    "vision_transformer_relpos": "vit_srelpos_small_patch16_224",
    "vision_transformer_sam": "samvit_base_patch16_224",
    "vitamin": "vitamin_small_224",
    "volo": "volo_d1_224",
    "vovnet": "ese_vovnet19b_slim_dw",
    "xception": "legacy_xception",
    "xception_aligned": "xception41p",
    "xcit": "xcit_nano_12_p8_224",
}


def smallest(family: str) -> str:
    """Return the network of fewest parameters that ``timm.models.FAMILY`` registers.

    Of equals the first in order of names; networks for timm's own tests do not count.
    """
    timm = _timm()
    names: list[str] = timm.list_models(module=family)
    sizes = {n: _parameters(n) for n in names if not n.startswith(_FOR_TESTS)}
    return min(sizes, key=lambda name: (sizes[name], name))


def families() -> list[str]:
    """Return the families of the installed timm."""
    found: list[str] = _timm().list_modules()
    return found


def entries() -> list[Entry]:
    """Return the networks of this set, in the order of the list."""
    return [
        Entry(
            origin=TIMM,
            name=name,
            source=f"timm.models.{family}",
            make=partial(_make, family, name),
            inputs=noise(3, _side(family), _side(family)),
        )
        for family, name in NAMES.items()
    ]


def _make(family: str, name: str) -> nn.Module:
    given = {"pretrained": False, **_SHORTER.get(family, {})}
    create = partial(_timm().create_model, name, **given)
    try:
        network: nn.Module = create(img_size=_side(family))
    except TypeError:  # it takes images of any size
        network = create()
    return network


def _side(family: str) -> int:
    return _SIDES.get(family, _SIDE)


def _parameters(name: str) -> int:
    with torch.device("meta"):
        network: nn.Module = _timm().create_model(name, pretrained=False)
    return sum(item.numel() for item in network.parameters())


def _timm() -> Any:  # noqa: ANN401 - timm is imported on use
    import_torchvision()
    return import_module("timm")
