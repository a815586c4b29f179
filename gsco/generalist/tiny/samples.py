"""Training samples: a prompt of one of the four variants, in either style, and its answer."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from gsco.generalist.messages import messages
from gsco.generalist.tiny.data import Examples, Pictures
from gsco.generalist.tiny.evidence import draw_evidence
from gsco.generalist.tiny.tokens import END, IMAGE, SENTENCES
from gsco.prompts import Prompt, Style, build_prompt
from gsco.task import Label, Task, builtin_tasks

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast

_VARIANTS = ((False, False), (True, False), (False, True), (True, True))
GROUP = 8
"""Batches drawn together, so that those of one batch can be of like length."""
_BLANK = Image.new("RGB", (8, 8))
_STYLES: tuple[Style, ...] = ("paper", "calibrated")


@dataclass(frozen=True)
class Mix:
    """Shares of the samples in which the picture does not tell."""

    made_up: float
    """Of tasks whose labels are drawn words."""
    foreign: float
    """Of real tasks without pictures of their own."""
    mistaken: float
    """Of the others with evidence: the picture is another case's, of any task."""
    swapped: float = 0.0
    """Of these: the picture is of the same task, but of another label. It looks as it should, and
    is wrong as often as eyes are on cases that they have never seen."""


LOOKING = Mix(made_up=0.0, foreign=0.1, mistaken=0.2)
READING = Mix(made_up=0.4, foreign=0.1, mistaken=0.35)
WEIGHING = Mix(made_up=0.15, foreign=0.1, mistaken=0.1, swapped=0.3)


@dataclass(frozen=True)
class Sample:
    """One line of a batch."""

    prompt: Prompt
    """Its image is a blank; the pixels come from `row`."""
    answer: str
    row: int
    """Number of the picture."""


@dataclass(frozen=True)
class Batch:
    """Samples as tensors, padded on the right."""

    tokens: "Tensor"
    """(B, T)."""
    mask: "Tensor"
    """(B, T), one where a token is."""
    targets: "Tensor"
    """(B, T), the token that follows where it belongs to the answer, else -100."""
    rows: "Tensor"
    """(B,)."""


def draw_sample(pictures: Pictures, draw: random.Random, mix: Mix = LOOKING) -> Sample:
    """Return a random sample: task, class and case each with the same chance.

    Where the task is made up or has no pictures of its own, or the picture is another case's, only
    the evidence can tell. One in twelve asks for the presence of one label.
    """
    kind = draw.random()
    if kind < mix.made_up + mix.foreign:
        task = made_up_task(draw) if kind < mix.made_up else draw.choice(_foreign())
        target, row = draw.randrange(len(task.texts)), draw.randrange(len(pictures.pixels))
        weights = (1, 3, 3, 3)
    else:
        examples = draw.choices(pictures.tasks, weights=(25, 20, 20, 25, 10))[0]
        task = examples.task
        target = draw.randrange(len(task.texts))
        row = _row(examples, target, draw)
        weights = (4, 2, 2, 2)
    moed, rad = draw.choices(_VARIANTS, weights=weights)[0]
    if (moed or rad) and draw.random() < mix.mistaken:
        row = draw.randrange(len(pictures.pixels))
    elif (moed or rad) and kind >= mix.made_up + mix.foreign and draw.random() < mix.swapped:
        others = [i for i in range(len(task.texts)) if i != target]
        row = _row(examples, draw.choice(others), draw)
    wrong = draw.random() < 0.06
    evidence = draw_evidence(task, target, draw, moed=moed, rad=rad, wrong=wrong)
    prompt = build_prompt(
        task,
        images=[_BLANK],
        opinions=evidence.opinions,
        neighbours=evidence.neighbours,
        style=draw.choice(_STYLES),
        answer_form="label",
        order=draw.sample(range(len(task.texts)), len(task.texts)),
    )
    if draw.random() < 1 / 12:
        asked = target if draw.random() < 0.5 else draw.randrange(len(task.texts))
        prompt = prompt.asking(task.texts[asked]).permuted(draw.sample((0, 1), 2))
        return Sample(prompt, "yes" if asked == target else "no", row)
    return Sample(prompt, task.texts[target], row)


def _row(examples: Examples, target: int, draw: random.Random) -> int:
    """Return the row of a picture with a label."""
    matching = (examples.targets == target).nonzero()[:, 0]
    return int(examples.rows[matching[draw.randrange(len(matching))]])


def made_up_task(draw: random.Random) -> Task:
    """Return a task whose labels are words drawn at random, so that they have to be read."""
    words = sorted({w for s in SENTENCES for w in re.findall("[a-z]{4,}", s.lower())})
    count = draw.choice((2, 2, 3, 4, 5))
    drawn = draw.sample(words, 2 * count)
    texts = [" ".join(drawn[2 * i : 2 * i + draw.choice((1, 1, 2))]) for i in range(count)]
    stem = draw.choice(list(builtin_tasks().values())).stem
    labels = tuple(Label(text) for text in texts)
    return Task("made-up", "Made up", "single", labels, modality="medical image", stem=stem)


def _foreign() -> list[Task]:
    names = ("white-cells", "dermoscopy", "pneumonia-cxr-3", "modality")
    return [builtin_tasks()[name] for name in names]


def batches(
    pictures: Pictures,
    tokenizer: "PreTrainedTokenizerFast",
    image_tokens: int,
    size: int,
    draw: random.Random,
    mix: Mix = LOOKING,
) -> list[Batch]:
    """Return `GROUP` batches whose samples are of like length, in random order."""
    samples = [draw_sample(pictures, draw, mix) for _ in range(GROUP * size)]
    coded = sorted(
        ((*encode(sample, tokenizer, image_tokens), sample.row) for sample in samples),
        key=lambda line: len(line[0]) + len(line[1]),
    )
    groups = [_pad(coded[i : i + size], tokenizer) for i in range(0, len(coded), size)]
    draw.shuffle(groups)
    return groups


def encode(
    sample: Sample, tokenizer: "PreTrainedTokenizerFast", image_tokens: int
) -> tuple[list[int], list[int]]:
    """Return the tokens of the prompt and of the answer with its end."""
    text = tokenizer.apply_chat_template(
        messages(sample.prompt), tokenize=False, add_generation_prompt=True
    )
    asked = tokenizer(str(text).replace(IMAGE, IMAGE * image_tokens)).input_ids
    return asked, tokenizer(sample.answer + END).input_ids


def _pad(
    lines: Sequence[tuple[list[int], list[int], int]], tokenizer: "PreTrainedTokenizerFast"
) -> Batch:
    import torch

    longest = max(len(asked) + len(said) for asked, said, _ in lines) - 1
    tokens = torch.full((len(lines), longest), int(tokenizer.pad_token_id))
    mask, targets = torch.zeros_like(tokens), torch.full_like(tokens, -100)
    for i, (asked, said, _) in enumerate(lines):
        whole = asked + said
        tokens[i, : len(whole) - 1] = torch.tensor(whole[:-1])
        mask[i, : len(whole) - 1] = 1
        targets[i, len(asked) - 1 : len(whole) - 1] = torch.tensor(said)
    return Batch(tokens, mask, targets, torch.tensor([row for *_, row in lines]))
