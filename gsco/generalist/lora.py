"""Fine-tune a vision-language model on labelled images and evidence, by low-rank adapters (LoRA).

    folder = tune("OpenGVLab/InternVL3-8B-hf", datasets, Path("w/generalist"))
    # gsco serve w/generalist/model

The language part gets adapters (Hu et al., ICLR 2022), the vision tower and its projector stay.
What it is tuned on, `lora_samples` draws. Killed at any moment and called again, it goes on.
Several GPUs work where `accelerate launch` starts it.
"""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gsco.datasets import Dataset, PairSet
from gsco.errors import GeneralistError, UsageError
from gsco.generalist.card import CARD, card_of
from gsco.generalist.embedded import encoded, followed, load_model, weights_of
from gsco.generalist.lora_material import Material, fingerprint_of, material_of
from gsco.generalist.lora_samples import Sample, draw_sample
from gsco.generalist.seen import seen_in, write_seen
from gsco.progress import Progress
from gsco.prompts import Form

LANGUAGE = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
"""The linear layers that get adapters, as transformers names them in all its image-text models."""


@dataclass(frozen=True)
class Plan:
    """How to tune."""

    rank: int = 16
    steps: int = 1000
    batch: int = 8
    """Samples a step on each device."""
    rate: float = 1e-4
    """Highest learning rate; warmed up over a twentieth of the steps, then a cosine to nothing."""
    answer_form: Form = "letter"
    every: int = 100
    """Steps between checkpoints."""
    seed: int = 0


def tune(
    source: Path | str,
    datasets: Sequence[Dataset],
    out: Path,
    plan: Plan = Plan(),
    *,
    pairs: Sequence[PairSet] = (),
    name: str = "",
    progress: Progress = lambda step, done, total: None,
) -> Path:
    """Tune a model on the training parts and write the merged model to `out / "model"`.

    Args:
        source: folder or hub id of an image-text model.
        datasets: single-label data sets with a training part; of it, what looks like validation
            or test cases, of its own set or another, is left out.
        out: folder of the checkpoint, the adapter and the merged model.
        plan: how.
        pairs: questions with answers, and reports; what looks like held-out cases is left out.
        name: how records will call the model; the source's name with `-gsco` if empty.
        progress: told after every step.

    Returns:
        The folder of the merged model, which `gsco serve` and `--generalist` take.

    Raises:
        DataError: nothing to learn from, no training cases, or labels that are not single.
        GeneralistError: no such model, one without the layers to adapt, or a diverged loss.
        SpecialistError: an image cannot be read.
        UsageError: the model would be written over its own source.
    """
    if Path(source).resolve() == (out / "model").resolve():
        raise UsageError(
            f"The tuned model would be written over its source {str(source)!r}. Give another "
            "workspace, or move the source elsewhere first."
        )
    if not all(map(find_spec, ("accelerate", "peft"))):
        raise GeneralistError('Tuning needs PEFT and accelerate. Run `pip install "gsco[train]"`.')
    from accelerate import Accelerator

    material = material_of(datasets, pairs, progress)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(plan.seed)
    accelerator = Accelerator()
    model, processor = load_model(source, str(accelerator.device))
    if next(model.parameters()).dtype == torch.float16:
        # Half precision underflows without a scaled loss.
        model = model.to(torch.bfloat16)
    adapted = _adapted(model, plan, source)
    if accelerator.device.type == "cuda":
        adapted.gradient_checkpointing_enable()
        adapted.enable_input_require_grads()
    key = _key(f"{source}@{weights_of(source, model)}", material.seen(), datasets, pairs, plan)
    _learn(adapted, processor, material, plan, accelerator, out, key, progress)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        card = _card(source, [*datasets, *pairs], material.left_out, plan, name)
        _write(adapted, processor, out, source, card)
        write_seen(out / "model", material.seen() | seen_in(Path(source)))
    return out / "model"


# Any, here and below: accelerate, transformers' and PEFT's models have no types.
def _learn(
    adapted: Any,
    processor: Any,
    material: Material,
    plan: Plan,
    accelerator: Any,
    out: Path,
    key: str,
    progress: Progress,
) -> None:
    """Take the steps that are left, with a checkpoint now and then."""
    learning = [p for p in adapted.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=plan.rate, weight_decay=0.0)
    done = _restore(out, key, adapted, optimizer)
    network, optimizer = accelerator.prepare(adapted, optimizer)
    network.train()
    for step in range(done, plan.steps):
        # Each step and device has a seed of its own, so that a run can go on anywhere.
        draw = random.Random(f"{plan.seed} {step} {accelerator.process_index}")
        torch.manual_seed(draw.getrandbits(32))
        samples = [
            draw_sample(material.tasks, draw, plan.answer_form, material.pairs)
            for _ in range(plan.batch)
        ]
        for group in optimizer.param_groups:
            group["lr"] = plan.rate * _schedule(step, plan.steps)
        loss = answer_loss(network, processor, samples)
        if not torch.isfinite(loss):
            raise GeneralistError("The loss is not a number. Try a lower learning rate.")
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        progress("tune the generalist", step + 1, plan.steps)
        if (step + 1) % plan.every == 0 and accelerator.is_main_process:
            _store(out, key, step + 1, adapted, optimizer)


def _card(
    source: Path | str,
    learnt: Sequence[Dataset | PairSet],
    left_out: Mapping[str, int],
    plan: Plan,
    name: str,
) -> dict[str, object]:
    """Return what the folder of a tuned model tells of it."""
    return {
        "name": name or f"{Path(source).name}-gsco",
        "answer_form": plan.answer_form,
        "writes": card_of(Path(source)).writes,
        "base": str(source),
        "tuned_on": {found.name: found.licence or "unknown" for found in learnt},
        "left_out": {found: count for found, count in left_out.items() if count},
    }


def _adapted(model: Any, plan: Plan, source: Path | str) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=plan.rank, lora_alpha=2 * plan.rank, lora_dropout=0.05, target_modules=LANGUAGE
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise GeneralistError(
            f"{str(source)!r} has no layers named like {LANGUAGE!r}: its language part is built "
            "otherwise. Tune it with a tool of its own and serve the result."
        ) from error


def answer_loss(model: Any, processor: Any, samples: Sequence[Sample]) -> Tensor:
    """Return the mean loss over the answers' tokens; the prompts' tokens are not learnt."""
    tokenizer = processor.tokenizer
    tokenizer.padding_side = "left"
    inputs = dict(encoded(processor, [sample.prompt for sample in samples]))
    answers = [
        [*tokenizer(s.answer, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
        for s in samples
    ]
    start = inputs["input_ids"].shape[1]
    expected = torch.full((len(samples), max(map(len, answers))), -100)
    for row, tokens in enumerate(answers):
        expected[row, : len(tokens)] = torch.tensor(tokens)
    tensors = {key: value for key, value in inputs.items() if isinstance(value, Tensor)}
    device, kind = _place(model)
    placed = {
        key: value.to(device, kind) if value.is_floating_point() else value.to(device)
        for key, value in followed(tensors, answers, int(tokenizer.pad_token_id or 0)).items()
    }
    logits = model(**placed).logits[:, start - 1 : -1]
    expected = expected.to(device)
    loss: Tensor = nn.functional.cross_entropy(
        logits.float().flatten(0, 1), expected.flatten(), ignore_index=-100
    )
    return loss


def _place(model: nn.Module) -> tuple[torch.device, torch.dtype]:
    parameter = next(p for p in model.parameters() if not p.requires_grad)
    return parameter.device, parameter.dtype


def _schedule(step: int, steps: int) -> float:
    from math import cos, pi

    return min(1.0, (step + 1) / max(1, steps // 20)) * (1 + cos(pi * step / steps)) / 2


def _key(
    base: str,
    learnt: set[str],
    datasets: Sequence[Dataset],
    pairs: Sequence[PairSet],
    plan: Plan,
) -> str:
    """Return what a checkpoint must agree with; how often one is written does not matter."""
    prints = sorted(found.fingerprint for found in datasets)
    prints += sorted(map(fingerprint_of, pairs))
    prints.append(hashlib.sha256("".join(sorted(learnt)).encode()).hexdigest())
    return json.dumps([base, prints, asdict(replace(plan, every=0))], sort_keys=True)


def _store(out: Path, key: str, step: int, model: Any, optimizer: Any) -> None:
    state = {
        "key": key,
        "step": step,
        "adapter": _learnt(model),
        "optimizer": optimizer.state_dict(),
    }
    partial = out / "checkpoint.partial"
    torch.save(state, partial)
    partial.replace(out / "checkpoint.pt")


def _restore(out: Path, key: str, model: Any, optimizer: Any) -> int:
    """Go on from a checkpoint of the same model, data and plan; return how many steps are done."""
    file = out / "checkpoint.pt"
    if not file.is_file():
        return 0
    state = torch.load(file, map_location="cpu", weights_only=True)
    if state["key"] != key:
        return 0
    model.load_state_dict(state["adapter"], strict=False)
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def _learnt(model: Any) -> Mapping[str, Tensor]:
    return {name: p.detach().cpu() for name, p in model.named_parameters() if p.requires_grad}


def _merged(source: Path | str, adapter: Path) -> Any:
    """Return the source as it is stored, with the adapter merged into it.

    The weights beside which the adapter learnt may have lost digits on their way to bfloat16.
    """
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(source, dtype="auto")
    return PeftModel.from_pretrained(model, adapter).merge_and_unload()


def _write(
    adapted: Any,
    processor: Any,
    out: Path,
    source: Path | str,
    card: Mapping[str, object],
) -> None:
    """Write the adapter, and the model with the adapter merged into it, in hub format."""
    from gsco.generalist.tiny.export import name_as_vllm

    adapted.save_pretrained(out / "adapter")
    folder = out / "model"
    merged = _merged(source, out / "adapter")
    merged.save_pretrained(folder)
    if merged.config.model_type == "llava":
        name_as_vllm(folder)
    processor.save_pretrained(folder)
    (folder / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
