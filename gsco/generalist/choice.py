"""From the tokens of a constrained answer to a probability for every choice.

Both ways of running a model report the same quantity: the probability that sampling under the
constraint would give the choice. At each token the mass of what may follow is made to sum to 1, so
a long label is not punished for its length, and `no` and `no tumour` part where one ends.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, takewhile


@dataclass(frozen=True)
class Step:
    """One token of the answer."""

    token: str
    """The text of the token that was chosen; empty if it ends inside a character, or the answer."""
    tops: Mapping[str, float]
    """Text to probability of the tokens that could have been chosen, the chosen one among them."""
    hidden: float = 0.0
    """Probability of the tokens without a text that were not chosen: many may have none."""


@dataclass(frozen=True)
class Group:
    """Choices that one answer of a server does not tell apart."""

    choices: tuple[str, ...]
    said: str
    """How the answer would have begun that leads to them."""


def parted(choices: Sequence[str], steps: Sequence[Step]) -> dict[Group, float]:
    """Return the choices that one answer of a server tells apart, and the probability of each.

    They sum to 1. Choices that leave the answer's path together, by the same token, are one group:
    the server did not go there. A token belongs to the choices that no longer listed token begins:
    `me` to `melanocytic nevus` where `melanoma` is a token. One that ends inside a character has no
    text, and belongs to the choices that go on with a character of several bytes; if it was not
    chosen, to those with another one than the answer. Empty if the tokens tell nothing.
    """
    groups: defaultdict[Group, float] = defaultdict(float)
    unseen: list[tuple[list[str], str, float]] = []
    mass, said, alive = 1.0, "", list(choices)
    for step in steps:
        if len(alive) < 2:
            break
        reached = _reached(alive, said, [*step.tops, ""])
        hidden = step.hidden if reached[""] else 0.0
        total = sum(p for token, p in step.tops.items() if reached[token]) + hidden
        if not total or not reached.get(step.token):
            return {}
        if hidden:
            unseen.append((reached[""], said, mass * hidden / total))
        for token, chance in step.tops.items():
            if token != step.token and reached[token]:
                groups[Group(tuple(reached[token]), said + token)] += mass * chance / total
        mass *= step.tops[step.token] / total
        alive = reached[step.token]
        if not _starting(choices, said + step.token):
            break
        said += step.token
    if steps:
        groups[Group(tuple(alive), said)] += mass
    for fits, begun, share in unseen:
        others = [choice for choice in fits if not choice.startswith(_one_more(begun, said))]
        groups[Group(tuple(others or fits), begun)] += share
    return dict(groups)


def _one_more(begun: str, said: str) -> str:
    """Return `said` up to the first character behind `begun` that is no space."""
    rest = said[len(begun) :]
    return begun + rest[: len(rest) - len(rest.lstrip()) + 1]


def deciding(choices: Sequence[str]) -> int:
    """Return the tokens after which one choice alone is left; what follows need not be said.

    No token is shorter than a byte, a server tells of whole characters only, and one token more
    ends a choice with which another begins.
    """
    return max((_until_parted(*pair) for pair in pairwise(sorted(choices))), default=1)


def _until_parted(one: str, other: str) -> int:
    """Return the bytes of what both begin with and of the longer of the characters that follow."""
    pairs = zip(one, other, strict=False)
    n = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    widths = (len(text[n : n + 1].encode()) for text in (one, other))
    return len(one[:n].encode()) + max(1, *widths)


def meant(choices: Sequence[str], said: str) -> str | None:
    """Return the choice that an answer is, or alone can become; None if it is unclear."""
    fits = [said] if said in choices else _starting(choices, said)
    return fits[0] if said and len(fits) == 1 else None


def _starting(choices: Sequence[str], text: str) -> list[str]:
    return [choice for choice in choices if choice.startswith(text)]


def _reached(alive: Sequence[str], said: str, tokens: Iterable[str]) -> dict[str, list[str]]:
    """Return the choices that each token leads to; one that fits none ends the answer."""
    wide = [choice for choice in alive if not choice[len(said) :].lstrip()[:1].isascii()]
    found = {token: _starting(alive, said + token) if token else wide for token in tokens}
    longest = {
        choice: max((t for t in found if choice in found[t]), key=len, default="")
        for choice in alive
    }
    ended = [said] if said in alive else []
    return {
        token: [choice for choice in fits if longest[choice] == token] or fits or ended
        for token, fits in found.items()
    }


@dataclass(frozen=True)
class Branch:
    """A place in the tree of choices where more than one token may follow."""

    prefix: tuple[int, ...]
    following: tuple[int, ...]
    rivals: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """Tokens that only begin what is left of some choices, or end one as well as its own end does,
    and the numbers of those choices."""


class Vocabulary:
    """The tokens of a model, by which a constraint on texts lets an answer go on."""

    def __init__(self, tokens: Mapping[str, int], ends: Sequence[int] = ()) -> None:
        """Take each token's text, as the tokenizer stores it, and its number.

        `ends` are those that end an answer as well as the one that stands at a sequence's end.
        """
        self.ends = ends
        self._numbers = tokens
        self._texts = {number: text for text, number in tokens.items()}

    def beginnings(self, rests: Sequence[Sequence[int]]) -> dict[int, tuple[int, ...]]:
        """Return the tokens that begin the text of some of `rests`, and the places of those.

        A server lets `melanoma` begin with `m`, too, though it is not spelt so.
        """
        found: dict[int, list[int]] = {}
        for place, rest in enumerate(rests):
            text = "".join(self._texts.get(token, "") for token in rest)
            for end in range(1, len(text) + 1):
                token = self._numbers.get(text[:end])
                if token is not None:
                    found.setdefault(token, []).append(place)
        return {token: tuple(places) for token, places in found.items()}


_NONE = Vocabulary({})


def branches(sequences: Sequence[Sequence[int]], vocabulary: Vocabulary = _NONE) -> list[Branch]:
    """Return the places where token sequences part, the root first.

    Each sequence ends with the token that ends an answer, so that none is the start of another.
    """
    passing: dict[tuple[int, ...], list[int]] = {}
    for number, sequence in enumerate(sequences):
        for place in range(len(sequence)):
            passing.setdefault(tuple(sequence[:place]), []).append(number)
    found = [
        _branch(
            prefix, [(number, sequences[number][len(prefix) :]) for number in numbers], vocabulary
        )
        for prefix, numbers in passing.items()
    ]
    return sorted((b for b in found if len(b.following) > 1), key=lambda b: len(b.prefix))


def _branch(
    prefix: tuple[int, ...], rests: Sequence[tuple[int, Sequence[int]]], vocabulary: Vocabulary
) -> Branch:
    following = tuple(dict.fromkeys(rest[0] for _, rest in rests))
    begun = vocabulary.beginnings([rest[:-1] for _, rest in rests])
    rivals = {
        token: tuple(rests[place][0] for place in places)
        for token, places in begun.items()
        if token not in following
    }
    ended = [number for number, rest in rests if len(rest) == 1]
    return Branch(prefix, following, rivals | {end: (n,) for n in ended for end in vocabulary.ends})


def weigh(
    sequences: Sequence[Sequence[int]],
    tree: Sequence[Branch],
    chances: Mapping[tuple[int, ...], Mapping[int, float]],
) -> list[float]:
    """Return the probability of each sequence from those at every branch; they sum to 1.

    What goes to a rival token is shared evenly by the choices it may lead to.
    """
    out = [_along(sequence, chances) for sequence in sequences]
    for branch in tree:
        reached = _along(branch.prefix, chances)
        for token, numbers in branch.rivals.items():
            for number in numbers:
                out[number] += reached * chances[branch.prefix][token] / len(numbers)
    return out


def _along(tokens: Sequence[int], chances: Mapping[tuple[int, ...], Mapping[int, float]]) -> float:
    chance = 1.0
    for place, token in enumerate(tokens):
        chance *= chances.get(tuple(tokens[:place]), {token: 1.0})[token]
    return chance
