import pytest

from gsco.answers import parse
from gsco.task import Label, Task

CHEST = ("normal", "pneumonia")
MIXED = ("no", "no tumour", "normal, benign", "benign", "Bowen's disease", "macular_edema", "edema")


def task(kind: str = "single") -> Task:
    return Task(
        id="chest",
        title="Chest",
        kind=kind,  # type: ignore[arg-type]  # the test chooses
        labels=(Label("No finding"), Label("edema", ("oedema",)), Label("effusion, left")),
        modality="chest X-ray",
        stem="Look.",
        no_finding="No finding",
    )


@pytest.mark.parametrize(
    ("text", "options", "labels"),
    [
        ("pneumonia", CHEST, ("pneumonia",)),
        ('  "Pneumonia". ', CHEST, ("pneumonia",)),
        ("The image shows PNEUMONIA.", CHEST, ("pneumonia",)),
        ("abnormal", CHEST, None),
        ("normal or pneumonia", CHEST, None),
        ("It is not pneumonia", CHEST, None),
        ("not pneumonia but normal", CHEST, ("normal",)),
        ("", CHEST, None),
        ("I cannot tell", CHEST, None),
        ("No tumour is seen", MIXED, ("no tumour",)),
        ("no", MIXED, ("no",)),
        ("normal, benign", MIXED, ("normal, benign",)),
        ("benign", MIXED, ("benign",)),
        ("“Bowen’s disease”", MIXED, ("Bowen's disease",)),
        ("macular edema", MIXED, ("macular_edema",)),
        ("Macular_Edema\n", MIXED, ("macular_edema",)),
        ("edema", MIXED, ("edema",)),
        ("anything", (), None),
    ],
)
def test_an_answer_is_the_longest_option_that_the_text_names(
    text: str, options: tuple[str, ...], labels: tuple[str, ...] | None
) -> None:
    assert parse(text, options) == labels


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("B", ("pneumonia",)),
        ("b.", ("pneumonia",)),
        ("(A)", ("normal",)),
        ("B. normal", ("pneumonia",)),
        ("The answer is B", ("pneumonia",)),
        ("A normal heart", ("normal",)),
        ("A pneumonia", ("pneumonia",)),
        ("Z", None),
        ("A, B", None),
        ("pneumonia", ("pneumonia",)),
    ],
)
def test_a_letter_stands_for_the_option_at_its_place(
    text: str, labels: tuple[str, ...] | None
) -> None:
    assert parse(text, CHEST, lettered=True) == labels


def test_a_letter_is_no_answer_where_labels_are_asked() -> None:
    assert parse("B", CHEST) is None


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ('"edema", "effusion, left"', ("edema", "effusion, left")),
        ("effusion, left; oedema", ("edema", "effusion, left")),
        ("No finding", ("No finding",)),
        ("No finding, edema", ("edema",)),
        ("nothing", None),
    ],
)
def test_a_multi_label_answer_keeps_every_option_and_no_finding_only_alone(
    text: str, labels: tuple[str, ...] | None
) -> None:
    assert parse(text, task("multi")) == labels


def test_letters_may_be_a_list_where_many_labels_may_hold() -> None:
    assert parse("A and B", CHEST, lettered=True, multi=True) == CHEST


def test_a_synonym_names_its_label() -> None:
    assert parse("oedema", task()) == ("edema",)
