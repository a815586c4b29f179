"""The images that gsco-tiny learns from: only sets whose licence lets weights be shipped."""

import csv
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from gsco.errors import DataError
from gsco.task import Label, Task, task_named
from retrieval import fingerprint
from specialists.images import decode, resize

if TYPE_CHECKING:
    from torch import Tensor

Split = Literal["train", "val"]

MODALITY = Task(
    id="modality-tiny",
    title="Kind of picture",
    kind="single",
    labels=tuple(
        Label(text)
        for text in (
            "chest X-ray",
            "breast ultrasound",
            "brain MRI",
            "blood smear",
            "fundus photograph",
            "microscopy of cell nuclei",
        )
    ),
    modality="medical image",
    stem="Your task is to name the kind of examination. You are given a medical image.",
)


@dataclass(frozen=True)
class Source:
    """One folder of images, and the label of each of its classes."""

    folder: str
    labels: Mapping[str, str] | str
    """Label of the manifest to label of the task, or one label for all."""


_BRAIN = {
    "glioma": "glioma",
    "meningioma": "meningioma",
    "pituitary": "pituitary tumour",
    "no": "no tumour",
}
_TWO = {"malignant": "malignant", "benign": "normal or benign", "normal": "normal or benign"}
_THREE = {"malignant": "malignant", "benign": "benign", "normal": "normal"}

SOURCES: Mapping[str, tuple[Source, ...]] = {
    "pneumonia-cxr": (Source("cxr_pneumonia", {"normal": "normal", "pneumonia": "pneumonia"}),),
    "breast-ultrasound": (Source("busi_breast_us", _TWO),),
    "breast-ultrasound-3": (Source("busi_breast_us", _THREE),),
    "brain-mri": (Source("brain_tumor_mri", _BRAIN),),
    MODALITY.id: (
        Source("cxr_pneumonia", "chest X-ray"),
        Source("busi_breast_us", "breast ultrasound"),
        Source("brain_tumor_mri", "brain MRI"),
        Source("bccd_blood_cells", "blood smear"),
        Source("fundus_chasedb1", "fundus photograph"),
        Source("dsb2018_nuclei", "microscopy of cell nuclei"),
    ),
}
"""Task to its sources. None forbids shipping: CC BY 4.0, MIT and CC0."""


@dataclass(frozen=True)
class Examples:
    """One task's images of one split."""

    task: Task
    rows: "Tensor"
    """(n,) rows of the pixels."""
    targets: "Tensor"
    """(n,) numbers of the task's labels."""
    fresh: "Tensor"
    """(n,) whether an image is kept for learning to weigh: no earlier stage may see it, since
    evidence beside an image that is known by heart would not be needed."""


@dataclass(frozen=True)
class Pictures:
    """Every image once, and what each task makes of it."""

    pixels: "Tensor"
    """(N, 3, S, S) uint8."""
    tasks: tuple[Examples, ...]


def tasks() -> tuple[Task, ...]:
    """Return the tasks that gsco-tiny learns."""
    return tuple(MODALITY if name == MODALITY.id else task_named(name) for name in SOURCES)


def load_pictures(root: Path, split: Split, size: int) -> Pictures:
    """Read the images of `split`; rows of other splits are never opened.

    Raises:
        DataError: a folder or a label is missing.
    """
    import torch

    folders = sorted({source.folder for sources in SOURCES.values() for source in sources})
    manifests = {folder: _manifest(root / folder, split) for folder in folders}
    starts: dict[str, int] = {}
    pixels: list[NDArray[np.uint8]] = []
    for folder, manifest in manifests.items():
        starts[folder] = len(pixels)
        pixels += [resize(decode(root / folder / row["file"]), size) for row in manifest]
    examples = [_examples(task, manifests, starts) for task in tasks()]
    return Pictures(torch.from_numpy(np.stack(pixels)), tuple(examples))


def learnt(root: Path) -> Iterator[str]:
    """Yield the content hash of every image that `load_pictures` reads for training."""
    for folder in sorted({source.folder for sources in SOURCES.values() for source in sources}):
        for row in _manifest(root / folder, "train"):
            yield fingerprint(decode(root / folder / row["file"])).content_hash


def _examples(
    task: Task,
    manifests: Mapping[str, Sequence[Mapping[str, str]]],
    starts: Mapping[str, int],
) -> Examples:
    import torch

    rows, targets, fresh = [], [], []
    for source in SOURCES[task.id]:
        for number, row in enumerate(manifests[source.folder]):
            label = source.labels if isinstance(source.labels, str) else source.labels[row["label"]]
            rows.append(starts[source.folder] + number)
            targets.append(task.texts.index(label))
            fresh.append(_is_fresh(row.get("patient_id") or row["file"]))
    return Examples(task, torch.tensor(rows), torch.tensor(targets), torch.tensor(fresh))


def _is_fresh(patient: str) -> bool:
    """Keep a quarter of the patients."""
    return hashlib.sha256(patient.encode()).digest()[0] < 64


def _manifest(folder: Path, split: str) -> list[dict[str, str]]:
    path = folder / "manifest.csv"
    if not path.is_file():
        raise DataError(f"No {str(path)!r}. Give the folder that holds the data sets as --data.")
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["split"] == split]
