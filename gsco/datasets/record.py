"""A Record is one labelled image of a data set; a Dataset holds them with what was found out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gsco.task import Task

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True, slots=True)
class NpzRow:
    """One image inside a MedMNIST file."""

    file: Path
    """The `.npz` file."""
    key: str
    """The array's name, for example `train_images`."""
    row: int
    """Its row in the array, from 0."""
    images: NDArray[np.uint8] = field(repr=False, compare=False)
    """The whole array, (N, H, W) or (N, H, W, 3) uint8, which stays in memory once for all rows."""

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """This image's pixels, (H, W) or (H, W, 3): a view."""
        return np.asarray(self.images[self.row])


@dataclass(frozen=True, slots=True)
class Record:
    """One labelled image."""

    id: str
    """Its name within the data set: the file relative to the folder, or `file.npz#key[row]`."""
    source: Path | NpzRow
    """Where the pixels are."""
    label: str | tuple[str, ...]
    """The card's label text; a tuple, perhaps empty, in multi-label tasks."""
    split: Split
    patient: str | None = None
    """Pseudonym of the patient; None if unknown."""
    report: str | None = None
    """What was written of the image, for the prompts of reports; None if the data do not tell."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The label or labels, always as a tuple."""
        return (self.label,) if isinstance(self.label, str) else self.label

    def open(self) -> Image.Image:
        """Return the image in RGB.

        Raises:
            SpecialistError: the file is no image, or one that would have to be guessed.
        """
        from specialists.images import decode

        if isinstance(self.source, NpzRow):
            return decode(Image.fromarray(self.source.pixels))
        return decode(self.source)


@dataclass(frozen=True)
class Dataset:
    """Records in three splits that share no patient and, unless allowed, no image."""

    name: str
    """Name of the folder or file."""
    task: Task
    """The card given, or one made of the labels found."""
    records: tuple[Record, ...]
    fingerprint: str
    """SHA-256 of file names, sizes, labels and splits: changes when they do."""
    licence: str | None = None
    """What SOURCE.md says after `Licence:`; None if it does not."""
    credit: str | None = None
    """Whom to name beside an image: what SOURCE.md says after `Source:`; None if it does not."""
    notes: tuple[str, ...] = ()
    """What a person should know: what was cut, dropped or is scarce, in sentences."""
    columns: tuple[str, str] = ("label", "split")
    """The manifest's columns that labels and splits were read from."""

    def split(self, name: Split) -> list[Record]:
        """Return the records of one split, in the order of the data."""
        return [record for record in self.records if record.split == name]


def targets_of(records: Sequence[Record], task: Task) -> NDArray[np.int64]:
    """Return (N,) class numbers, or (N, C) zeros and ones for a multi-label task."""
    if task.kind == "multi":
        rows = [[text in record.labels for text in task.texts] for record in records]
        return np.array(rows, dtype=np.int64)
    return np.array([task.texts.index(record.labels[0]) for record in records], dtype=np.int64)
