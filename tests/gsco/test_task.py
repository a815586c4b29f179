"""Tasks and their cards."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gsco.errors import DataError, UsageError
from gsco.task import (
    Label,
    Task,
    builtin_tasks,
    card_from_labels,
    load_card,
    task_from_toml,
    task_named,
    validate,
)

CARD = """
id = "spots"
title = "Spots"
kind = "single"
modality = "photograph"
stem = "You are given a photograph."
[[labels]]
text = "dark spot"
synonyms = ["dark_dot"]
code = "DS"
[[labels]]
text = "no spot"
"""


@pytest.mark.parametrize(
    ("task", "said", "label"),
    [
        ("pneumonia-cxr", "NORMAL", "normal"),
        ("pneumonia-cxr-3", "bacteria", "bacterial pneumonia"),
        ("pneumonia-cxr-3", "virus", "viral pneumonia"),
        ("breast-ultrasound", "normal_or_benign", "normal or benign"),
        ("breast-ultrasound", "normal, benign", "normal or benign"),
        ("breast-ultrasound", "benign", "normal or benign"),
        ("breast-ultrasound-3", "benign", "benign"),
        ("brain-mri", "no", "no tumour"),
        ("brain-mri", "notumor", "no tumour"),
        ("brain-mri", "no_tumor", "no tumour"),
        ("brain-mri", "Pituitary-Tumor", "pituitary tumour"),
        ("brain-mri", "meningioma_tumor", "meningioma"),
        ("dermoscopy", "nv", "melanocytic nevus"),
        ("dermoscopy", "AKIEC", "actinic keratosis or intraepithelial carcinoma"),
        ("modality", "AbdomenCT", "abdominal CT"),
        ("modality", "chest x ray", "chest X-ray"),
        ("white-cells", "neutrophil", "neutrophil"),
        ("white-cells", "nv", None),
        ("white-cells", "", None),
    ],
)
def test_a_label_is_found_by_text_synonym_or_code(task: str, said: str, label: str | None) -> None:
    assert task_named(task).resolve(said) == label


def test_the_shipped_cards_are_the_eight_of_the_readme_and_keep_medmnist_order() -> None:
    assert set(builtin_tasks()) == {
        "pneumonia-cxr",
        "pneumonia-cxr-3",
        "breast-ultrasound",
        "breast-ultrasound-3",
        "brain-mri",
        "dermoscopy",
        "white-cells",
        "modality",
    }
    assert task_named("pneumonia-cxr").texts == ("normal", "pneumonia")
    assert task_named("breast-ultrasound").texts == ("malignant", "normal or benign")
    codes = [label.code for label in task_named("dermoscopy").labels]
    assert codes == ["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"]


@pytest.mark.parametrize("task", builtin_tasks().values(), ids=lambda task: task.id)
def test_a_card_survives_writing_and_reading(task: Task) -> None:
    assert task_from_toml(task.to_toml()) == task


def test_the_label_that_stands_alone_survives_too() -> None:
    task = replace(task_from_toml(CARD), kind="multi", no_finding="no spot")
    assert task_from_toml(task.to_toml()) == task


def test_an_unknown_task_names_the_closest() -> None:
    with pytest.raises(UsageError, match=r"Unknown task 'brain-mir'\. Did you mean 'brain-mri'\?"):
        task_named("brain-mir")


def test_a_workspace_card_goes_before_a_shipped_one() -> None:
    own = task_from_toml(CARD)
    assert task_named("spots", {"spots": own}) is own
    assert task_named("brain-mri", {"brain-mri": own}) is own


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('id = "spots"', 'id = "../Spots"', "'../Spots' cannot name a folder"),
        ('id = "spots"', "", "missing 1 required"),
        ('kind = "single"', 'kind = "singel"', "Did you mean 'single'"),
        ('[[labels]]\ntext = "no spot"', "", "fewer than two labels"),
        ('text = "no spot"', 'text = "Dark-Spot"', "twice"),
        ('text = "no spot"', 'text = "no spot"\ncode = "dark dot"', "names two labels"),
        ('text = "no spot"', 'code = "x"', "label without 'text'"),
        ('text = "no spot"', "text = 3", "has 3 where words belong"),
        ('text = "no spot"', 'text = ""', "has '' where words belong"),
        ('["dark_dot"]', '"dark_dot"', "'dark_dot' are not a list"),
        ('code = "DS"', 'kode = "DS"', "unknown field 'kode'"),
        ('title = "Spots"', 'title = "Spots', "cannot be read"),
        ('title = "Spots"', 'titel = "Spots"', "unexpected keyword argument 'titel'"),
        (
            'title = "Spots"',
            'title = "Spots"\nno_finding = "all well"',
            "'all well' is not a label",
        ),
    ],
)
def test_a_bad_card_says_what_to_edit(old: str, new: str, message: str) -> None:
    assert old in CARD
    with pytest.raises(UsageError) as error:
        task_from_toml(CARD.replace(old, new))
    assert message in str(error.value)


def test_validate_checks_tasks_made_in_code() -> None:
    task = Task("t", "T", "single", (Label("a"), Label("A")), "photograph", "Look.")
    with pytest.raises(UsageError, match="twice"):
        validate(task)


@pytest.mark.parametrize(("labels", "read"), [(("<b", "< b"), "'< b'"), (("spot", "\u200b"), "''")])
def test_labels_that_read_alike_in_a_prompt_are_refused(labels: tuple[str, ...], read: str) -> None:
    task = Task("t", "T", "single", tuple(map(Label, labels)), "photograph", "Look.")
    with pytest.raises(UsageError, match=f"reads {read}.*use plain words"):
        validate(task)


def test_the_label_of_no_finding_may_be_named_by_any_of_its_names() -> None:
    text = CARD.replace('title = "Spots"', 'title = "Spots"\nno_finding = "DARK_DOT"')
    task = task_from_toml(text)
    assert task.no_finding in task.texts


def test_a_card_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'none\.toml' cannot be read: No such file"):
        load_card(tmp_path / "none.toml")
    (tmp_path / "old.toml").write_bytes(b'id = "caf\xe9"')
    with pytest.raises(UsageError, match="Save it as UTF-8"):
        load_card(tmp_path / "old.toml")
    (tmp_path / "good.toml").write_text(CARD, encoding="utf-8")
    assert load_card(tmp_path / "good.toml").id == "spots"


def test_labels_without_a_card_become_readable() -> None:
    task = card_from_labels("spots", ["dark_spot", "pale"])
    assert task.texts == ("dark spot", "pale")
    assert task.resolve("dark_spot") == "dark spot"
    assert task.modality == "medical image"
    assert task.stem == "Your task is disease diagnosis. You are given a medical image."


@pytest.mark.parametrize("labels", [["a_b", "a b"], ["Normal", "normal"], ["a", "b", "a"]])
def test_labels_that_differ_only_in_spelling_are_refused(labels: list[str]) -> None:
    with pytest.raises(DataError, match="Use one spelling"):
        card_from_labels("spots", labels)


def test_tasks_load_without_heavy_libraries() -> None:
    code = (
        "import sys, gsco.task; gsco.task.builtin_tasks(); "
        "print(sorted({'numpy', 'torch', 'PIL', 'tomli_w'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
