"""What a language part that has read much would buy: gsco-tiny's recipe around another one.

    python -m benchmarks.language_part --data DIR --language MODEL --out W

MODEL is a folder or hub id of a Llama (SmolLM2-135M-Instruct, say), or a `.gguf` file of one. It
stays as it is but for adapters of rank 16; tower, projector and adapters are trained by the stages
of `gsco.generalist.tiny.recipe`, on the same samples. Then it and the shipped gsco-tiny are asked
the same: the validation images as `gsco.generalist.tiny.measure` asks them, and made-up tasks whose
right answer is known by Bayes' rule. Resumed after a kill; for a GPU.
Writes `benchmarks/results/language-part.json`.
"""

import argparse
import json
import random
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy import write
from gsco.generalist.card import CARD
from gsco.generalist.embedded import EmbeddedGeneralist
from gsco.generalist.lora import LANGUAGE
from gsco.generalist.tiny import architecture
from gsco.generalist.tiny.data import Pictures, load_pictures
from gsco.generalist.tiny.learning import Plan
from gsco.generalist.tiny.measure import measure
from gsco.generalist.tiny.recipe import beside_gpu, train_stages
from gsco.generalist.tiny.samples import READING, draw_sample
from gsco.generalist.tiny.tokens import BEGIN, END, IMAGE, PAD, TEMPLATE, make_processor
from specialists import torchvision_cure

COMMAND = "python -m benchmarks.language_part --data $GSCO_DATA --language MODEL --out W"
RANK = 16
MADE_UP = 400
"""Prompts of made-up tasks."""
MOST = 120
"""Validation images of a task."""


def loaded(source: Path) -> tuple[Any, Any]:
    """Return a language model in full precision and its tokenizer with our tokens behind its own.

    The chat template is ours; END starts as its end, the roles and BEGIN as its beginning.

    Raises:
        SystemExit: its head is not its embeddings, or its tokenizer adds tokens by itself.
    """
    torchvision_cure.apply()
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = {"gguf_file": source.name} if source.suffix == ".gguf" else {}
    folder = source.parent if file else source
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **file)
    tokenizer = AutoTokenizer.from_pretrained(folder, **file)
    if not model.config.tie_word_embeddings or len(tokenizer("a").input_ids) > 1:
        raise SystemExit("Give a model with tied embeddings whose tokenizer adds no tokens.")
    old_end, old_begin = tokenizer.eos_token_id, tokenizer.bos_token_id
    roles = ["<|system|>", "<|user|>", "<|assistant|>"]
    tokenizer.add_special_tokens(
        {
            "extra_special_tokens": [BEGIN, IMAGE, *roles],
            "pad_token": PAD,
            "eos_token": END,
        }
    )
    tokenizer.chat_template, tokenizer.padding_side = TEMPLATE, "left"
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        rows = model.get_input_embeddings().weight
        rows[tokenizer.convert_tokens_to_ids(END)] = rows[old_end]
        for token in (BEGIN, *roles):
            rows[tokenizer.convert_tokens_to_ids(token)] = rows[old_begin]
    return model, tokenizer


def joined(language: Any, tokenizer: Any) -> Any:
    """Return a LLaVA of gsco-tiny's untrained tower and a language model."""
    language.config.pad_token_id = tokenizer.pad_token_id
    language.config.eos_token_id = tokenizer.eos_token_id
    model = architecture.new_model(language.config, tokenizer.convert_tokens_to_ids(IMAGE))
    model.model.language_model.load_state_dict(language.model.state_dict())
    model.tie_weights()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return model


def adapted(model: Any) -> Any:
    """Put adapters into the language part, in place; return PEFT's wrapper.

    Of that part only they and the norms learn.
    """
    from peft import LoraConfig, get_peft_model

    wrapper = get_peft_model(
        model, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=LANGUAGE)
    )
    for module in (model.model.vision_tower, model.model.multi_modal_projector):
        module.requires_grad_(True)
    for name, parameter in model.model.language_model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad or "norm" in name)
    return wrapper


def train(
    data: Path, source: Path, out: Path, plan: Plan, device: str | None = None
) -> tuple[Path, int]:
    """Train around `source`; return the merged model's folder and how many values were trained."""
    out.mkdir(parents=True, exist_ok=True)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    pictures = load_pictures(data, "train", architecture.SIZE)
    torch.manual_seed(plan.seed)
    language, tokenizer = loaded(source)
    model = joined(language, tokenizer).to(device)
    wrapper = adapted(model)
    train_stages(model, pictures, tokenizer, out, plan, _told)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    folder = out / "model"
    wrapper.merge_and_unload().to(torch.bfloat16).save_pretrained(folder)
    make_processor(tokenizer, architecture.SIZE, architecture.PATCH).save_pretrained(folder)
    card = {"name": source.name, "answer_form": "label", "writes": False}
    (folder / CARD).write_text(json.dumps(card) + "\n", encoding="utf-8")
    return folder, trained


def asked(generalist: EmbeddedGeneralist, data: Path) -> dict[str, Any]:
    """Return balanced accuracies on validation images, and how often it reads as Bayes' rule."""
    pictures = load_pictures(data, "val", architecture.SIZE)
    draw = random.Random("made up")
    samples = [draw_sample(pictures, draw, replace(READING, made_up=1.0)) for _ in range(MADE_UP)]
    samples = [
        sample for sample in samples if max(sample.chances.values()) > min(sample.chances.values())
    ]
    readings = generalist.read([sample.prompt for sample in samples])
    hits = [
        reading.answer == max(sample.chances, key=sample.chances.__getitem__)
        for sample, reading in zip(samples, readings, strict=True)
    ]
    share = float(np.mean(hits))
    return {
        "unread": sum(reading.answer is None for reading in readings),
        "as_bayes": {
            "n": len(hits),
            "share": share,
            "error": (share * (1 - share) / len(hits)) ** 0.5,
        },
        "validation": [asdict(figures) for figures in measure(generalist, _few(pictures))],
    }


def _few(pictures: Pictures) -> Pictures:
    draw = torch.Generator().manual_seed(0)
    tasks = []
    for examples in pictures.tasks:
        chosen = torch.randperm(len(examples.rows), generator=draw)[:MOST]
        tasks.append(
            replace(
                examples,
                rows=examples.rows[chosen],
                targets=examples.targets[chosen],
                fresh=examples.fresh[chosen],
                doubts=None,
            )
        )
    return replace(pictures, tasks=tuple(tasks))


def _told(line: str) -> None:
    print(line, flush=True)


def main() -> None:
    """Train and compare from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--language", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=float, default=1.0, help="share of the recipe's steps")
    parser.add_argument("--workers", type=int, default=beside_gpu())
    given = parser.parse_args()
    whole = Plan(rate=1e-3, matrix_rate=1e-3, prompts=0.0, workers=given.workers)
    names = ("reading_steps", "tower_steps", "looking_steps", "weighing_steps")
    plan = replace(whole, **{n: max(1, round(given.steps * getattr(whole, n))) for n in names})
    folder, trained = train(given.data, given.language, given.out / given.language.name, plan)
    ours, theirs = EmbeddedGeneralist(), EmbeddedGeneralist(folder)
    ours_said, theirs_said = asked(ours, given.data), asked(theirs, given.data)
    facts = {
        "language": given.language.name,
        "steps": given.steps,
        "seed": plan.seed,
        "failures": ours_said.pop("unread") + theirs_said.pop("unread"),
        "trained_values": trained,
        "gsco-tiny": ours_said,
        "candidate": theirs_said,
    }
    write("language-part", COMMAND, facts)


if __name__ == "__main__":
    main()
