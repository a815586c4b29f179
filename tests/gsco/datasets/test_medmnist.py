"""MedMNIST files of every shape, and files that are none."""

from pathlib import Path

import numpy as np
import pytest

from gsco.datasets import read_dataset
from gsco.errors import DataError
from gsco.task import Label, Task, task_named

TASK = task_named("breast-ultrasound")


def fails(file: Path, task: Task | None = TASK) -> str:
    with pytest.raises(DataError) as error:
        read_dataset(file, task)
    return str(error.value)


@pytest.mark.parametrize("colour", [False, True])
def test_grey_and_colour_become_rgb_and_numbers_follow_the_card(write_npz, colour: bool) -> None:
    dataset = read_dataset(write_npz(colour=colour), TASK)
    assert [len(dataset.split(name)) for name in ("train", "val", "test")] == [8, 4, 4]
    assert [r.label for r in dataset.split("val")] == ["malignant", "normal or benign"] * 2
    image = dataset.split("train")[3].open()
    assert (image.mode, image.size) == ("RGB", (28, 28))


def test_flat_labels_and_larger_sizes_and_folders_are_read(write_npz, tmp_path: Path) -> None:
    file = write_npz("breastmnist_64.npz", train_labels=np.array([1, 0] * 4))
    for place in (file, tmp_path):
        dataset = read_dataset(place)
        assert dataset.task.texts == ("malignant", "normal or benign")
        assert dataset.split("train")[0].label == "normal or benign"


def test_two_files_in_a_folder_must_be_chosen_from(write_npz, tmp_path: Path) -> None:
    write_npz("breastmnist.npz")
    write_npz("breastmnist_64.npz")
    assert "breastmnist.npz, breastmnist_64.npz. Name the one" in fails(tmp_path)


def test_columns_of_zero_and_one_are_several_labels(write_npz) -> None:
    task = Task("t", "T", "multi", tuple(map(Label, "abc")), "photograph", "Look.")
    columns = {
        f"{split}_labels": np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0], [0, 0, 1]] * times)
        for split, times in (("train", 2), ("val", 1), ("test", 1))
    }
    file = write_npz("own.npz", **columns)
    labels = [record.label for record in read_dataset(file, task).split("val")]
    assert labels == [("a", "c"), ("b",), (), ("c",)]
    assert "of kind 'single'" in fails(file, Task(**{**vars(task), "kind": "single"}))
    assert "3 columns, the card 2 labels" in fails(file, TASK)


def test_unknown_numbers_need_a_card(write_npz) -> None:
    assert "Give a task card whose labels stand in that order" in fails(write_npz("own.npz"), None)


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"train_labels": np.array([2] * 8)}, "class numbers 2 to 2, but the card has 2 labels"),
        ({"train_labels": np.array([-1] * 8)}, "class numbers -1 to -1"),
        ({"train_labels": np.array([0.5] * 8)}, "is float64 of shape (8,) for 8 images"),
        ({"train_labels": np.array([0, 1] * 3)}, "of shape (6,) for 8 images"),
        ({"train_labels": None}, "images but no 'train_labels'"),
        ({"train_images": np.zeros((8, 28, 28))}, "'train_images' is float64"),
        ({"train_images": np.zeros((8, 28), np.uint8)}, "volumes (N, D, H, W)"),
        ({"train_images": np.array([{}] * 8)}, "holds Python objects"),
        (
            {"train_images": None, "val_images": None, "test_images": None},
            "not 'train_images' and 'train_labels'",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_named(write_npz, replaced: dict, message: str) -> None:
    assert message in fails(write_npz(**replaced))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:500], "is damaged or cut off"),
        (lambda data: data[:9000] + bytes(100) + data[9100:], "is damaged or cut off"),
        (lambda data: b"", "is no .npz file"),
        (lambda data: b"<html>not found</html>", "is no .npz file"),
    ],
)
def test_a_damaged_file_is_named(write_npz, change, message: str) -> None:
    file = write_npz()
    file.write_bytes(change(file.read_bytes()))
    assert f"'breastmnist.npz' {message}" in fails(file)


def test_a_damaged_stream_of_compressed_pixels_is_named(write_npz) -> None:
    file = write_npz(
        train_images=np.tile(np.arange(196, dtype=np.uint8), (8, 4)).reshape(8, 28, 28)
    )
    data = bytearray(file.read_bytes())
    data[120:180] = b"\xff" * 60
    file.write_bytes(data)
    assert "'breastmnist.npz' is damaged or cut off" in fails(file)


def test_a_file_that_is_no_data_set_is_named(tmp_path: Path) -> None:
    assert "no folder or file 'gone.npz'" in fails(tmp_path / "gone.npz")
    (tmp_path / "notes.txt").write_text("x")
    assert "'notes.txt' is not a data set" in fails(tmp_path / "notes.txt")
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    assert "'one.npz' is no .npz file" in fails(tmp_path / "one.npz")


def test_the_training_copy_of_a_test_image_is_dropped_with_a_note(write_npz) -> None:
    file = write_npz()
    with np.load(file) as archive:
        arrays = dict(archive)
    arrays["train_images"][2] = arrays["test_images"][0]
    arrays["val_images"][0] = arrays["test_images"][1]
    arrays["train_images"][5] = arrays["test_images"][1]
    np.savez(file, **arrays)
    dataset = read_dataset(file, TASK)
    assert [len(dataset.split(name)) for name in ("train", "val", "test")] == [6, 3, 4]
    assert "breastmnist.npz#train_images[2]" not in {record.id for record in dataset.records}
    assert dataset.notes[-1].startswith("Cases were dropped (2 from train, 1 from val)")
    kept = read_dataset(file, TASK, allow_overlap=True)
    assert len(kept.records) == 16
    assert "2 images stand in two splits, as allowed" in kept.notes[-1]


def test_twins_with_different_labels_are_noted(write_npz) -> None:
    file = write_npz()
    with np.load(file) as archive:
        arrays = dict(archive)
    arrays["train_images"][1] = arrays["train_images"][0]
    np.savez(file, **arrays)
    note = read_dataset(file, TASK).notes[0]
    assert note.startswith("1 identical images carry different labels")
    assert "train_images[0] (malignant)" in note


def test_the_middle_slice_stands_for_a_volume(write_npz) -> None:
    random = np.random.default_rng(5)
    volumes = {
        f"{split}_images": random.integers(0, 256, (count, 28, 28, 28), dtype=np.uint8)
        for split, count in (("train", 8), ("val", 4), ("test", 4))
    }
    dataset = read_dataset(write_npz("nodulemnist3d.npz", **volumes))
    assert dataset.task.texts == ("benign", "malignant")
    assert "The images are volumes; the middle slice stands for each." in dataset.notes
    shown = np.asarray(dataset.split("val")[1].open())[..., 0]
    assert (shown == volumes["val_images"][1, 14]).all()
