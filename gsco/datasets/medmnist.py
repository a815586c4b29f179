"""MedMNIST files: arrays named `train_images`, `train_labels` and so on in one `.npz`.

They number their classes; the card's labels stand in that order. Without a card the official names
are used. Names and order: J. Yang et al., Scientific Data 10:41, 2023.
"""

import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gsco.datasets.record import SPLITS, NpzRow
from gsco.datasets.row import Found, Row
from gsco.errors import DataError
from gsco.task import Task

_ORGANS = (
    "bladder",
    "left femur",
    "right femur",
    "heart",
    "left kidney",
    "right kidney",
    "liver",
    "left lung",
    "right lung",
    "pancreas",
    "spleen",
)
OFFICIAL: Mapping[str, tuple[str, ...]] = {
    "pneumoniamnist": ("normal", "pneumonia"),
    "breastmnist": ("malignant", "normal or benign"),
    "pathmnist": (
        "adipose",
        "background",
        "debris",
        "lymphocytes",
        "mucus",
        "smooth muscle",
        "normal colon mucosa",
        "cancer-associated stroma",
        "colorectal adenocarcinoma epithelium",
    ),
    "chestmnist": (
        "atelectasis",
        "cardiomegaly",
        "effusion",
        "infiltration",
        "mass",
        "nodule",
        "pneumonia",
        "pneumothorax",
        "consolidation",
        "edema",
        "emphysema",
        "fibrosis",
        "pleural thickening",
        "hernia",
    ),
    "dermamnist": (
        "actinic keratosis or intraepithelial carcinoma",
        "basal cell carcinoma",
        "benign keratosis-like lesion",
        "dermatofibroma",
        "melanoma",
        "melanocytic nevus",
        "vascular lesion",
    ),
    "octmnist": ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    "bloodmnist": (
        "basophil",
        "eosinophil",
        "erythroblast",
        "immature granulocyte",
        "lymphocyte",
        "monocyte",
        "neutrophil",
        "platelet",
    ),
    "organamnist": _ORGANS,
    "organcmnist": _ORGANS,
    "organsmnist": _ORGANS,
    "organmnist3d": (
        "liver",
        "right kidney",
        "left kidney",
        "right femur",
        "left femur",
        "bladder",
        "heart",
        "right lung",
        "left lung",
        "spleen",
        "pancreas",
    ),
    "nodulemnist3d": ("benign", "malignant"),
    "adrenalmnist3d": ("normal", "hyperplasia"),
    "fracturemnist3d": (
        "buckle rib fracture",
        "nondisplaced rib fracture",
        "displaced rib fracture",
    ),
    "vesselmnist3d": ("vessel", "aneurysm"),
    "synapsemnist3d": ("inhibitory synapse", "excitatory synapse"),
}
"""Labels in the order of the files' class numbers."""


def load_arrays(file: Path) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of an `.npz` file by name.

    Raises:
        DataError: the file is missing, damaged, or holds pickled objects.
    """
    try:
        # Opened here: numpy leaves the file open when the archive is damaged.
        with file.open("rb") as opened:
            if not opened.read(4).startswith(b"PK"):
                raise DataError(f"{file.name!r} is no .npz file. Download or copy it again.")
            opened.seek(0)
            # Pickled objects could run code.
            with np.load(opened, allow_pickle=False) as archive:
                return {key: archive[key] for key in archive.files}
    except FileNotFoundError as error:
        raise DataError(f"There is no file {file.name!r}. Check the path.") from error
    except ValueError as error:
        raise DataError(
            f"{file.name!r} holds Python objects, or arrays that cannot be read. Objects are not "
            "loaded, as they could run code. Save it again from arrays of numbers."
        ) from error
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{file.name!r} is damaged or cut off ({error}). Download or copy it again."
        ) from error


def check_images(images: NDArray[np.generic], file: Path, key: str) -> NDArray[np.uint8]:
    """Return `images`, (N, H, W) or (N, H, W, 3) uint8; of volumes, (N, D, H, W), the middle slice.

    Raises:
        DataError: they are something else, such as floats.
    """
    if images.ndim not in (3, 4) or images.dtype != np.uint8:
        raise DataError(
            f"{file.name!r}: {key!r} is {images.dtype} of shape {images.shape}; images are uint8, "
            "(N, H, W) or (N, H, W, 3), volumes (N, D, H, W). Scale values to 0..255."
        )
    if _holds_volumes(images):
        images = images[:, images.shape[1] // 2]
    return np.asarray(images, dtype=np.uint8)


def _holds_volumes(images: NDArray[np.generic]) -> bool:
    return images.ndim == 4 and images.shape[-1] != 3


def read_npz(file: Path, task: Task | None) -> Found:
    """Read a MedMNIST file of any size (`breastmnist.npz`, `breastmnist_64.npz`).

    Raises:
        DataError: the file cannot be read, or its labels do not fit the card.
    """
    arrays = load_arrays(file)
    names = task.texts if task else _official_names(file)
    rows: list[Row] = []
    is_multi = has_volumes = False
    for split in SPLITS:
        key = f"{split}_images"
        if key not in arrays:
            continue
        has_volumes |= _holds_volumes(arrays[key])
        images = check_images(arrays[key], file, key)
        labels = _labels(arrays, file, split, len(images))
        is_multi |= labels.ndim == 2
        _check_range(labels, names, file, f"{split}_labels")
        for number in range(len(images)):
            said = (
                np.flatnonzero(labels[number]) if labels.ndim == 2 else labels[number : number + 1]
            )
            name = f"{file.name}#{key}[{number}]"
            source = NpzRow(file, key, number, images)
            rows.append(Row(name, name, source, tuple(names[i] for i in said), split))
    if not rows:
        raise DataError(
            f"{file.name!r} holds {sorted(arrays)!r}, not 'train_images' and 'train_labels'. "
            "Give a MedMNIST file, or a folder with a manifest.csv."
        )
    notes = ("The images are volumes; the middle slice stands for each.",) if has_volumes else ()
    return Found(tuple(rows), is_multi, names, notes=notes)


def _official_names(file: Path) -> tuple[str, ...]:
    stem = re.sub(r"_\d+$", "", file.stem.casefold())
    if stem not in OFFICIAL:
        raise DataError(
            f"{file.name!r} numbers its classes and does not name them. "
            "Give a task card whose labels stand in that order."
        )
    return OFFICIAL[stem]


def _labels(
    arrays: Mapping[str, NDArray[np.generic]], file: Path, split: str, count: int
) -> NDArray[np.int64]:
    key = f"{split}_labels"
    if key not in arrays:
        raise DataError(f"{file.name!r} has images but no {key!r}. Add the labels' array.")
    labels = arrays[key]
    if labels.dtype.kind not in "iub" or labels.ndim not in (1, 2) or len(labels) != count:
        raise DataError(
            f"{file.name!r}: {key!r} is {labels.dtype} of shape {labels.shape} for {count} images. "
            "Labels are whole numbers, (N,), (N, 1), or (N, L) of 0 and 1."
        )
    numbers = labels.astype(np.int64)
    return numbers[:, 0] if numbers.ndim == 2 and numbers.shape[1] == 1 else numbers


def _check_range(labels: NDArray[np.int64], names: tuple[str, ...], file: Path, key: str) -> None:
    if labels.ndim == 2 and (labels.shape[1] != len(names) or not np.isin(labels, (0, 1)).all()):
        raise DataError(
            f"{file.name!r}: {key!r} has {labels.shape[1]} columns, the card {len(names)} labels. "
            "Give a card with one label for each column of 0 and 1."
        )
    if labels.ndim == 1 and labels.size and not 0 <= labels.min() <= labels.max() < len(names):
        raise DataError(
            f"{file.name!r}: {key!r} holds the class numbers {labels.min()} to {labels.max()}, "
            f"but the card has {len(names)} labels. Give the card that belongs to the file."
        )
