"""What learns where another language part is put into gsco-tiny's recipe."""

from pathlib import Path

import torch
from tiny_sets import PLAN, draw_sets

from benchmarks import language_part
from gsco.generalist.embedded import EmbeddedGeneralist
from gsco.generalist.tiny import FOLDER
from specialists import torchvision_cure


def test_another_language_part_learns_by_adapters_and_norms_alone(
    tmp_path: Path,
) -> None:
    torch.set_num_threads(1)
    data = draw_sets(tmp_path / "data")
    torchvision_cure.apply()
    from transformers import AutoProcessor, LlamaConfig, LlamaForCausalLM

    AutoProcessor.from_pretrained(FOLDER).tokenizer.save_pretrained(tmp_path / "llama")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=1200,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    before, _ = language_part.loaded(tmp_path / "llama")
    folder, trained = language_part.train(data, tmp_path / "llama", tmp_path / "out", PLAN)
    after = EmbeddedGeneralist(folder)._model.model
    # Stored in half of the digits, and read again.
    kept = {name: one.bfloat16().float() for name, one in before.model.named_parameters()}
    changed = {
        name
        for name, one in after.language_model.named_parameters()
        if not torch.equal(one, kept[name])
    }
    assert any("_proj" in name for name in changed)
    assert all("_proj" in name or "norm" in name for name in changed), changed
    tower = sum(one.numel() for one in after.vision_tower.parameters())
    assert tower < trained < tower + 100_000
