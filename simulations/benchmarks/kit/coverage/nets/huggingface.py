"""Architectures of Hugging Face's transformers, from small configurations."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any

from torch import Tensor, nn
from typing_extensions import override

from fedprune.common.models.zoo import import_torchvision
from fedprune.simulations.benchmarks.kit.coverage.nets.entry import (
    HUGGING_FACE,
    Entry,
    Inputs,
    noise,
    tokens,
)

_TEXT = {
    "vocab_size": 64,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GROUPED = _TEXT | {"num_key_value_heads": 2, "head_dim": 16}
_ALIKE = _TEXT | {"num_key_value_heads": 4}
_GPT2 = {"vocab_size": 64, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64}
_T5 = {
    "vocab_size": 64,
    "d_model": 64,
    "d_kv": 16,
    "d_ff": 256,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}
_BART = {
    "vocab_size": 64,
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 256,
    "decoder_ffn_dim": 256,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
_VIT = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 256,
}
_WAVE = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "conv_dim": (32, 32, 32),
    "conv_stride": (5, 4, 2),
    "conv_kernel": (10, 8, 4),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 32,
    "num_feat_extract_layers": 3,
}
_CLIP_TEXT = _TEXT | {"projection_dim": 32}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
_WORDS, _PAIR = tokens(12), tokens(12, inputs=2)
_IMAGE, _SOUND = noise(3, 32, 32), noise(4000)


class Chosen(nn.Module):
    """A network of transformers that returns one field of its result.

    Args:
        network: The network; it takes one tensor.
        name: Keyword of that tensor.
        wanted: The field.
    """

    def __init__(self, network: nn.Module, name: str, wanted: str) -> None:
        super().__init__()
        self.network, self.name, self.wanted = network, name, wanted

    @override
    def forward(self, x: Tensor) -> object:
        """Return the field; its shape is the network's."""
        return getattr(self.network(**{self.name: x}), self.wanted)


class ChosenOfTwo(nn.Module):
    """As ``Chosen``, of a network that takes two tensors by the keywords ``names``."""

    def __init__(self, network: nn.Module, names: tuple[str, str], wanted: str) -> None:
        super().__init__()
        self.network, self.names, self.wanted = network, names, wanted

    @override
    def forward(self, x: Tensor, y: Tensor) -> object:
        """Return the field; its shape is the network's."""
        found = self.network(**{self.names[0]: x, self.names[1]: y})
        return getattr(found, self.wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One architecture: its class, its configuration, its inputs and its result.

    Attributes:
        cls: Class of the network in transformers.
        config: Arguments of the configuration.
        inputs: Its inputs.
        names: Keywords of the inputs, in their order.
        wanted: Field of the result; "" for the whole result.
        parts: Configurations inside the configuration, by argument.
    """

    cls: str
    config: Mapping[str, object]
    inputs: Inputs = _WORDS
    names: tuple[str, ...] = ("input_ids",)
    wanted: str = "logits"
    parts: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def make(self) -> nn.Module:
        """Return the network with random weights."""
        import_torchvision()  # transformers imports it for its image networks
        transformers: Any = import_module("transformers")
        kind = getattr(transformers, self.cls)
        config = kind.config_class(**self.config, **self.parts)
        network: nn.Module = kind(config)
        if not self.wanted:
            return network
        if len(self.names) == 1:
            return Chosen(network, self.names[0], self.wanted)
        return ChosenOfTwo(network, (self.names[0], self.names[1]), self.wanted)


_decoder = partial(_Row, config=_GROUPED)
_pixels = partial(_Row, inputs=_IMAGE, names=("pixel_values",))
_both = partial(_Row, inputs=_PAIR, names=("input_ids", "decoder_input_ids"))
_sound = partial(_Row, inputs=_SOUND, names=("input_values",))

_ROWS = {
    # Encoders.
    "bert": _Row(cls="BertForSequenceClassification", config=_TEXT),
    "bert masked lm": _Row(cls="BertForMaskedLM", config=_TEXT),
    "bert whole result": _Row(cls="BertModel", config=_TEXT, wanted=""),
    "roberta": _Row(cls="RobertaForSequenceClassification", config=_TEXT),
    "distilbert": _Row(
        cls="DistilBertForSequenceClassification",
        config={"vocab_size": 64, "dim": 64, "n_layers": 2, "n_heads": 4}
        | {"hidden_dim": 256, "max_position_embeddings": 64},
    ),
    "albert": _Row(
        cls="AlbertForSequenceClassification", config=_TEXT | {"embedding_size": 32}
    ),
    "electra": _Row(
        cls="ElectraForSequenceClassification", config=_TEXT | {"embedding_size": 32}
    ),
    "deberta": _Row(cls="DebertaForSequenceClassification", config=_TEXT),
    "deberta-v2": _Row(
        cls="DebertaV2ForSequenceClassification",
        config=_TEXT | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    ),
    "mpnet": _Row(cls="MPNetForSequenceClassification", config=_TEXT),
    "modernbert": _Row(cls="ModernBertForSequenceClassification", config=_TEXT),
    "convbert": _Row(cls="ConvBertForSequenceClassification", config=_TEXT),
    "squeezebert": _Row(
        cls="SqueezeBertForSequenceClassification",
        config=_TEXT | {"embedding_size": 64},
    ),
    "fnet": _Row(cls="FNetForSequenceClassification", config=_TEXT),
    "roformer": _Row(cls="RoFormerForSequenceClassification", config=_TEXT),
    "esm": _Row(
        cls="EsmForSequenceClassification",
        config=_TEXT | {"mask_token_id": 3, "position_embedding_type": "rotary"},
    ),
    "xlnet": _Row(
        cls="XLNetForSequenceClassification",
        config={"vocab_size": 64, "d_model": 64, "n_layer": 2, "n_head": 4}
        | {"d_inner": 256, "pad_token_id": 0},
    ),
    # Decoders.
    "gpt2": _Row(cls="GPT2LMHeadModel", config=_GPT2),
    "gpt2 eager": _Row(
        cls="GPT2LMHeadModel", config=_GPT2 | {"attn_implementation": "eager"}
    ),
    "gpt-neo": _Row(
        cls="GPTNeoForCausalLM",
        config={"vocab_size": 64, "hidden_size": 64, "num_layers": 2, "num_heads": 4}
        | {"attention_types": [[["global", "local"], 1]], "intermediate_size": 256}
        | {"max_position_embeddings": 64, "window_size": 8},
    ),
    "gpt-j": _Row(cls="GPTJForCausalLM", config=_GPT2 | {"rotary_dim": 8}),
    "gpt-neox": _Row(cls="GPTNeoXForCausalLM", config=_TEXT),
    "opt": _Row(
        cls="OPTForCausalLM",
        config={"vocab_size": 64, "hidden_size": 64, "num_hidden_layers": 2}
        | {"ffn_dim": 256, "num_attention_heads": 4, "word_embed_proj_dim": 64}
        | {"max_position_embeddings": 64},
    ),
    "bloom": _Row(
        cls="BloomForCausalLM",
        config={"vocab_size": 64, "hidden_size": 64, "n_layer": 2, "n_head": 4},
    ),
    "falcon": _Row(cls="FalconForCausalLM", config=_TEXT),
    "mpt": _Row(
        cls="MptForCausalLM",
        config={"vocab_size": 64, "d_model": 64, "n_layers": 2, "n_heads": 4}
        | {"max_seq_len": 64},
    ),
    "llama": _decoder(cls="LlamaForCausalLM"),
    "llama multi-head": _Row(cls="LlamaForCausalLM", config=_ALIKE),
    "llama eager": _Row(
        cls="LlamaForCausalLM", config=_GROUPED | {"attn_implementation": "eager"}
    ),
    "llama without cache": _Row(
        cls="LlamaForCausalLM", config=_GROUPED | {"use_cache": False}
    ),
    "mistral": _decoder(cls="MistralForCausalLM"),
    "qwen2": _decoder(cls="Qwen2ForCausalLM"),
    "qwen3": _decoder(cls="Qwen3ForCausalLM"),
    "gemma": _Row(
        cls="GemmaForCausalLM",
        config=_TEXT | {"num_key_value_heads": 1, "head_dim": 16},
    ),
    "gemma2": _decoder(cls="Gemma2ForCausalLM"),
    "gemma3": _decoder(cls="Gemma3ForCausalLM"),
    "phi": _Row(cls="PhiForCausalLM", config=_ALIKE),
    "phi3": _Row(cls="Phi3ForCausalLM", config=_GROUPED),
    "stablelm": _Row(cls="StableLmForCausalLM", config=_ALIKE),
    "starcoder2": _decoder(cls="Starcoder2ForCausalLM"),
    "olmo2": _decoder(cls="Olmo2ForCausalLM"),
    "cohere": _decoder(cls="CohereForCausalLM"),
    "granite": _decoder(cls="GraniteForCausalLM"),
    "smollm3": _decoder(cls="SmolLM3ForCausalLM"),
    "mamba": _Row(
        cls="MambaForCausalLM",
        config={"vocab_size": 64, "hidden_size": 64, "num_hidden_layers": 2}
        | {"state_size": 8, "use_cache": False},
    ),
    # Mixtures of experts.
    "mixtral": _Row(
        cls="MixtralForCausalLM",
        config=_GROUPED | {"num_local_experts": 4, "num_experts_per_tok": 2},
    ),
    "qwen2-moe": _Row(
        cls="Qwen2MoeForCausalLM",
        config=_GROUPED | _EXPERTS | {"shared_expert_intermediate_size": 64},
    ),
    "olmoe": _Row(cls="OlmoeForCausalLM", config=_ALIKE | _EXPERTS),
    # Encoders with decoders.
    "t5": _both(cls="T5ForConditionalGeneration", config=_T5),
    "t5 encoder": _Row(cls="T5EncoderModel", config=_T5, wanted="last_hidden_state"),
    "mt5 gated": _both(
        cls="MT5ForConditionalGeneration",
        config=_T5 | {"feed_forward_proj": "gated-gelu"},
    ),
    "bart": _both(cls="BartForConditionalGeneration", config=_BART),
    "marian": _both(cls="MarianMTModel", config=_BART),
    "pegasus": _both(cls="PegasusForConditionalGeneration", config=_BART),
    # Images.
    "vit": _pixels(cls="ViTForImageClassification", config=_VIT),
    "deit": _pixels(cls="DeiTForImageClassification", config=_VIT),
    "beit": _pixels(
        cls="BeitForImageClassification",
        config=_VIT | {"use_relative_position_bias": True},
    ),
    "dinov2": _pixels(
        cls="Dinov2ForImageClassification", config=_VIT | {"mlp_ratio": 4}
    ),
    "swin": _pixels(
        cls="SwinForImageClassification",
        config={"image_size": 32, "patch_size": 2, "embed_dim": 32, "depths": [2, 2]}
        | {"num_heads": [2, 4], "window_size": 4},
    ),
    "convnext": _pixels(
        cls="ConvNextForImageClassification",
        config={"hidden_sizes": [32, 48, 64, 96], "depths": [1, 1, 2, 1]},
        inputs=noise(3, 64, 64),
    ),
    "convnextv2": _pixels(
        cls="ConvNextV2ForImageClassification",
        config={"hidden_sizes": [32, 48, 64, 96], "depths": [1, 1, 2, 1]},
        inputs=noise(3, 64, 64),
    ),
    "resnet": _pixels(
        cls="ResNetForImageClassification",
        config={"embedding_size": 32, "hidden_sizes": [32, 48, 64, 96]}
        | {"depths": [1, 1, 2, 1], "layer_type": "bottleneck"},
        inputs=noise(3, 64, 64),
    ),
    "regnet": _pixels(
        cls="RegNetForImageClassification",
        config={"embedding_size": 32, "hidden_sizes": [32, 48, 64, 96]}
        | {"depths": [1, 1, 2, 1], "groups_width": 16},
        inputs=noise(3, 64, 64),
    ),
    "mobilenet-v2": _pixels(
        cls="MobileNetV2ForImageClassification",
        config={"depth_multiplier": 0.35},
        inputs=noise(3, 64, 64),
    ),
    "mobilevit": _pixels(
        cls="MobileViTForImageClassification",
        config={"image_size": 64, "hidden_sizes": [32, 48, 64]}
        | {"neck_hidden_sizes": [8, 16, 24, 32, 40, 48, 96]},
        inputs=noise(3, 64, 64),
    ),
    "segformer": _pixels(
        cls="SegformerForSemanticSegmentation",
        config={"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1]}
        | {"decoder_hidden_size": 64},
        inputs=noise(3, 64, 64),
    ),
    "poolformer": _pixels(
        cls="PoolFormerForImageClassification",
        config={"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]},
        inputs=noise(3, 64, 64),
    ),
    "pvt-v2": _pixels(
        cls="PvtV2ForImageClassification",
        config={"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1]}
        | {"num_attention_heads": [1, 2, 3, 4]},
        inputs=noise(3, 64, 64),
    ),
    "videomae": _pixels(
        cls="VideoMAEForVideoClassification",
        config=_VIT | {"num_frames": 4},
        inputs=noise(4, 3, 32, 32),
    ),
    "clip": _Row(
        cls="CLIPModel",
        config={"projection_dim": 32},
        parts={"text_config": _CLIP_TEXT, "vision_config": _VIT},
        inputs=lambda batch: (tokens(12)(batch), noise(3, 32, 32)(batch)),
        names=("input_ids", "pixel_values"),
        wanted="logits_per_image",
    ),
    "siglip": _Row(
        cls="SiglipModel",
        config={},
        parts={"text_config": _TEXT, "vision_config": _VIT},
        inputs=lambda batch: (tokens(12)(batch), noise(3, 32, 32)(batch)),
        names=("input_ids", "pixel_values"),
        wanted="logits_per_image",
    ),
    # Sound and series.
    "wav2vec2": _sound(cls="Wav2Vec2ForCTC", config=_WAVE),
    "hubert": _sound(cls="HubertForCTC", config=_WAVE),
    "wavlm": _sound(cls="WavLMForCTC", config=_WAVE),
    "whisper": _Row(
        cls="WhisperForConditionalGeneration",
        config=_BART
        | {"num_mel_bins": 16, "max_source_positions": 32, "max_target_positions": 32},
        inputs=lambda batch: (noise(16, 64)(batch), tokens(12)(batch)),
        names=("input_features", "decoder_input_ids"),
    ),
    "audio spectrogram": _sound(
        cls="ASTForAudioClassification",
        config=_VIT | {"num_mel_bins": 16, "max_length": 64},
        inputs=noise(64, 16),
    ),
    "patchtst": _Row(
        cls="PatchTSTForPrediction",
        config={"num_input_channels": 3, "context_length": 32, "patch_length": 4}
        | {"patch_stride": 4, "prediction_length": 8, "d_model": 32}
        | {"num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 64},
        inputs=noise(32, 3),
        names=("past_values",),
        wanted="prediction_outputs",
    ),
}


def entries() -> list[Entry]:
    """Return the architectures of this set, in the order of the list."""
    return [
        Entry(
            origin=HUGGING_FACE,
            name=name,
            source=f"transformers.{row.cls}",
            make=row.make,
            inputs=row.inputs,
        )
        for name, row in _ROWS.items()
    ]
