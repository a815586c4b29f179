"""Folders of classes, with and without splits."""

from collections import Counter
from pathlib import Path

import pytest

from gsco.datasets import read_dataset
from gsco.errors import DataError
from gsco.task import task_named

TASK = task_named("breast-ultrasound-3")
THREE = {"benign": 30, "malignant": 20, "normal": 10}


def fails(folder: Path) -> str:
    with pytest.raises(DataError) as error:
        read_dataset(folder, TASK)
    return str(error.value)


def test_classes_without_splits_are_cut_by_hash_in_each_class(write_folders) -> None:
    folder = write_folders(THREE)
    dataset = read_dataset(folder, TASK)
    counts = {name: Counter(r.label for r in dataset.split(name)) for name in ("train", "val")}
    assert counts["train"] == {"benign": 21, "malignant": 14, "normal": 7}
    assert counts["val"] == {"benign": 3, "malignant": 2, "normal": 1}
    assert len(dataset.split("test")) == 12
    assert "train, val and test (70/10/20) were cut by image" in dataset.notes[0]
    assert read_dataset(folder, TASK) == dataset
    numbers = [int(r.id[-7:-4]) for r in dataset.split("val") if r.label == "benign"]
    assert max(numbers) - min(numbers) > 2


def test_folders_of_splits_keep_them_and_validation_is_cut(write_folders) -> None:
    counts = {f"Training/{name}": 20 for name in THREE} | {f"Testing/{name}": 4 for name in THREE}
    dataset = read_dataset(write_folders(counts), TASK)
    assert [len(dataset.split(name)) for name in ("train", "val", "test")] == [51, 9, 12]
    assert dataset.notes == (
        "There was no validation part; 15% of training was cut off by image: "
        "no patients are known.",
    )
    assert dataset.split("test")[0].id == "Testing/benign/000.png"


def test_identical_images_are_cut_to_one_side(write_folders) -> None:
    folder = write_folders(THREE)
    for number in range(10):
        content = (folder / f"benign/{number:03}.png").read_bytes()
        (folder / f"malignant/twin{number}.png").write_bytes(content)
    dataset = read_dataset(folder, TASK)
    splits = {record.id: record.split for record in dataset.records}
    assert all(splits[f"benign/{n:03}.png"] == splits[f"malignant/twin{n}.png"] for n in range(10))
    assert any(note.startswith("10 identical images carry different") for note in dataset.notes)


def test_other_files_are_skipped_and_counted(write_folders) -> None:
    folder = write_folders(THREE)
    (folder / "benign/Thumbs.db").write_bytes(b"x")
    (folder / ".cache").mkdir()
    dataset = read_dataset(folder, TASK)
    assert dataset.notes[0] == "1 files in class folders are no images and were skipped."
    assert len(dataset.records) == 60


def test_a_class_folder_without_images_is_named(write_folders) -> None:
    folder = write_folders(THREE)
    (folder / "normal").rename(folder / "empty")
    for file in (folder / "empty").iterdir():
        file.unlink()
    assert "Class folder 'empty' holds no image" in fails(folder)


def test_a_folder_that_is_no_class_of_the_card_is_named(write_folders) -> None:
    message = fails(write_folders({**THREE, "masks": 2}))
    assert "masks/000.png: label 'masks' is not in card 'breast-ultrasound-3'" in message


def test_an_empty_folder_says_what_a_data_set_is(tmp_path: Path) -> None:
    message = fails(tmp_path)
    assert "holds no data set" in message
    assert "manifest.csv" in message


def test_columns_need_a_manifest(write_folders) -> None:
    with pytest.raises(DataError, match=r"has no manifest\.csv, so no columns"):
        read_dataset(write_folders(THREE), TASK, label_column="sublabel")


def test_splits_are_never_taken_for_classes(write_folders) -> None:
    folder = write_folders({"train": 5, "test": 5})
    with pytest.raises(DataError, match="holds no data set"):
        read_dataset(folder)
