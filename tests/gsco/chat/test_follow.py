"""Follow-up questions: what is meant by them, and answers that stand on the evidence alone."""

from dataclasses import replace

import pytest

from gsco.case import Diagnosis, Reading
from gsco.chat.follow import Follow, compared, lessened, understood, why
from gsco.task import Label, Task
from retrieval import Neighbour
from specialists import Opinion

TASK = Task(
    "breast",
    "Malignancy",
    "single",
    (Label("malignant", ("cancer",)), Label("normal or benign", ("benign", "normal"))),
    "breast ultrasound",
    "",
)
PARTS = ("neighbours", "lcnet", "resnet18")
LABELS = TASK.texts
MADE = Diagnosis(
    case="a",
    task="breast",
    system="stack",
    answer="normal or benign",
    probabilities={"malignant": 0.2, "normal or benign": 0.8},
    prediction_set=("normal or benign",),
    coverage=0.9,
    review=False,
    review_reasons=(),
    opinions=(Opinion("lcnet", LABELS, (0.7, 0.3)), Opinion("resnet18", LABELS, (0.1, 0.9))),
    neighbours=(
        Neighbour("1", ("malignant",), 0.81),
        Neighbour("2", ("normal or benign",), 0.9),
    ),
    reading=Reading(
        "normal or benign", {"malignant": 0.25, "normal or benign": 0.75}, "", "tiny", ""
    ),
)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("why not malignant?", Follow("why", "malignant")),
        ("Why not cancer?", Follow("why", "malignant")),
        ("why benign", Follow("why", "normal or benign")),
        ("Why?", Follow("why", "")),
        ("what if the second specialist is wrong?", Follow("without", "resnet18")),
        ("what if specialist 1 is wrong", Follow("without", "lcnet")),
        ("and without lcnet?", Follow("without", "lcnet")),
        ("ignore the similar cases", Follow("without", "neighbours")),
        ("show more neighbours", Follow("similar")),
        ("which cases are alike, list similar cases", Follow("similar")),
        ("compare with this earlier image", Follow("compare")),
        ("Is there a mass?", Follow("ask")),
        ("What is wrong with the patient?", Follow("ask")),
        ("what if the fifth specialist is wrong?", Follow("ask")),
    ],
)
def test_what_is_meant(text: str, meant: Follow) -> None:
    assert understood(text, TASK, PARTS) == meant


def test_why_not_says_what_speaks_for_and_against() -> None:
    said = why(MADE, "malignant")
    for part in (
        "malignant gets 20%, normal or benign 80%.",
        "At 90% coverage it can be excluded.",
        "For it: lcnet (70%).",
        "Against it: resnet18 (10%).",
        "Of the 2 similar cases 1 is labelled so, the most alike of them with similarity 0.81.",
        "The generalist gives it 25%.",
        "not written by a model",
    ):
        assert part in said
    assert why(MADE, "").startswith("normal or benign gets 80%. At 90% coverage it cannot")


def test_without_a_piece_says_whether_the_answer_stays() -> None:
    other = replace(
        MADE, answer="malignant", probabilities={"malignant": 0.6, "normal or benign": 0.4}
    )
    assert lessened("resnet18", MADE, other).startswith(
        "Without resnet18 the answer would be malignant (60%) instead of normal or benign (80%)."
    )
    assert "the answer stays" in lessened("neighbours", MADE, MADE)


def test_a_comparison_tells_the_shift_and_claims_no_more() -> None:
    before = replace(MADE, probabilities={"malignant": 0.5, "normal or benign": 0.5})
    said = compared(MADE, before, 0.92)
    assert "malignant from 50% to 20%" in said
    assert "similarity 0.92" in said
    assert "is not measured" in said
