"""A follow-up question: what is meant, and an answer composed from the evidence at hand.

Only a few kinds are understood by their words; every other question goes to the generalist.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gsco.case import Diagnosis
from gsco.explain import MARK, listed
from gsco.task import Task

Kind = Literal["why", "without", "similar", "compare", "ask"]
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
_WITHOUT = r"\b(wrong|without|ignor\w*|leav\w+ out|left out|exclud\w*|drop\w*|distrust\w*)\b"
_SIMILAR = r"\b(more|other|similar|show|list|which)\b.*\b(neighbou?rs?|cases)\b"
_COMPARE = r"\b(compar\w*|earlier|previous|prior|changed? since)\b"
_WHY = r"\b(why|how come|what speaks|reason)\b"


@dataclass(frozen=True)
class Follow:
    """What a follow-up question asks for."""

    kind: Kind
    about: str = ""
    """The label of a `why`, the piece of evidence of a `without`; empty if none is named."""


def understood(text: str, task: Task, parts: Sequence[str]) -> Follow:
    """Return what a question about a diagnosed case asks for.

    Args:
        text: in the user's words.
        task: whose labels and synonyms may be named.
        parts: what can be left out: `neighbours`, then the specialists in the order shown.
    """
    words = text.lower()
    if re.search(_COMPARE, words):
        return Follow("compare")
    if re.search(_WITHOUT, words) and (part := _part(words, parts)):
        return Follow("without", part)
    if re.search(_SIMILAR, words):
        return Follow("similar")
    if re.search(_WHY, words):
        return Follow("why", _label(words, task))
    return Follow("ask")


def _part(words: str, parts: Sequence[str]) -> str:
    neighbours, *specialists = parts
    named = [name for name in specialists if name.lower() in words]
    if named:
        return max(named, key=len)
    for place, name in enumerate(specialists, 1):
        ordinal = ORDINALS[place - 1] if place <= len(ORDINALS) else "no such"
        if re.search(rf"\b({ordinal}|{place}(st|nd|rd|th)?)\b", words):
            return name
    return neighbours if re.search(r"neighbou?rs?|cases|index", words) else ""


def _label(words: str, task: Task) -> str:
    """Return the label whose text or synonym is named; of several the longest name counts."""
    names = {
        name.lower(): label.text for label in task.labels for name in (label.text, *label.synonyms)
    }
    said = [name for name in names if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", words)]
    return names[max(said, key=len)] if said else ""


def why(made: Diagnosis, label: str) -> str:
    """Say what speaks for a label and what against it, from the diagnosis alone."""
    if made.answer is None:
        return made.explanation
    answers = made.answer if isinstance(made.answer, tuple) else (made.answer,)
    label = label or (answers[0] if answers else _likeliest(made))
    chance = made.probabilities[label]
    first = f"{label} gets {chance:.0%}"
    if label not in answers and answers:
        first += f", {answers[0]} {made.probabilities[answers[0]]:.0%}"
    parts = [f"{first}.", _excluded(made, label), *_specialists(made, label)]
    parts += [_neighbours(made, label), _generalist(made, label), MARK]
    return " ".join(filter(None, parts))


def _likeliest(made: Diagnosis) -> str:
    return max(made.probabilities, key=made.probabilities.__getitem__)


def _excluded(made: Diagnosis, label: str) -> str:
    if made.prediction_set is None:
        return ""
    can = "cannot" if label in made.prediction_set else "can"
    return f"At {made.coverage:.0%} coverage it {can} be excluded."


def _specialists(made: Diagnosis, label: str) -> list[str]:
    said = {
        opinion.specialist: dict(zip(opinion.labels, opinion.probabilities, strict=True)).get(label)
        for opinion in made.opinions
    }
    pro = [o.specialist for o in made.opinions if label in o.answers]
    con = [o.specialist for o in made.opinions if label not in o.answers]

    def told(names: list[str]) -> str:
        return listed([f"{name} ({said[name] or 0:.0%})" for name in names])

    out = [f"For it: {told(pro)}."] if pro else []
    return [*out, f"Against it: {told(con)}."] if con else out


def _neighbours(made: Diagnosis, label: str) -> str:
    if not made.neighbours:
        return ""
    alike = [n.similarity for n in made.neighbours if label in n.labels]
    count = len(made.neighbours)
    if not alike:
        return f"None of the {count} similar cases is labelled so."
    verb = "is" if len(alike) == 1 else "are"
    return (
        f"Of the {count} similar cases {len(alike)} {verb} labelled so, the most alike of them "
        f"with similarity {max(alike):.2f}."
    )


def _generalist(made: Diagnosis, label: str) -> str:
    shown = made.reading.probabilities if made.reading else {}
    return f"The generalist gives it {shown[label]:.0%}." if label in shown else ""


def lessened(part: str, before: Diagnosis, after: Diagnosis) -> str:
    """Say what becomes of the answer without one piece of evidence."""
    who = "the similar cases" if part == "neighbours" else part
    was, now = (_told(made) for made in (before, after))
    if before.answer == after.answer:
        return f"Without {who} the answer stays {now}; with it {was}. {MARK}"
    return f"Without {who} the answer would be {now} instead of {was}. {MARK}"


def compared(now: Diagnosis, earlier: Diagnosis, similarity: float) -> str:
    """Say how two images of one task differ."""
    moved = sorted(
        now.probabilities,
        key=lambda label: -abs(now.probabilities[label] - earlier.probabilities.get(label, 0)),
    )[:3]
    shifts = [
        f"{label} from {earlier.probabilities.get(label, 0):.0%} to {now.probabilities[label]:.0%}"
        for label in moved
    ]
    return (
        f"The earlier image: {_told(earlier)}. This one: {_told(now)}. {listed(shifts)}. "
        f"The two are alike with similarity {similarity:.2f}. Each was read by itself: what "
        f"changed in the patient is not measured. {MARK}"
    )


def _told(made: Diagnosis) -> str:
    if made.answer is None:
        return "no answer"
    if isinstance(made.answer, tuple):
        return listed(made.answer) or "no label"
    return f"{made.answer} ({made.probabilities[made.answer]:.0%})"
