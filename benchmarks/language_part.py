"""What a language part that has read much would buy: gsco-tiny's recipe around another one.

    python -m benchmarks.language_part --data DIR --language MODEL --out W

MODEL is a folder or hub id of a Llama (SmolLM2-135M-Instruct, say), or a `.gguf` file of one, for
which the package `gguf` is needed. It stays as it is but for adapters of rank 16; projector and
adapters are trained by the stages of `gsco.generalist.tiny.recipe`, on the same samples, around the
tower of the shipped gsco-tiny. Beside it a language part like gsco-tiny's own is trained from
nothing, as long and around the same tower. These two and the shipped one are asked the same: the
validation images as `gsco.generalist.tiny.measure` asks them, made-up tasks whose right answer is
known by Bayes' rule, and how long a case takes. The steps that are there by default take SmolLM2
about an hour on two cores that compute in half precision. Resumed after a kill.
Writes `benchmarks/results/language-part.json`.
"""

import argparse
import json
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.record import write
from gsco.generalist.card import CARD
from gsco.generalist.embedded import EmbeddedGeneralist, load_model
from gsco.generalist.lora import LANGUAGE
from gsco.generalist.tiny import FOLDER, architecture
from gsco.generalist.tiny.data import Pictures, load_pictures
from gsco.generalist.tiny.learning import Plan
from gsco.generalist.tiny.measure import measure
from gsco.generalist.tiny.recipe import Stage, beside_gpu, new_model, train_reading, train_whole
from gsco.generalist.tiny.samples import LOOKING, READING, WEIGHINGS, Sample, draw_sample
from gsco.generalist.tiny.tokens import BEGIN, END, IMAGE, PAD, TEMPLATE, make_processor
from gsco.prompts import Prompt
from specialists import torchvision_cure

COMMAND = "python -m benchmarks.language_part --data $GSCO_DATA --language MODEL --out W"
RANK = 16
MADE_UP = 400
"""Prompts of made-up tasks."""
MOST = 40
"""Validation images of a task."""
STEPS = {
    "reading_steps": 160,
    "looking_steps": 240,
    "weighing_steps": 160,
    "batch": 8,
}
"""What two cores can do."""
EVERY = 20
TIMED = 20
"""Cases that are read one by one for the time that one takes."""
SCRATCH = "from nothing"


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


def train(data: Path, source: Path | None, out: Path, plan: Plan) -> tuple[Path, int]:
    """Train around `source`; return the merged model's folder and how many values were trained.

    Without a source it is a language part of gsco-tiny's shape and tokens, from nothing.
    """
    out.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pictures = load_pictures(data, "train", architecture.SIZE)
    torch.manual_seed(plan.seed)
    shipped, processor = load_model(FOLDER, device)
    wrapper = None
    if source:
        language, tokenizer = loaded(source)
        model = joined(language, tokenizer).to(device)
        wrapper = adapted(model)
    else:
        tokenizer = processor.tokenizer
        model = new_model(tokenizer).to(device)
    # The shipped tower has a layer more, which is idle.
    tower = shipped.model.vision_tower.state_dict()
    model.model.vision_tower.load_state_dict(tower, strict=False)
    train_reading(model, pictures, tokenizer, out, plan, _told)
    looking = Stage("looking", plan.looking_steps, LOOKING, 0.5, plan.finetune)
    weighing = Stage("weighing", plan.weighing_steps, WEIGHINGS[0], 0.4)
    for stage in (looking, weighing):
        train_whole(model, pictures, tokenizer, out, plan, stage, _told)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    folder = out / "model"
    merged = wrapper.merge_and_unload() if wrapper else model
    merged.to(torch.bfloat16).save_pretrained(folder)
    make_processor(tokenizer, architecture.SIZE, architecture.PATCH).save_pretrained(folder)
    card = {"name": out.name, "answer_form": "label", "writes": False}
    (folder / CARD).write_text(json.dumps(card) + "\n", encoding="utf-8")
    return folder, trained


def made_up(data: Path) -> list[Sample]:
    """Return prompts of made-up tasks, of which Bayes' rule knows the right answer."""
    pictures = load_pictures(data, "val", architecture.SIZE)
    draw = random.Random("made up")
    samples = [draw_sample(pictures, draw, replace(READING, made_up=1.0)) for _ in range(MADE_UP)]
    return [s for s in samples if max(s.chances.values()) > min(s.chances.values())]


def asked(
    generalist: EmbeddedGeneralist, data: Path, samples: Sequence[Sample], most: int
) -> dict[str, Any]:
    """Return balanced accuracies on validation images, and how often it reads as Bayes' rule."""
    pictures = load_pictures(data, "val", architecture.SIZE)
    with _half():
        readings = generalist.read([sample.prompt for sample in samples])
        validation = measure(generalist, _few(pictures, most))
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
        "validation": [asdict(figures) for figures in validation],
    }


def _half() -> AbstractContextManager[None]:
    """Compute matrices in half precision where the processor can."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    able = device != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.autocast(device, torch.bfloat16, enabled=able)


def seconds(
    arms: Mapping[str, EmbeddedGeneralist], prompts: Sequence[Prompt]
) -> dict[str, dict[str, float]]:
    """Return the median and the longest time of cases that are read one by one, in turns."""
    took: dict[str, list[float]] = {name: [] for name in arms}
    with _half():
        for prompt in prompts[: TIMED + 1]:
            for name, generalist in arms.items():
                start = time.perf_counter()
                generalist.read([prompt])
                took[name].append(time.perf_counter() - start)
    # The first one also warms up.
    return {
        name: {"n": TIMED, "median": float(np.median(times[1:])), "longest": max(times[1:])}
        for name, times in took.items()
    }


def _few(pictures: Pictures, most: int) -> Pictures:
    draw = torch.Generator().manual_seed(0)
    tasks = []
    for examples in pictures.tasks:
        chosen = torch.randperm(len(examples.rows), generator=draw)[:most]
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
    parser.add_argument("--workers", type=int, default=beside_gpu())
    parser.add_argument("--most", type=int, default=MOST, help="validation images of a task")
    names = [field.name for field in fields(Plan) if field.name in STEPS]
    for name in names:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=STEPS[name])
    given = parser.parse_args()
    long = {name: getattr(given, name) for name in names}
    own = Plan(**long, every=EVERY, workers=given.workers)
    # Adapters are AdamW's, and a network that has read much needs not learn what prompts say.
    around = replace(own, rate=1e-3, matrix_rate=1e-3, prompts=0.0)
    arms, trained = {"gsco-tiny": EmbeddedGeneralist()}, {}
    for name, source, plan in (
        (SCRATCH, None, own),
        (given.language.name, given.language, around),
    ):
        folder, trained[name] = train(given.data, source, given.out / name, plan)
        arms[name] = EmbeddedGeneralist(folder)
    samples = made_up(given.data)
    took = seconds(arms, [sample.prompt for sample in samples])
    _told(json.dumps(took))
    said = {}
    for name, generalist in arms.items():
        said[name] = {
            "trained_values": trained.get(name),
            "seconds": took[name],
            **asked(generalist, given.data, samples, given.most),
        }
        _told(json.dumps({name: said[name]}))
    facts = {
        "n": len(samples),
        "language": given.language.name,
        **long,
        "seed": own.seed,
        "failures": sum(figures.pop("unread") for figures in said.values()),
        "arms": said,
    }
    write("language-part", COMMAND, facts)


if __name__ == "__main__":
    main()
