"""Write the trained model in hub format, as transformers and vLLM read it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gsco.generalist.tiny import architecture
from gsco.generalist.tiny.tokens import make_processor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


# Any: transformers' models have no types.
def export(model: Any, tokenizer: "PreTrainedTokenizerFast", folder: Path) -> Path:
    """Write half-precision weights, configuration, tokenizer and processor to `folder`.

    LLaVA reads the tower's last layer but one, so a layer of zeros is put behind the trained ones.
    """
    from transformers import LlavaForConditionalGeneration

    text = model.config.text_config
    config = architecture.model_config(
        text.vocab_size,
        model.config.image_token_index,
        text.pad_token_id,
        text.bos_token_id,
        text.eos_token_id,
    )
    whole = LlavaForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in whole.model.vision_tower.parameters():
            parameter.zero_()
    whole.load_state_dict(model.state_dict(), strict=False)
    whole.generation_config.eos_token_id = text.eos_token_id
    whole.half().save_pretrained(folder)
    make_processor(tokenizer, architecture.SIZE, architecture.PATCH).save_pretrained(folder)
    return folder
