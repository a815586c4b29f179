"""Measure gsco-tiny on the validation images: alone, with evidence, and with all of it wrong.

    python -m gsco.generalist.tiny.measure --data DIR

Test images are left to the benchmarks.
"""

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image

from gsco.generalist.embedded import EmbeddedGeneralist
from gsco.generalist.tiny import FOLDER, architecture
from gsco.generalist.tiny.data import Examples, Pictures, load_pictures
from gsco.generalist.tiny.evidence import draw_evidence
from gsco.prompts import Prompt, Style, build_prompt
from gsco.task import Task

Shown = Literal["nothing", "evidence", "reliable", "wrong"]
"""What stands beside the image: any evidence, or only that which is right, or wrong."""


@dataclass(frozen=True)
class Figures:
    """Balanced accuracies of one task; each in [0, 1]."""

    task: str
    n: int
    plain: float
    """From the image alone."""
    evidence: float
    """With three kinds of evidence whose reliability is drawn as in training."""
    reliable: float
    """With evidence of which the specialists' part is always right."""
    wrong: float
    """With all evidence wrong: how far the image is heard against it."""
    paper: float
    """As `evidence`, in the published style, which states no reliability."""
    swapped: float
    """Share of plain readings whose probabilities move by 0.1 or more with another image."""


def measure(generalist: EmbeddedGeneralist, pictures: Pictures, seed: int = 0) -> list[Figures]:
    """Return the figures of every task on `pictures`."""
    return [_measure(generalist, pictures, examples, seed) for examples in pictures.tasks]


def _measure(
    generalist: EmbeddedGeneralist, pictures: Pictures, examples: Examples, seed: int
) -> Figures:
    images = [_image(pictures, int(row)) for row in examples.rows]
    targets = [int(target) for target in examples.targets]

    def prompts(style: Style = "calibrated", show: Shown = "evidence") -> list[Prompt]:
        draw = random.Random(seed)
        return [
            build_prompt(
                examples.task,
                images=[image],
                **_evidence(examples.task, target, draw, show),
                style=style,
                answer_form=generalist.answer_form,
            )
            for image, target in zip(images, targets, strict=True)
        ]

    def accuracy(asked: Sequence[Prompt]) -> float:
        answers = [reading.answer for reading in generalist.read(asked)]
        return _balanced(answers, [examples.task.texts[t] for t in targets])

    plain = prompts(show="nothing")
    return Figures(
        task=examples.task.id,
        n=len(images),
        plain=accuracy(plain),
        evidence=accuracy(prompts()),
        reliable=accuracy(prompts(show="reliable")),
        wrong=accuracy(prompts(show="wrong")),
        paper=accuracy(prompts("paper")),
        swapped=_moved(generalist, plain, [*plain[1:], plain[0]]),
    )


# Any: arguments of the prompt builder, each of a type of its own.
def _evidence(task: Task, target: int, draw: random.Random, show: Shown) -> dict[str, Any]:
    if show == "nothing":
        return {}
    moed, rad = draw.choice(((True, False), (False, True), (True, True)))
    others = [i for i in range(len(task.texts)) if i != target]
    spoken = draw.choice(others) if show == "wrong" else target
    found = draw_evidence(task, spoken, draw, moed=moed, rad=rad)
    opinions, neighbours = found.opinions, found.neighbours
    if show == "evidence":
        return {"opinions": opinions, "neighbours": neighbours, "together": found.together}
    truth, reliable = task.texts[target], show == "reliable"
    return {
        "opinions": [o for o in opinions if (o.answer == truth) == reliable],
        "neighbours": [n for n in neighbours if (n.labels == (truth,)) == reliable],
    }


def _moved(generalist: EmbeddedGeneralist, one: Sequence[Prompt], other: Sequence[Prompt]) -> float:
    pairs = zip(generalist.read(one), generalist.read(other), strict=True)
    moved = [
        max(abs(a.probabilities[k] - b.probabilities[k]) for k in a.probabilities) for a, b in pairs
    ]
    return sum(m >= 0.1 for m in moved) / len(moved)


def _balanced(answers: Sequence[str | None], truths: Sequence[str]) -> float:
    pairs = list(zip(answers, truths, strict=True))
    recalls = [
        sum(a == t for a, t in pairs if t == label) / truths.count(label) for label in set(truths)
    ]
    return sum(recalls) / len(recalls)


def _image(pictures: Pictures, row: int) -> Image.Image:
    return Image.fromarray(pictures.pixels[row].permute(1, 2, 0).numpy())


def main() -> None:
    """Measure from the command line; the figures come as JSON."""
    parser = argparse.ArgumentParser(description="Measure gsco-tiny on validation images.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--model", type=Path, default=FOLDER)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    pictures = load_pictures(given.data, "val", architecture.SIZE)
    figures = measure(EmbeddedGeneralist(given.model), pictures)
    print(json.dumps([asdict(line) for line in figures], indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
