"""Training samples: a prompt of one of the four variants, in either style, and its answer."""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING

from PIL import Image

from gsco.generalist.choice import Vocabulary
from gsco.generalist.messages import messages
from gsco.generalist.tiny.data import Examples, Pictures
from gsco.generalist.tiny.evidence import Evidence, draw_evidence
from gsco.generalist.tiny.tokens import END, IMAGE, SENTENCES
from gsco.prompts import Prompt, Style, build_prompt
from gsco.task import Label, Task, builtin_tasks

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast

_VARIANTS = ((False, False), (True, False), (False, True), (True, True))
GROUP = 8
"""Batches drawn together, so that those of one batch can be of like length."""
_BLANK = Image.new("RGB", (8, 8))
_STYLES: tuple[Style, ...] = ("paper", "calibrated", "calibrated")
_WORDS: list[str] = sorted({w for s in SENTENCES for w in re.findall("[a-z]{4,}", s.lower())})
_SYLLABLES = [f"{c}{v}{d}" for c in "bcdfghklmnprstvz" for v in "aeiou" for d in ("", *"lmnrst")]
_JOINTS = (" ", " ", " ", "-", " or ", " and ", " with ", " of the ", "/")
_SHARED = ("cell", "tumour", "type", "lesion", "disease", "of the skin", "not seen", "grade two")


@dataclass(frozen=True)
class Mix:
    """What the samples of a stage are made of."""

    made_up: float
    """Share of tasks whose labels are drawn words."""
    mistaken: float
    """Share of real tasks with a picture of another kind of examination."""
    weighs: bool
    """Whether evidence stands beside pictures that tell: those kept fresh for it."""
    looks: bool = True
    """Whether there are pictures at all."""
    misleading: float = 0.0
    """Share of pictures beside evidence that show a case of any label, as those of another origin
    may seem to: without them a reader trusts its eyes where they have never been tried."""


READING = Mix(made_up=0.7, mistaken=0.3, weighs=False, looks=False)
LOOKING = Mix(made_up=0.25, mistaken=0.1, weighs=False)
WEIGHINGS = (
    Mix(made_up=0.3, mistaken=0.1, weighs=True, misleading=0.2),
    Mix(made_up=0.3, mistaken=0.1, weighs=True, misleading=0.35),
    Mix(made_up=0.5, mistaken=0.1, weighs=True, misleading=0.2),
)


@dataclass(frozen=True)
class Sample:
    """One line of a batch."""

    prompt: Prompt
    """Its image is a blank; the pixels come from `row`."""
    answer: str
    row: int
    """Number of the picture."""
    chances: Mapping[str, float]
    """What should be answered: a probability for each of the prompt's answers."""


@dataclass(frozen=True)
class Batch:
    """Samples as tensors, padded on the right."""

    tokens: "Tensor"
    """(B, T)."""
    ends: "Tensor"
    """(B,), how many tokens each line has. Attention is causal, so the padding needs no mask."""
    parts: "Tensor"
    """(B, T), whether the answers part at the token that follows."""
    wanted: "Tensor"
    """(parts.sum(), V) probabilities of the token that follows, row after row; 0 for tokens that no
    constraint lets follow."""
    rows: "Tensor"
    """(B,)."""

    def to(self, device: "torch.device | str") -> "Batch":
        """Return the same batch on a device."""
        return Batch(*(getattr(self, field.name).to(device) for field in fields(self)))


def draw_sample(
    pictures: Pictures, draw: random.Random, mix: Mix = LOOKING, pieces: Sequence[str] = ()
) -> Sample:
    """Return a random sample: task, class and case each with the same chance.

    Labels of made-up tasks are glued of `pieces`, among others.

    Where the task is made up, or the picture is of another kind of examination, only the evidence
    can tell. One in twelve asks for the presence of one label.
    """
    kind = draw.random()
    if kind < mix.made_up + mix.mistaken:
        task, row = _unseen(pictures, draw, pieces, made_up=kind < mix.made_up)
        target = draw.randrange(len(task.texts))
        moed, rad = draw.choices(_VARIANTS, weights=(1, 4, 4, 6))[0]
        evidence = draw_evidence(task, target, draw, moed=moed, rad=rad)
        chances = evidence.chances
    else:
        examples = draw.choices(pictures.tasks, weights=(25, 20, 20, 25, 10))[0]
        task = examples.task
        target = draw.randrange(len(task.texts))
        weights = (3, 3, 2, 4) if mix.weighs else (1, 0, 0, 0)
        moed, rad = draw.choices(_VARIANTS, weights=weights)[0]
        misleads = (moed or rad) and draw.random() < mix.misleading
        seen = draw.randrange(len(task.texts)) if misleads else target
        number = _number(examples, seen, draw, fresh=moed or rad)
        row = int(examples.rows[number])
        lies = draw.random() < 0.06 and not misleads
        spoken = _other(task, target, draw) if lies else target
        doubt = None
        if examples.doubts is not None and spoken == seen:
            doubt = examples.doubts[number].tolist()
        evidence = draw_evidence(task, spoken, draw, moed=moed, rad=rad, doubt=doubt)
        alone = tuple(float(i == target) for i in range(len(task.texts)))
        chances = evidence.chances if misleads else alone
    prompt = _prompt(task, evidence, draw)
    if draw.random() < 1 / 12:
        asked = target if draw.random() < 0.5 else draw.randrange(len(task.texts))
        prompt = prompt.asking(task.texts[asked]).permuted(draw.sample((0, 1), 2))
        yes = {"yes": chances[asked], "no": 1 - chances[asked]}
        return Sample(prompt, "yes" if asked == target else "no", row, yes)
    return Sample(prompt, task.texts[target], row, dict(zip(task.texts, chances, strict=True)))


def _prompt(task: Task, evidence: Evidence, draw: random.Random) -> Prompt:
    return build_prompt(
        task,
        images=[_BLANK],
        opinions=evidence.opinions,
        neighbours=evidence.neighbours,
        together=evidence.together,
        style=draw.choice(_STYLES),
        answer_form="label",
        order=draw.sample(range(len(task.texts)), len(task.texts)),
    )


def _unseen(
    pictures: Pictures, draw: random.Random, pieces: Sequence[str], *, made_up: bool
) -> tuple[Task, int]:
    """Return a task and the row of a picture that cannot tell its labels apart."""
    if made_up:
        return made_up_task(draw, pieces), draw.randrange(len(pictures.pixels))
    examples = draw.choice([e for e in pictures.tasks if e.task.modality != "medical image"])
    kinds = (examples.task.modality, "medical image")
    others = [e for e in pictures.tasks if e.task.modality not in kinds]
    rows = draw.choice(others).rows
    return examples.task, int(rows[draw.randrange(len(rows))])


def _other(task: Task, target: int, draw: random.Random) -> int:
    return draw.choice([i for i in range(len(task.texts)) if i != target])


def _number(examples: Examples, target: int, draw: random.Random, *, fresh: bool) -> int:
    """Return the number of a picture with a label; of one kept fresh, or of one that is not."""
    labelled = examples.targets == target
    chosen = labelled & (examples.fresh == fresh)
    matching = (chosen if chosen.any() else labelled).nonzero()[:, 0]
    return int(matching[draw.randrange(len(matching))])


def made_up_task(draw: random.Random, pieces: Sequence[str] = ()) -> Task:
    """Return a task whose labels are words drawn at random, so that they have to be read.

    Some of the words are of the field, others have never been seen; labels may share a word.

    Args:
        draw: where chance comes from.
        pieces: a tokenizer's tokens that begin words. Glued of these, labels begin with every token
            that a label may ever begin with; one that never began any could not be answered.
    """
    count = draw.choice((2, 2, 3, 3, 4, 5, 6, 7, 8))
    texts: dict[str, None] = {}
    shared = draw.choice(_SHARED) if draw.random() < 0.4 else None
    while len(texts) < count:
        text = _word(draw, pieces)
        for _ in range(draw.choice((0, 0, 0, 0, 1, 1, 1, 2, 4))):
            text += draw.choice(_JOINTS) + _word(draw, pieces)
        if shared and draw.random() < 0.5:
            text = draw.choice((f"{text} {shared}", f"{shared} {text}"))
        texts[text] = None
    stem = draw.choice(list(builtin_tasks().values())).stem
    labels = tuple(map(Label, texts))
    return Task("made-up", "Made up", "single", labels, modality="medical image", stem=stem)


def _word(draw: random.Random, pieces: Sequence[str]) -> str:
    """Return a word of the field, one of made-up syllables, or one glued of pieces."""
    kind = draw.randrange(4 if pieces else 2)
    if kind == 0:
        return draw.choice(_WORDS)
    if kind == 1:
        return "".join(draw.choices(_SYLLABLES, k=draw.choice((1, 2, 3, 4))))
    return "".join(draw.choices(pieces, k=draw.choice((1, 2, 3))))


def batches(
    pictures: Pictures,
    tokenizer: "PreTrainedTokenizerFast",
    image_tokens: int,
    size: int,
    draw: random.Random,
    mix: Mix = LOOKING,
) -> list[Batch]:
    """Return `GROUP` batches whose samples are of like length, in random order."""
    pieces = _pieces(tokenizer)
    samples = [draw_sample(pictures, draw, mix, pieces) for _ in range(GROUP * size)]
    coded = sorted(
        (_encoded(sample, tokenizer, image_tokens if mix.looks else 0) for sample in samples),
        key=lambda line: len(line.asked) + len(line.said),
    )
    groups = [_pad(coded[i : i + size], tokenizer) for i in range(0, len(coded), size)]
    draw.shuffle(groups)
    return groups


@dataclass(frozen=True)
class _Line:
    asked: list[int]
    said: list[int]
    following: list[dict[int, float]]
    """For each token of `said`, what should stand there."""
    row: int


def _encoded(sample: Sample, tokenizer: "PreTrainedTokenizerFast", image_tokens: int) -> _Line:
    tokens = {text: tokenizer(text + END).input_ids for text in sample.chances}
    vocabulary = _vocabulary(tokenizer)
    said = tokens[sample.answer]
    weighted = [(tokens[text], chance) for text, chance in sample.chances.items()]
    following = [
        _rivals(vocabulary, weighted, said[:place]) | _following(weighted, said[:place])
        for place in range(len(said))
    ]
    return _Line(encode(sample.prompt, tokenizer, image_tokens), said, following, sample.row)


def _following(
    weighted: Sequence[tuple[Sequence[int], float]], begun: Sequence[int]
) -> dict[int, float]:
    """Return the probabilities of the token after `begun`, from those of whole answers."""
    out: dict[int, float] = {}
    place = len(begun)
    for tokens, chance in weighted:
        if tokens[:place] == begun:
            out[tokens[place]] = out.get(tokens[place], 0.0) + max(chance, 1e-9)
    total = sum(out.values())
    return {token: chance / total for token, chance in out.items()}


def _rivals(
    vocabulary: Vocabulary, weighted: Sequence[tuple[Sequence[int], float]], begun: Sequence[int]
) -> dict[int, float]:
    """Return, with next to no chance, the tokens that a constraint on texts also lets follow."""
    place = len(begun)
    rests = [tokens[place:-1] for tokens, _ in weighted if tokens[:place] == begun]
    return dict.fromkeys(vocabulary.beginnings(rests), 1e-12)


@lru_cache(maxsize=2)
def _vocabulary(tokenizer: "PreTrainedTokenizerFast") -> Vocabulary:
    return Vocabulary(tokenizer.get_vocab())


@lru_cache(maxsize=2)
def _pieces(tokenizer: "PreTrainedTokenizerFast") -> tuple[str, ...]:
    """Return the tokens of a tokenizer that a word may begin with."""
    return tuple(sorted(text for text in tokenizer.get_vocab() if re.fullmatch("[a-z]+", text)))


def encode(prompt: Prompt, tokenizer: "PreTrainedTokenizerFast", image_tokens: int) -> list[int]:
    """Return the tokens of a prompt."""
    text = tokenizer.apply_chat_template(
        messages(prompt), tokenize=False, add_generation_prompt=True
    )
    return list(tokenizer(str(text).replace(IMAGE, IMAGE * image_tokens)).input_ids)


def _pad(lines: Sequence[_Line], tokenizer: "PreTrainedTokenizerFast") -> Batch:
    import torch

    longest = max(len(line.asked) + len(line.said) for line in lines) - 1
    tokens = torch.full((len(lines), longest), int(tokenizer.pad_token_id))
    parts = torch.zeros_like(tokens, dtype=torch.bool)
    wanted: list[Tensor] = []
    for i, line in enumerate(lines):
        whole = line.asked + line.said
        tokens[i, : len(whole) - 1] = torch.tensor(whole[:-1])
        for place, following in enumerate(line.following, start=len(line.asked) - 1):
            if len(following) > 1:
                parts[i, place] = True
                row = torch.zeros(len(tokenizer))
                row[list(following)] = torch.tensor(list(following.values()))
                wanted.append(row)
    ends = torch.tensor([len(line.asked) + len(line.said) - 1 for line in lines])
    return Batch(
        tokens, ends, parts, torch.stack(wanted), torch.tensor([line.row for line in lines])
    )
