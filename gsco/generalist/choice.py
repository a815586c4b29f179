"""From the tokens of a constrained answer to a probability for every choice.

Both ways of running a model report the same quantity: the probability that sampling under the
constraint would give the choice. At each token the mass of what may follow is made to sum to 1, so
a long label is not punished for its length, and `no` and `no tumour` part where one ends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One token of the answer."""

    token: str
    """The text of the token that was chosen; empty for the end."""
    tops: Mapping[str, float]
    """Text to probability of the tokens that could have been chosen, the chosen one among them."""


def spread(choices: Sequence[str], steps: Sequence[Step]) -> dict[str, float]:
    """Return a probability for each choice, summing to 1, from one answer of a server.

    Exact up to the token at which a choice leaves the answer's path; choices that leave it
    together by the same token share its mass evenly, because the server did not go there.
    Empty if the tokens tell nothing.
    """
    shares = dict.fromkeys(choices, 0.0)
    mass, said = 1.0, ""
    for step in steps:
        alive = _starting(choices, said)
        if len(alive) < 2:
            break
        targets = {token: _reached(choices, said, token) for token in step.tops}
        total = sum(p for token, p in step.tops.items() if targets[token])
        if not total or not targets.get(step.token):
            return {}
        for token, chance in step.tops.items():
            for choice in targets[token] if token != step.token else ():
                shares[choice] += mass * chance / total / len(targets[token])
        mass *= step.tops[step.token] / total
        if not _starting(choices, said + step.token):
            shares[said] += mass
            return shares
        said += step.token
    alive = _starting(choices, said)
    for choice in alive if steps else ():
        shares[choice] += mass / len(alive)
    return shares if steps else {}


def _starting(choices: Sequence[str], text: str) -> list[str]:
    return [choice for choice in choices if choice.startswith(text)]


def _reached(choices: Sequence[str], said: str, token: str) -> list[str]:
    """Return the choices that the token leads to; a token that fits none ends the answer."""
    if token and (found := _starting(choices, said + token)):
        return found
    return [said] if said in choices else []


@dataclass(frozen=True)
class Branch:
    """A place in the tree of choices where more than one token may follow."""

    prefix: tuple[int, ...]
    following: tuple[int, ...]


def branches(sequences: Sequence[Sequence[int]]) -> list[Branch]:
    """Return the places where token sequences part, the root first.

    Each sequence ends with the token that ends an answer, so that none is the start of another.
    """
    following: dict[tuple[int, ...], dict[int, None]] = {}
    for sequence in sequences:
        for place, token in enumerate(sequence):
            following.setdefault(tuple(sequence[:place]), {})[token] = None
    parting = [Branch(prefix, tuple(tokens)) for prefix, tokens in following.items()]
    return sorted((b for b in parting if len(b.following) > 1), key=lambda b: len(b.prefix))


def weigh(
    sequences: Sequence[Sequence[int]], chances: Mapping[tuple[int, ...], Mapping[int, float]]
) -> list[float]:
    """Return the probability of each sequence from those at every branch; they sum to 1."""
    out = []
    for sequence in sequences:
        chance = 1.0
        for place, token in enumerate(sequence):
            chance *= chances.get(tuple(sequence[:place]), {token: 1.0})[token]
        out.append(chance)
    return out
