"""Made-up evidence whose worth is known: from it gsco-tiny learns how far to trust what it reads.

A fake case is a point drawn around its true label, seen by each specialist through noise of its own
and noise that all share, as real ones err together. By Bayes' rule each states what it may know;
its reliability is measured on fake validation cases, and so are the weights by which all of it is
taken together. What a reader of everything should answer is known exactly: it is what gsco-tiny is
taught, instead of labels whose luck it would have to average out.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gsco.task import Task
from gsco.voices import TOGETHER
from retrieval import Neighbour
from specialists import Opinion
from specialists.calibrate import softmax

Floats = NDArray[np.float64]
VALIDATION = 200
"""Fake cases on which reliabilities are measured."""

_NAMES = (
    "resnet18",
    "densenet121",
    "vgg16",
    "alexnet",
    "efficientnet-b4",
    "efficientnet-lite0",
    "efficientnet-lite1",
    "mobilenetv3-small",
    "lcnet",
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

    chances: tuple[float, ...]
    """What the evidence alone says of each label of the task, by Bayes' rule."""
    opinions: tuple[Opinion, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    together: Opinion | None = None


def draw_evidence(
    task: Task,
    target: int,
    draw: random.Random,
    *,
    moed: bool,
    rad: bool,
    doubt: Sequence[float] | None = None,
) -> Evidence:
    """Return evidence for a case whose true label is `target`.

    Args:
        task: whose labels are spoken of.
        target: number of the true label; it is right as often as the evidence's `chances` say.
        draw: where chance comes from.
        moed: whether specialists speak.
        rad: whether neighbours are recalled.
        doubt: for each label, the error that all who see the case share; drawn if None.
    """
    count = len(task.texts)
    if not moed and not rad:
        return Evidence((1 / count,) * count)
    rng = np.random.default_rng(draw.getrandbits(64))
    names = draw.sample(_NAMES, draw.choice((1, 2, 2, 3, 3, 3, 4))) if moed else []
    voices = len(names) + rad
    base = rng.uniform(0.4, 3.2)
    strength = base * rng.uniform(0.6, 1.4, voices)
    shared = rng.uniform(0, 0.85)
    targets = np.concatenate([[target], rng.integers(count, size=VALIDATION)])
    seen = _seen(targets, strength, shared, count, rng, doubt)
    covariance = (1 - shared) * np.eye(voices) + shared
    best = np.linalg.solve(covariance, strength)
    chances = softmax(np.einsum("v,nvk->nk", best, seen))
    own = softmax(strength[:, None] * seen)
    neighbours: tuple[Neighbour, ...] = ()
    if rad:
        neighbours, own[:, -1] = _neighbours(task, own[:, -1], draw, rng)
    said = own[:, : len(names)]
    # Some specialists are surer than they may be, some less: few are calibrated perfectly.
    off = rng.uniform(0.6, 1.6, len(names)) if draw.random() < 0.3 else np.ones(len(names))
    said = softmax(np.log(said.clip(1e-4)) / off[:, None])
    opinions = tuple(
        _opinion(task, name, said[:, i], targets, draw) for i, name in enumerate(names)
    )
    together = None
    if moed and voices > 1 and draw.random() < 0.9:
        weights = (best / strength).clip(0, 3)
        if rad:
            weights[-1] *= 0.3
        pooled = softmax(np.einsum("v,nvk->nk", weights, np.log(own.clip(1e-4))))
        together = _opinion(task, TOGETHER, pooled, targets, draw)
    return Evidence(tuple(chances[0].tolist()), opinions, neighbours, together)


def _seen(
    targets: NDArray[np.int64],
    strength: Floats,
    shared: float,
    count: int,
    rng: np.random.Generator,
    doubt: Sequence[float] | None,
) -> Floats:
    """Return (N, voices, labels): how much each voice sees of each label in each case."""
    common = rng.standard_normal((len(targets), 1, count))
    if doubt is not None:
        common[0, 0] = doubt
    alone = rng.standard_normal((len(targets), len(strength), count))
    truth = np.eye(count)[targets][:, None] * strength[:, None]
    out: Floats = truth + np.sqrt(shared) * common + np.sqrt(1 - shared) * alone
    return out


def _opinion(
    task: Task, name: str, said: Floats, targets: NDArray[np.int64], draw: random.Random
) -> Opinion:
    """Return what one voice says of the first case, its reliability measured on the others."""
    reliability = float((said[1:].argmax(1) == targets[1:]).mean())
    stated = None if draw.random() < 0.05 else reliability
    return Opinion(name, task.texts, tuple(said[0].tolist()), reliability=stated)


def _neighbours(
    task: Task, chances: Floats, draw: random.Random, rng: np.random.Generator
) -> tuple[tuple[Neighbour, ...], Floats]:
    """Return three to ten neighbours of the first case, nearest first, and every case's vote."""
    count = draw.choice((3, 3, 5, 5, 10))
    nearest = draw.uniform(0.55, 0.99)
    similarities = sorted((nearest - abs(draw.gauss(0, 0.06)) for _ in range(count)), reverse=True)
    drawn = (chances.cumsum(1)[:, None] < rng.random((len(chances), count, 1))).sum(2)
    labels = drawn.clip(0, len(task.texts) - 1)
    votes = np.eye(len(task.texts))[labels].mean(1)
    pairs = zip(labels[0].tolist(), similarities, strict=True)
    return tuple(Neighbour(str(i), (task.texts[t],), s) for i, (t, s) in enumerate(pairs)), votes
