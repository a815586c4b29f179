"""A diagnosis in plain sentences, composed from its evidence: nothing is invented.

Small models write badly, and large ones write what sounds right. What stands here can be checked
line by line against the fields of the `Diagnosis` that it was made from.
"""

from collections import Counter
from collections.abc import Sequence

from gsco.case import Diagnosis

REDUCED = "image reduced to"
"""Under which a diagnosis' provenance holds the size in pixels, if the image was made smaller."""
WEIGHT = "generalist's weight"
"""Under which it holds how the generalist's own reading is weighed in `gsco-fused`."""
MARK = "Composed from the evidence, not written by a model."
Answer = str | tuple[str, ...] | None


def explanation(made: Diagnosis) -> str:
    """Return what was said, by whom, and where they differ; it ends with `MARK`."""
    if made.answer is None:
        first = f"No answer: {'; '.join(failure.reason for failure in made.failures)}"
        return f"{first} {MARK}"
    parts = (
        *(_answer(made), _specialists(made), _neighbours(made), _generalist(made), _domain(made)),
        *(_learnt(made), _size(made)),
    )
    return " ".join([*filter(None, parts), MARK])


def is_unheard(made: Diagnosis) -> bool:
    """Whether the generalist's reading stands beside an answer in which it weighs nothing."""
    return made.provenance.get(WEIGHT) == "0"


def _answer(made: Diagnosis) -> str:
    if isinstance(made.answer, tuple):
        found = listed([f"{label} ({made.probabilities[label]:.0%})" for label in made.answer])
        return f"The answer is {found or 'that no label holds'}."
    said = f"The answer is {made.answer} ({made.probabilities[str(made.answer)]:.0%})"
    others = [label for label in made.prediction_set or () if label != made.answer]
    if others:
        return f"{said}; {listed(others)} cannot be excluded at {made.coverage:.0%} coverage."
    return f"{said}."


def _specialists(made: Diagnosis) -> str:
    if not made.opinions:
        return ""
    agree = [o for o in made.opinions if _same(o.answers, made.answer)]
    against = [o for o in made.opinions if not _same(o.answers, made.answer)]
    count = len(made.opinions)
    if not against:
        who = {1: "The specialist says", 2: "Both specialists say"}
        return f"{who.get(count, f'All {count} specialists say')} so."
    told = [f"{o.specialist} says {listed(o.answers) or 'no label'}" for o in against]
    return f"{len(agree)} of {count} specialists say so; {listed(told)}."


def _neighbours(made: Diagnosis) -> str:
    if not made.neighbours:
        return ""
    count = len(made.neighbours)
    alike = sum(_same(neighbour.labels, made.answer) for neighbour in made.neighbours)
    if alike == count:
        return f"All {count} most similar cases are labelled so."
    verb = "is" if alike == 1 else "are"
    said = f"Of the {count} most similar cases {alike or 'none'} {verb} labelled so"
    rest = Counter(
        " and ".join(neighbour.labels) or "no label"
        for neighbour in made.neighbours
        if not _same(neighbour.labels, made.answer)
    )
    others = [f"{number} {label}" for label, number in rest.most_common()]
    return f"{said}; {listed(others)}."


def _generalist(made: Diagnosis) -> str:
    said = _read(made)
    if not said or not is_unheard(made):
        return said
    return f"{said} That weighs nothing: validation does not show that it helps."


def _read(made: Diagnosis) -> str:
    if made.reading is None:
        return ""
    shown, read = made.reading.probabilities, made.reading.answer
    if isinstance(made.answer, tuple) and shown:
        holds = tuple(label for label, chance in shown.items() if chance > 0.5)
        if _same(holds, made.answer):
            return f"The generalist {made.reading.model} reads the same."
        return f"The generalist {made.reading.model} reads {listed(holds) or 'no label'} instead."
    if read is None:
        return ""
    sure = f" ({shown[read]:.0%})" if read in shown else ""
    if _same((read,), made.answer):
        return f"The generalist {made.reading.model} reads the same{sure}."
    return f"The generalist {made.reading.model} reads {read}{sure} instead."


def _domain(made: Diagnosis) -> str:
    if made.in_domain is not False:
        return ""
    return "But the image lies outside what the specialists know."


def _learnt(made: Diagnosis) -> str:
    if not made.dropped_neighbours:
        return ""
    return (
        "The training cases hold this image, one much like it, or one of the same patient: "
        "what was learnt from them is no independent evidence."
    )


def _size(made: Diagnosis) -> str:
    seen = made.provenance.get(REDUCED)
    return f"Specialists and index saw it at {seen} pixels, as those they learnt." if seen else ""


def _same(labels: Sequence[str], answer: Answer) -> bool:
    return set(labels) == (set(answer) if isinstance(answer, tuple) else {answer})


def listed(words: Sequence[str]) -> str:
    """Join words as a sentence does."""
    return ", ".join([*words[:-2], " and ".join(words[-2:])]) if words else ""
