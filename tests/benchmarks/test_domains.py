"""The move to native size: small images find the native ones that they were made from."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from benchmarks.domains import twins
from gsco.datasets import Dataset, Record, read_dataset
from gsco.task import task_named


def dataset(folder: Path, images: list[Image.Image]) -> Dataset:
    folder.mkdir()
    records = []
    for number, image in enumerate(images):
        path = folder / f"{number}.png"
        image.save(path)
        records.append(Record(f"{folder.name}/{number}", path, "malignant", "train"))
    return Dataset(folder.name, task_named("breast-ultrasound"), tuple(records), "", "")


def test_a_small_image_finds_the_one_it_was_made_from_and_no_other(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    natives = [
        Image.fromarray(generator.integers(0, 255, (9, 14), dtype=np.uint8)).resize((210, 140))
        for _ in range(6)
    ]
    small = [ImageOps.fit(one, (28, 28), Image.Resampling.BICUBIC) for one in natives[:4]]
    found = twins(dataset(tmp_path / "small", small[::-1]), dataset(tmp_path / "native", natives))
    assert {name: one.id for name, one in found.items()} == {
        f"native/{number}": f"small/{3 - number}" for number in range(4)
    }


def test_no_image_asked_about_at_native_size_was_learnt_small(data_root: Path) -> None:
    task = task_named("breast-ultrasound")
    small = read_dataset(data_root / "breastmnist", task)
    native = read_dataset(data_root / "busi_breast_us", task)
    pairs = twins(small, native)
    records = {record.id: record for record in native.records}
    assert len(pairs) > 0.8 * len(records)
    assert all(records[name].labels == one.labels for name, one in pairs.items())
    learnt = np.stack([pixels(one) for one in small.records if one.split != "test"])
    for name, one in pairs.items():
        if one.split == "test":
            far = np.abs(learnt - pixels(records[name])).mean(axis=1)
            assert far.min() > 2


def pixels(record: Record) -> np.ndarray:
    """Return an image's middle square as (784,) grey values."""
    square = ImageOps.fit(record.open().convert("L"), (28, 28), Image.Resampling.BICUBIC)
    return np.asarray(square, dtype=float).ravel()
