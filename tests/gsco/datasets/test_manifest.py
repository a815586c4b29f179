"""Folders with a manifest.csv, good and bad."""

from pathlib import Path

import numpy as np
import pytest

from gsco.datasets import NpzRow, read_dataset
from gsco.errors import DataError
from gsco.task import Label, Task, task_named

COLUMNS = ("file", "split", "label", "patient_id")


@pytest.fixture
def rows() -> list[list[str]]:
    return [
        [f"images/{n}.png", ("train", "val", "test")[n // 4], ("benign", "malignant")[n % 2], ""]
        for n in range(12)
    ]


TASK = task_named("breast-ultrasound")
MULTI = Task(
    "findings",
    "Findings",
    "multi",
    (Label("mass"), Label("cyst"), Label("no finding")),
    "breast ultrasound",
    "Look.",
    no_finding="no finding",
)


def fails(folder: Path, task: Task | None = TASK, **options: object) -> str:
    with pytest.raises(DataError) as error:
        read_dataset(folder, task, **options)  # type: ignore[arg-type]  # table of cases
    return str(error.value)


def test_records_carry_card_texts_splits_and_rgb_images(write_manifest, rows) -> None:
    dataset = read_dataset(write_manifest(rows), TASK)
    assert dataset.name == "lesions"
    assert [len(dataset.split(name)) for name in ("train", "val", "test")] == [4, 4, 4]
    first = dataset.split("train")[0]
    assert (first.id, first.label, first.patient) == ("images/0.png", "normal or benign", None)
    assert (first.open().mode, first.open().size) == ("RGB", (10, 12))
    assert dataset.notes == ()


def test_a_blank_patient_is_unknown_and_never_shared(write_manifest, rows) -> None:
    for row in rows:
        row[3] = "  "
    assert {record.patient for record in read_dataset(write_manifest(rows), TASK).records} == {None}


def test_a_column_may_hold_what_was_written_of_an_image(write_manifest, rows) -> None:
    told = [[*row, "Clear.\nNo mass." if n == 0 else " "] for n, row in enumerate(rows)]
    records = read_dataset(write_manifest(told, (*COLUMNS, "report")), TASK).records
    assert {r.report for r in records} == {"Clear.\nNo mass.", None}


def test_without_a_card_one_is_made_of_the_labels(write_manifest, rows) -> None:
    rows = [[a, b, c.replace("benign", "quite_benign"), d] for a, b, c, d in rows]
    dataset = read_dataset(write_manifest(rows, folder="My Lesions_2"))
    assert dataset.task.id == "my-lesions-2"
    assert dataset.task.texts == ("malignant", "quite benign")
    assert dataset.records[0].label == "quite benign"


def test_the_mark_that_spreadsheets_write_first_is_tolerated(write_manifest, rows) -> None:
    folder = write_manifest(rows, encoding="utf-8-sig")
    assert len(read_dataset(folder, TASK).records) == 12


def test_another_encoding_names_the_line(write_manifest, rows) -> None:
    folder = write_manifest(
        [*rows, ["images/0.png", "train", "gutartig für", ""]], encoding="cp1252"
    )
    message = fails(folder)
    assert "not UTF-8: line 14" in message
    assert "Save it as UTF-8" in message


def test_utf_16_is_named_too(write_manifest, rows) -> None:
    assert "not UTF-8: line 1 " in fails(write_manifest(rows, encoding="utf-16"))


@pytest.mark.parametrize("missing", ["file", "label"])
def test_a_missing_column_lists_those_that_are_there(write_manifest, rows, missing: str) -> None:
    columns = ["other" if column == missing else column for column in COLUMNS]
    message = fails(write_manifest(rows, columns))
    assert f"has no column {missing!r}; its columns are" in message
    assert "'other'" in message


def test_another_column_can_hold_labels_and_splits(write_manifest, rows) -> None:
    table = [[*row, "test" if row[1] == "train" else "train", "malignant"] for row in rows]
    table[0][5] = table[5][5] = "benign"
    folder = write_manifest(table, (*COLUMNS, "alt", "second"))
    dataset = read_dataset(folder, TASK, split_column="alt", label_column="second")
    assert len(dataset.split("test")) == 4
    assert dataset.records[0].label == "normal or benign"
    assert dataset.records[2].label == "malignant"


def test_a_column_asked_for_must_be_there(write_manifest, rows) -> None:
    folder = write_manifest(rows)
    assert "no column 'alt_split'" in fails(folder, split_column="alt_split")
    assert "no column 'sublabel'" in fails(folder, label_column="sublabel")


def test_semicolons_get_a_hint(write_manifest, rows) -> None:
    folder = write_manifest(rows)
    manifest = folder / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(",", ";"))
    assert "Part the columns by commas" in fails(folder)


def test_a_column_that_stands_twice_is_refused(write_manifest, rows) -> None:
    assert "column 'label' twice" in fails(
        write_manifest(rows, ("file", "split", "label", "label"))
    )


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (0, "", "line 3: file is blank"),
        (0, "images/gone.png", "line 3: there is no file 'images/gone.png'"),
        (0, "images\\1.png", "write paths with /"),
        (0, "../outside.png", "line 3: file '../outside.png' lies outside of the folder"),
        (0, "/etc/hosts", "line 3: file '/etc/hosts' lies outside of the folder"),
        (0, "images/0.png", "line 3: file 'images/0.png' stands on line 2 already"),
        (1, "trian", "line 3: split 'trian' of 'images/1.png' is not one of train, val, test"),
        (1, "", "line 3: split '' of"),
        (2, "", "line 3: label of 'images/1.png' is blank"),
        (2, "benign|", "line 3: label of 'images/1.png' is blank"),
        (2, "cyst", "line 3: label 'cyst' is not in card 'breast-ultrasound'"),
    ],
)
def test_a_wrong_row_is_named_by_its_line(
    write_manifest, rows, tmp_path: Path, column: int, value: str, message: str
) -> None:
    (tmp_path / "outside.png").write_bytes(b"")
    rows[1][column] = value
    assert message in fails(write_manifest(rows))


def test_a_link_out_of_the_folder_is_refused(write_manifest, rows, tmp_path: Path) -> None:
    folder = write_manifest(rows)
    secret = tmp_path / "secret.png"
    (folder / "images/1.png").replace(secret)
    (folder / "images/1.png").symlink_to(secret)
    assert "lies outside of the folder" in fails(folder)


def test_a_comma_without_quotes_does_not_shift_columns(write_manifest, rows) -> None:
    folder = write_manifest(rows)
    manifest = folder / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("val,benign,", "val,normal, benign,", 1))
    assert "line 6: 5 cells for 4 columns" in fails(folder)


def test_five_problems_are_listed_and_the_rest_counted(write_manifest, rows) -> None:
    for row in rows[:8]:
        row[2] = "cyst"
    message = fails(write_manifest(rows))
    assert message.count("line ") == 5
    assert "8 problem(s)" in message
    assert "and 3 more" in message
    assert "'malignant', 'normal or benign'" in message


def test_a_manifest_without_rows_is_refused(write_manifest) -> None:
    assert "lists no image" in fails(write_manifest([]))


def test_an_empty_manifest_is_refused(write_manifest) -> None:
    folder = write_manifest([])
    (folder / "manifest.csv").write_text("")
    assert "has no column 'file'; its columns are none" in fails(folder)


def test_several_labels_are_parted_by_a_bar_and_put_in_card_order(write_manifest, rows) -> None:
    words = ["cyst | mass", "no finding", "mass", "cyst"] * 3
    table = [[a, b, word, d] for (a, b, _, d), word in zip(rows, words, strict=True)]
    dataset = read_dataset(write_manifest(table), MULTI)
    assert [r.label for r in dataset.split("train")] == [
        ("mass", "cyst"),
        ("no finding",),
        ("mass",),
        ("cyst",),
    ]


def test_no_finding_stands_only_alone(write_manifest, rows) -> None:
    rows[0][2] = "mass|no finding"
    for row in rows[1:]:
        row[2] = "cyst"
    assert "line 2: label 'no finding' stands only alone" in fails(write_manifest(rows), MULTI)


def test_several_labels_need_a_card_of_their_kind(write_manifest, rows) -> None:
    rows[0][2] = "benign|malignant"
    folder = write_manifest(rows)
    assert "of kind 'single'" in fails(folder)
    assert read_dataset(folder).task.kind == "multi"


def test_a_manifest_may_name_rows_of_an_npz_file(write_manifest, write_npz, tmp_path: Path) -> None:
    write_npz()
    table = [
        [f"breastmnist.npz#{split}_images[{n}]", split, ("benign", "malignant")[n % 2], ""]
        for split in ("train", "val", "test")
        for n in range(4)
    ]
    folder = write_manifest(table)
    (tmp_path / "breastmnist.npz").replace(folder / "breastmnist.npz")
    record = read_dataset(folder, TASK).split("test")[1]
    assert isinstance(record.source, NpzRow)
    with np.load(folder / "breastmnist.npz") as arrays:
        grey = np.asarray(record.open())[..., 0]
        assert (grey == arrays["test_images"][1]).all()
    table[0][0] = "breastmnist.npz#train_images[8]"
    write_manifest(table)
    assert "line 2: 'breastmnist.npz' has no train_images[8]" in fails(folder)
