"""Made-up evidence of stated reliability: from it gsco-tiny learns how far to trust what it reads.

A fake specialist of reliability r is right with probability r, and says about as much. Now and then
all of them are wrong, so that only the image can tell.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from gsco.task import Task
from retrieval import Neighbour
from specialists import Opinion

_NAMES = (
    "resnet18",
    "densenet121",
    "vgg16",
    "alexnet",
    "efficientnet-b4",
    "efficientnet-lite0",
    "mobilenetv3-small",
    "vit-base",
    "vit-tiny",
    "clip",
    "eva02",
    "dino",
    "sam",
    "convnext",
)


@dataclass(frozen=True)
class Evidence:
    """What a prompt may show beside the image."""

    opinions: tuple[Opinion, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()


def draw_evidence(
    task: Task, target: int, draw: random.Random, *, moed: bool, rad: bool, wrong: bool = False
) -> Evidence:
    """Return evidence for a case whose true label is `target`; all of it wrong if `wrong`."""
    opinions = draw_opinions(task, target, draw, wrong=wrong) if moed else ()
    neighbours = draw_neighbours(task, target, draw, wrong=wrong) if rad else ()
    return Evidence(opinions, neighbours)


def draw_opinions(
    task: Task, target: int, draw: random.Random, *, wrong: bool = False
) -> tuple[Opinion, ...]:
    """Return one to five opinions, each right with its own stated reliability."""
    names = draw.sample(_NAMES, draw.choice((1, 2, 3, 3, 3, 4, 5)))
    return tuple(_opinion(task, target, name, draw, wrong) for name in names)


def _opinion(task: Task, target: int, name: str, draw: random.Random, wrong: bool) -> Opinion:
    reliability = draw.uniform(max(0.35, 1 / len(task.texts)), 0.98)
    right = not wrong and draw.random() < reliability
    said = target if right else _other(task, target, draw)
    top = min(max(draw.gauss(0.3 + 0.65 * reliability, 0.12), 1.05 / len(task.texts)), 0.99)
    shares = [draw.random() + 0.05 for _ in task.texts]
    shares[said] = 0.0
    rest = sum(shares)
    others = [min((1 - top) * share / rest, 0.98 * top) for share in shares]
    # What a cap took away goes back to what is said, so that it stays the most probable.
    top = 1 - sum(others)
    chances = [top if i == said else chance for i, chance in enumerate(others)]
    stated = None if draw.random() < 0.1 else reliability
    return Opinion(name, task.texts, tuple(chances), reliability=stated)


def draw_neighbours(
    task: Task, target: int, draw: random.Random, *, wrong: bool = False
) -> tuple[Neighbour, ...]:
    """Return three to ten neighbours, nearest first, which agree with the truth more or less."""
    count = draw.choice((3, 5, 5, 5, 10))
    purity = draw.uniform(max(0.35, 1 / len(task.texts)), 0.98)
    nearest = draw.uniform(0.55, 0.99)
    similarities = sorted((nearest - abs(draw.gauss(0, 0.06)) for _ in range(count)), reverse=True)
    # The whole neighbourhood may lie in the wrong class, as it does near a boundary.
    strayed = wrong or draw.random() < (1 - purity) / 2
    centre = _other(task, target, draw) if strayed else target
    labels = [
        centre if draw.random() < purity else draw.randrange(len(task.texts)) for _ in similarities
    ]
    if wrong:
        labels = [centre if label == target else label for label in labels]
    pairs: Sequence[tuple[int, float]] = list(zip(labels, similarities, strict=True))
    return tuple(Neighbour(str(i), (task.texts[t],), s) for i, (t, s) in enumerate(pairs))


def _other(task: Task, target: int, draw: random.Random) -> int:
    return draw.choice([i for i in range(len(task.texts)) if i != target])
