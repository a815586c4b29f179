"""The shape of gsco-tiny: a LLaVA of about four million parameters that vLLM can serve."""

from typing import TYPE_CHECKING, Any

from specialists import torchvision_cure

if TYPE_CHECKING:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

SIZE = 64
"""Side of the image in pixels."""
PATCH = 8
WIDTH = 192
CONTEXT = 1024
"""Most tokens of a prompt, those of the image included."""


def vision_config(size: int = SIZE, patch: int = PATCH) -> "CLIPVisionConfig":
    """Return the tower's shape; LLaVA reads the last layer but one, so the last one stays idle."""
    torchvision_cure.apply()
    from transformers import CLIPVisionConfig

    return CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH,
        num_hidden_layers=5,
        num_attention_heads=3,
        image_size=size,
        patch_size=patch,
        projection_dim=WIDTH,
        hidden_act="gelu",
    )


def language_config(vocabulary: int, pad: int, begin: int, end: int) -> "LlamaConfig":
    """Return the language part's shape for a tokenizer's numbers."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=5,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        pad_token_id=pad,
        bos_token_id=begin,
        eos_token_id=end,
    )


def model_config(language: "LlamaConfig", image_token: int) -> "LlavaConfig":
    """Return the whole model's shape around a language part's."""
    torchvision_cure.apply()
    from transformers import LlavaConfig

    return LlavaConfig(
        vision_config=vision_config(),
        text_config=language,
        image_token_index=image_token,
        projector_hidden_act="gelu",
        vision_feature_select_strategy="default",
        vision_feature_layer=-2,
        image_seq_length=(SIZE // PATCH) ** 2,
        tie_word_embeddings=True,
    )


# Any: transformers' models have no types.
def new_tower() -> Any:
    """Return an untrained tower without the layer that stays idle."""
    torchvision_cure.apply()
    from torch import nn
    from transformers import CLIPVisionModel

    config = vision_config()
    config.num_hidden_layers -= 1
    # Eager attention trains faster on a CPU than the fused one.
    config._attn_implementation = "eager"
    tower = CLIPVisionModel(config)
    # CLIP's own first positions are so weak that a small set never learns where things are.
    for name, parameter in tower.named_parameters():
        if "position_embedding" in name:
            nn.init.normal_(parameter, std=0.3)
    return tower


# Any: transformers' models have no types.
def new_model(language: "LlamaConfig", image_token: int) -> Any:
    """Return an untrained model without the tower's idle layer, for training."""
    torchvision_cure.apply()
    from transformers import LlavaForConditionalGeneration

    config = model_config(language, image_token)
    config.vision_config.num_hidden_layers -= 1
    config.vision_feature_layer = -1
    model = LlavaForConditionalGeneration(config)
    # The tower's few patches train faster with eager attention, long prompts with the fused one.
    model.set_attn_implementation({"text_config": "sdpa", "vision_config": "eager"})
    return model
