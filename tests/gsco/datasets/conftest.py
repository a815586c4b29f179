"""Small data sets of drawn images; every image differs, so that only wanted twins are twins."""

import csv
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

COLUMNS = ("file", "split", "label", "patient_id")


def draw(file: Path, seed: int) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)
    return file


Write = Callable[..., Path]


@pytest.fixture
def write_manifest(tmp_path: Path) -> Write:
    """Return a function that writes a folder with the rows' images and a manifest."""

    def write(
        rows: Sequence[Sequence[str]],
        columns: Sequence[str] = COLUMNS,
        *,
        encoding: str = "utf-8",
        folder: str = "lesions",
    ) -> Path:
        root = tmp_path / folder
        for number in range(12):
            draw(root / "images" / f"{number}.png", number)
        with (root / "manifest.csv").open("w", newline="", encoding=encoding) as file:
            csv.writer(file).writerows([columns, *rows])
        return root

    return write


@pytest.fixture
def write_npz(tmp_path: Path) -> Write:
    """Return a function that writes a small MedMNIST file, with arrays replaced or left out."""

    def write(
        name: str = "breastmnist.npz", *, colour: bool = False, **replaced: np.ndarray | None
    ) -> Path:
        random = np.random.default_rng(0)
        arrays: dict[str, np.ndarray] = {}
        for split, count in (("train", 8), ("val", 4), ("test", 4)):
            shape = (count, 28, 28, 3) if colour else (count, 28, 28)
            arrays[f"{split}_images"] = random.integers(0, 256, shape, dtype=np.uint8)
            arrays[f"{split}_labels"] = (np.arange(count, dtype=np.uint8) % 2)[:, None]
        arrays.update({key: value for key, value in replaced.items() if value is not None})
        for key in [key for key, value in replaced.items() if value is None]:
            del arrays[key]
        file = tmp_path / name
        np.savez_compressed(file, **arrays)
        return file

    return write


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real data sets, or skip."""
    if not (folder := os.environ.get("GSCO_DATA")):
        pytest.skip("GSCO_DATA does not name a folder of real data sets")
    return Path(folder)


@pytest.fixture
def write_folders(tmp_path: Path) -> Write:
    """Return a function that draws `count` images for each folder given."""

    def write(counts: dict[str, int], folder: str = "lesions") -> Path:
        root = tmp_path / folder
        seed = 100
        for name, count in counts.items():
            for number in range(count):
                draw(root / name / f"{number:03}.png", seed := seed + 1)
        return root

    return write
