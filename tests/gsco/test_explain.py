"""The explanation says what the fields say, and nothing else."""

from dataclasses import replace

import pytest

from gsco.case import Diagnosis, Failure, Reading
from gsco.explain import MARK, WEIGHT, explanation
from retrieval import Neighbour
from specialists import Opinion

LABELS = ("normal", "pneumonia", "effusion")


def opinion(name: str, label: str) -> Opinion:
    return Opinion(name, LABELS, tuple(0.8 if text == label else 0.1 for text in LABELS))


def reading(answer: str) -> Reading:
    shown = {text: 0.7 if text == answer else 0.15 for text in LABELS}
    return Reading(answer, shown, answer, "gsco-tiny", "")


WHOLE = Diagnosis(
    case="c",
    task="t",
    system="gsco-fused",
    answer="pneumonia",
    probabilities={"normal": 0.08, "pneumonia": 0.87, "effusion": 0.05},
    prediction_set=("pneumonia",),
    coverage=0.9,
    review=False,
    review_reasons=(),
    opinions=(opinion("a", "pneumonia"), opinion("b", "pneumonia")),
    neighbours=tuple(Neighbour(str(i), ("pneumonia",), 0.9) for i in range(4)),
    reading=reading("pneumonia"),
    in_domain=True,
)


def test_agreement_is_told_in_four_sentences() -> None:
    assert explanation(WHOLE) == (
        "The answer is pneumonia (87%). Both specialists say so. All 4 most similar cases are "
        f"labelled so. The generalist gsco-tiny reads the same (70%). {MARK}"
    )


def test_every_conflict_is_named() -> None:
    odd = tuple(Neighbour(str(i), (label,), 0.9) for i, label in enumerate(("normal", "effusion")))
    made = replace(
        WHOLE,
        prediction_set=("pneumonia", "normal", "effusion"),
        opinions=(opinion("a", "pneumonia"), opinion("b", "normal"), opinion("c", "effusion")),
        neighbours=(*odd, Neighbour("9", ("pneumonia",), 0.5)),
        reading=reading("normal"),
        in_domain=False,
    )
    assert explanation(made) == (
        "The answer is pneumonia (87%); normal and effusion cannot be excluded at 90% coverage. "
        "1 of 3 specialists say so; b says normal and c says effusion. "
        "Of the 3 most similar cases 1 is labelled so; 1 normal and 1 effusion. "
        "The generalist gsco-tiny reads normal (70%) instead. "
        f"But the image lies outside what the specialists know. {MARK}"
    )


def test_a_reading_without_probabilities_of_a_task_of_many_labels_is_compared_as_a_set() -> None:
    told = replace(reading("effusion"), probabilities={})
    made = replace(WHOLE, answer=("effusion",), reading=told)
    assert "reads the same." in explanation(made)


def test_a_reading_without_weight_is_told_to_be_so() -> None:
    made = replace(WHOLE, reading=reading("normal"))
    plain = "reads normal (70%) instead."
    told = f"{plain} That weighs nothing: validation does not show that it helps. {MARK}"
    assert explanation(replace(made, provenance={WEIGHT: "0"})).endswith(told)
    assert explanation(replace(made, provenance={WEIGHT: "0.004"})).endswith(f"{plain} {MARK}")
    assert "weighs" not in explanation(replace(made, reading=None, provenance={WEIGHT: "0"}))


def test_who_was_not_asked_is_not_mentioned() -> None:
    made = replace(WHOLE, opinions=(), neighbours=(), reading=None, prediction_set=None)
    assert explanation(made) == f"The answer is pneumonia (87%). {MARK}"
    alone = replace(made, opinions=WHOLE.opinions[:1])
    assert "The specialist says so." in explanation(alone)


def test_no_answer_is_told_with_its_reason() -> None:
    made = replace(WHOLE, answer=None, failures=(Failure("generalist", "No server answers."),))
    assert explanation(made) == f"No answer: No server answers. {MARK}"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (("pneumonia", "effusion"), "The answer is pneumonia (87%) and effusion (5%)."),
        ((), "The answer is that no label holds."),
    ],
)
def test_several_labels_are_listed(answer: tuple[str, ...], words: str) -> None:
    made = replace(WHOLE, answer=answer, prediction_set=None, opinions=(), neighbours=())
    assert explanation(made).startswith(words)
    assert "reads pneumonia instead" in explanation(made)
