"""What holds for every data set: splits stay apart, scarce classes are told, facts are kept."""

import shutil
from pathlib import Path

import pytest

from gsco.datasets import read_dataset
from gsco.errors import DataError
from gsco.task import task_named

TASK = task_named("breast-ultrasound")
THREE = task_named("breast-ultrasound-3")


@pytest.fixture
def rows() -> list[list[str]]:
    return [
        [f"images/{n}.png", ("train", "val", "test")[n // 4], ("benign", "malignant")[n % 2], ""]
        for n in range(12)
    ]


def fails(folder: Path, task=TASK, **options) -> str:
    with pytest.raises(DataError) as error:
        read_dataset(folder, task, **options)
    return str(error.value)


def test_one_patient_in_train_and_test_is_an_error_whatever_is_allowed(
    write_manifest, rows
) -> None:
    rows[0][3] = rows[9][3] = "P07"
    rows[1][3] = rows[2][3] = "P08"
    for allow_overlap in (False, True):
        message = fails(write_manifest(rows), allow_overlap=allow_overlap)
        assert "two images of one patient stand in two splits, for 1 patient(s)" in message
        assert "'P07': images/0.png in train, images/9.png in test" in message
        assert "P08" not in message
        assert "Move all images of a patient into one split" in message


def test_identical_files_in_two_splits_are_an_error_unless_allowed(write_manifest, rows) -> None:
    folder = write_manifest(rows)
    # No other file has this size.
    (folder / "images/0.png").write_bytes((folder / "images/0.png").read_bytes() + bytes(999))
    shutil.copy(folder / "images/0.png", folder / "images/8.png")
    message = fails(folder)
    assert "1 identical image(s) in two splits" in message
    assert "images/0.png in train, images/8.png in test" in message
    assert "--allow-overlap" in message
    dataset = read_dataset(folder, TASK, allow_overlap=True)
    assert len(dataset.records) == 12
    assert "1 images stand in two splits, as allowed" in dataset.notes[0]


def test_identical_files_in_one_split_are_no_error(write_manifest, rows) -> None:
    folder = write_manifest(rows)
    shutil.copy(folder / "images/0.png", folder / "images/2.png")
    assert len(read_dataset(folder, TASK).records) == 12


def test_validation_is_cut_out_of_training_by_patient(write_manifest, rows) -> None:
    for number, row in enumerate(rows):
        row[1] = "test" if number > 9 else "train"
        row[3] = f"P{number // 2}"
    dataset = read_dataset(write_manifest(rows), TASK)
    train = {record.patient for record in dataset.split("train")}
    val = {record.patient for record in dataset.split("val")}
    assert val
    assert not train & val
    assert "with a patient's images kept together" in dataset.notes[0]


def test_a_manifest_without_splits_is_cut_with_a_note(write_manifest, rows) -> None:
    table = [[row[0], row[2], f"P{number // 3}"] for number, row in enumerate(rows)]
    dataset = read_dataset(write_manifest(table, ("file", "label", "patient_id")), TASK)
    assert dataset.notes[0].startswith("The data have no splits")
    sides = {(record.patient, record.split) for record in dataset.records}
    assert len(sides) == 4


def test_one_class_alone_is_an_error_with_or_without_a_card(write_manifest, rows) -> None:
    for row in rows:
        row[2] = "benign"
    folder = write_manifest(rows)
    assert "one class only: ['normal or benign']" in fails(folder)
    assert "one class only: ['benign']" in fails(folder, None)


def test_a_class_without_training_cases_is_an_error(write_manifest, rows) -> None:
    rows[11][2] = "normal"
    message = fails(write_manifest(rows), THREE)
    assert "no training image of 'normal'" in message
    assert "'breast-ultrasound-3'" in message


def test_scarce_classes_are_notes(write_manifest, rows) -> None:
    rows[3][2] = "normal"
    dataset = read_dataset(write_manifest(rows), THREE)
    assert dataset.notes == (
        "Only one training case of: malignant, normal.",
        "No validation case of: normal. Calibration cannot see it.",
    )


def test_data_without_training_cases_can_be_measured_on(write_manifest, rows) -> None:
    for row in rows:
        row[1] = "test"
    dataset = read_dataset(write_manifest(rows), THREE)
    assert "not trained on" in dataset.notes[-1]
    assert len(dataset.split("test")) == 12


def test_the_fingerprint_follows_files_labels_and_splits(write_manifest, rows) -> None:
    folder = write_manifest(rows)
    first = read_dataset(folder, TASK).fingerprint
    assert read_dataset(folder, TASK).fingerprint == first
    copy = folder.with_name("elsewhere")
    shutil.copytree(folder, copy)
    assert read_dataset(copy, TASK).fingerprint == first
    changed = {first}
    rows[0][2] = "malignant"
    changed.add(read_dataset(write_manifest(rows), TASK).fingerprint)
    rows[4][1] = "train"
    changed.add(read_dataset(write_manifest(rows), TASK).fingerprint)
    for size in (998, 999):
        (folder / "images/5.png").write_bytes(bytes(size))
        changed.add(read_dataset(folder, TASK).fingerprint)
    assert len(changed) == 5


def test_the_fingerprint_follows_the_labels_of_the_card(write_manifest, rows) -> None:
    folder = write_manifest(rows)
    by_card = {read_dataset(folder, task).fingerprint for task in (TASK, None)}
    assert len(by_card) == 2


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        (
            "# Set\n- Licence: **CC BY 4.0** (stated).\n- Licence evidence: seen.",
            "CC BY 4.0 (stated).",
        ),
        ("License: MIT\n", "MIT"),
        ("**Licence:** CC0\n", "CC0"),
        ("- Licence evidence: none\n", None),
    ],
)
def test_the_licence_is_read_from_source_md(write_manifest, rows, text: str, licence) -> None:
    folder = write_manifest(rows)
    (folder / "SOURCE.md").write_text(text, encoding="utf-8")
    assert read_dataset(folder, TASK).licence == licence


REAL = [
    ("pneumoniamnist", "pneumonia-cxr", {}, (4698, 524, 624)),
    ("pneumoniamnist/pneumoniamnist.npz", "pneumonia-cxr", {}, (4698, 524, 624)),
    ("breastmnist", "breast-ultrasound", {}, (545, 78, 156)),
    ("breastmnist/breastmnist.npz", "breast-ultrasound", {"allow_overlap": True}, (546, 78, 156)),
    ("cxr_pneumonia", "pneumonia-cxr", {}, (1081, 205, 390)),
    ("cxr_pneumonia", "pneumonia-cxr-3", {"label_column": "sublabel"}, (1081, 205, 390)),
    ("busi_breast_us", "breast-ultrasound", {}, (461, 124, 192)),
    ("busi_breast_us", "breast-ultrasound-3", {}, (461, 124, 192)),
    ("brain_tumor_mri", "brain-mri", {}, (1411, 183, 391)),
    ("brain_tumor_mri", "brain-mri", {"split_column": "alt_split"}, (1376, 239, 370)),
    ("dermoscopy_ham10000", "dermoscopy", {}, (786, 212, 316)),
    ("wbc_seg", "white-cells", {}, (243, 62, 94)),
    ("medical_mnist_router", "modality", {}, (1414, 343, 599)),
]


@pytest.mark.parametrize(("name", "task", "options", "sizes"), REAL)
def test_real_data_sets_are_read_with_their_cards(
    real_data: Path, name: str, task: str, options: dict, sizes: tuple[int, ...]
) -> None:
    if not (real_data / name).exists():
        pytest.skip(f"GSCO_DATA has no {name}")
    dataset = read_dataset(real_data / name, task_named(task), **options)
    assert tuple(len(dataset.split(split)) for split in ("train", "val", "test")) == sizes
    assert dataset.licence
    for record in dataset.records[::97]:
        assert record.open().mode == "RGB"


def test_the_rare_white_cell_is_a_note_not_an_error(real_data: Path) -> None:
    dataset = read_dataset(real_data / "wbc_seg", task_named("white-cells"))
    assert dataset.notes == ("No validation case of: basophil. Calibration cannot see it.",)


def test_a_real_set_of_positives_only_is_refused(real_data: Path) -> None:
    assert "one class only: ['covid19']" in fails(real_data / "cxr_covid_hannover", None)
