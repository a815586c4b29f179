"""A Question is one of a visual question answering set, a Report one text on an examination."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from PIL import Image

from gsco.datasets.record import Split
from gsco.datasets.row import Row
from gsco.datasets.splits import divide

Form = Literal["closed", "open"]


@dataclass(frozen=True)
class Cell:
    """An image inside a table: one row of a Parquet file."""

    file: Path
    row: int
    content: bytes = field(repr=False)
    """The encoded image, as PNG or JPEG."""


@dataclass(frozen=True)
class Question:
    """One question on one image."""

    id: str
    """Unique in the set."""
    image: Path | Cell
    question: str
    answer: str
    """The reference answer; for a choice the text of the right option."""
    options: tuple[str, ...]
    """What can be chosen, in order; empty where nothing is offered."""
    kind: Form
    """Closed: yes, no or a choice; open: free words."""
    split: Split
    patient: str | None = None
    """Pseudonym of the patient or case; None if unknown."""
    by_image: Split | None = None
    """The split of another division that shares no image; None if the files tell of none."""

    def open(self) -> Image.Image:
        """Return the image in RGB.

        Raises:
            SpecialistError: it is no image, or one that would have to be guessed.
        """
        from specialists.images import decode

        return decode(self.image.content if isinstance(self.image, Cell) else self.image)

    @property
    def place(self) -> str:
        """Name the image: questions on one image have the same, also where rows hold copies."""
        if isinstance(self.image, Cell):
            return hashlib.sha256(self.image.content).hexdigest()
        return str(self.image)


@dataclass(frozen=True)
class Report:
    """One report on the images of an examination."""

    id: str
    images: tuple[Path, ...]
    """In the order of the set; two views in IU X-ray."""
    report: str
    split: Split
    patient: str | None = None

    def open(self) -> tuple[Image.Image, ...]:
        """Return the images in RGB.

        Raises:
            SpecialistError: one is no image, or one that would have to be guessed.
        """
        from specialists.images import decode

        return tuple(decode(image) for image in self.images)


@dataclass(frozen=True)
class Questions:
    """A visual question answering set."""

    name: str
    questions: tuple[Question, ...]
    notes: tuple[str, ...] = ()

    def split(self, name: Split) -> list[Question]:
        """Return the questions of one split, in the order of the data."""
        return [question for question in self.questions if question.split == name]


@dataclass(frozen=True)
class Reports:
    """A set of reports."""

    name: str
    reports: tuple[Report, ...]
    notes: tuple[str, ...] = ()

    def split(self, name: Split) -> list[Report]:
        """Return the reports of one split, in the order of the data."""
        return [report for report in self.reports if report.split == name]


def split_by_image(questions: Sequence[Question]) -> tuple[Question, ...]:
    """Give the questions splits with a patient's and an image's on one side.

    Where the files tell of such splits they are taken, else they are cut (70/10/20).
    """
    told = tuple(replace(q, split=q.by_image) for q in questions if q.by_image)
    if len(told) == len(questions):
        return told
    places = [q.place for q in questions]
    rows = {
        place: Row(place, place, Path(place), (), None, q.patient or place)
        for place, q in zip(places, questions, strict=True)
    }
    split = {row.id: row.split for row in divide(list(rows.values()), {}).rows}
    return tuple(
        replace(q, split=split[place] or q.split)
        for place, q in zip(places, questions, strict=True)
    )
