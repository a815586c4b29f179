"""Write the trained model in hub format, as transformers and vLLM read it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gsco.generalist.card import CARD
from gsco.generalist.tiny import architecture
from gsco.generalist.tiny.tokens import make_processor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


NAME = "gsco-tiny"


# Any: transformers' models have no types.
def export(model: Any, tokenizer: "PreTrainedTokenizerFast", folder: Path) -> Path:
    """Write half-precision weights, configuration, tokenizer and processor to `folder`.

    LLaVA reads the tower's last layer but one, so a layer of zeros is put behind the trained ones.
    """
    from transformers import LlavaForConditionalGeneration

    text = model.config.text_config
    config = architecture.model_config(text, model.config.image_token_index)
    whole = LlavaForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in whole.model.vision_tower.parameters():
            parameter.zero_()
    whole.load_state_dict(model.state_dict(), strict=False)
    whole.generation_config.eos_token_id = text.eos_token_id
    whole.half().save_pretrained(folder)
    name_as_vllm(folder)
    card = json.dumps({"name": NAME, "answer_form": "label", "writes": False})
    (folder / CARD).write_text(card + "\n", encoding="utf-8")
    make_processor(tokenizer, architecture.SIZE, architecture.PATCH).save_pretrained(folder)
    return folder


def name_as_vllm(folder: Path) -> None:
    """Name a LLaVA tower's tensors as checkpoints on the hub do.

    transformers 5 reads both spellings but writes the short one, which vLLM 0.32 does not read.
    """
    from safetensors.torch import load_file, save_file

    for file in folder.glob("*.safetensors"):
        tensors = {_long(name): tensor for name, tensor in load_file(file).items()}
        save_file(tensors, file, metadata={"format": "pt"})
        file.chmod(0o644)
    # Large models lie in several files, and a list says where what is.
    listed = folder / "model.safetensors.index.json"
    if listed.is_file():
        index = json.loads(listed.read_text(encoding="utf-8"))
        index["weight_map"] = {_long(name): file for name, file in index["weight_map"].items()}
        listed.write_text(json.dumps(index, indent=1), encoding="utf-8")


def _long(name: str) -> str:
    long = "vision_tower.vision_model."
    return name if long in name else name.replace("vision_tower.", long)
