"""The vote of the neighbours: similar labelled cases become a probability for each label."""

from collections.abc import Sequence
from math import exp

from retrieval.errors import RetrievalError
from retrieval.neighbour import Neighbour

TEMPERATURE = 0.1
"""How much nearer neighbours count more: a similarity higher by this much weighs e times more."""

SMOOTHING = 0.5
"""Imagined neighbours that each label gets, so that no probability is 0 or 1."""


def vote(
    neighbours: Sequence[Neighbour],
    labels: Sequence[str],
    *,
    temperature: float = TEMPERATURE,
    smoothing: float = SMOOTHING,
) -> tuple[float, ...]:
    """Return the probability of each of `labels`, in their order; they sum to 1.

    A neighbour weighs exp(similarity / temperature) and shares its weight among its labels. The
    weights are scaled so that they sum to the number of neighbours, and `smoothing` is added to
    each label.

    Raises:
        RetrievalError: no neighbours, or a neighbour whose labels are not among `labels`.
    """
    shares = _shares(neighbours, labels, temperature, smoothing, split=True)
    total = len(neighbours) + smoothing * len(labels)
    return tuple((share + smoothing) / total for share in shares)


def vote_multi(
    neighbours: Sequence[Neighbour],
    labels: Sequence[str],
    *,
    temperature: float = TEMPERATURE,
    smoothing: float = SMOOTHING,
) -> tuple[float, ...]:
    """Return the probability that each of `labels` holds: the weighted share of holders.

    Weights and smoothing are those of `vote`; a label gets `smoothing` both for and against it. A
    neighbour without labels counts against each.

    Raises:
        RetrievalError: no neighbours, or a neighbour whose labels are not among `labels`.
    """
    shares = _shares(neighbours, labels, temperature, smoothing, split=False)
    total = len(neighbours) + smoothing * 2
    return tuple((share + smoothing) / total for share in shares)


def _shares(
    neighbours: Sequence[Neighbour],
    labels: Sequence[str],
    temperature: float,
    smoothing: float,
    *,
    split: bool,
) -> list[float]:
    """Return the weight of the neighbours with each label, where all weigh `len(neighbours)`."""
    _check(neighbours, labels, temperature, smoothing, needs_label=split)
    nearest = max(neighbour.similarity for neighbour in neighbours)
    weights = [exp((neighbour.similarity - nearest) / temperature) for neighbour in neighbours]
    scale = len(neighbours) / sum(weights)
    shares = dict.fromkeys(labels, 0.0)
    for neighbour, weight in zip(neighbours, weights, strict=True):
        held = set(neighbour.labels)
        for label in held:
            shares[label] += weight * scale / (len(held) if split else 1)
    return list(shares.values())


def _check(
    neighbours: Sequence[Neighbour],
    labels: Sequence[str],
    temperature: float,
    smoothing: float,
    *,
    needs_label: bool,
) -> None:
    """Refuse what cannot be voted on."""
    if not neighbours:
        raise RetrievalError(
            "Nothing to vote on: got 0 neighbours. Build the index of this task, or ask without it."
        )
    if not labels or len(set(labels)) != len(labels):
        raise RetrievalError(
            f"Cannot vote over the labels {tuple(labels)!r}. Give at least one, each once."
        )
    if temperature <= 0 or smoothing <= 0:
        raise RetrievalError(
            f"Cannot vote with temperature {temperature!r} and smoothing {smoothing!r}. "
            "Give positive numbers."
        )
    known = set(labels)
    for neighbour in neighbours:
        if not known.issuperset(neighbour.labels) or (needs_label and not neighbour.labels):
            raise RetrievalError(
                f"Neighbour {neighbour.id!r} has the labels {neighbour.labels!r}, which are not "
                f"of {tuple(labels)!r}. Search an index of the same task."
            )
