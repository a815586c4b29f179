"""The VinDr sets of PhysioNet: DICOM images and tables of what readers marked."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from gsco.datasets.card import DataCard, task_of
from gsco.datasets.layouts.laid import Draft, Laid, absent, is_yes, join, lay, need, pictures
from gsco.datasets.record import Split
from gsco.datasets.row import Row, split_named
from gsco.datasets.table import Table, read_table

_PARTS: tuple[Split, Split] = ("train", "test")


def read_spinexr(folder: Path, card: DataCard) -> Laid[Row]:
    """Read VinDr-SpineXR: an image has every lesion type that a box on it names.

    Raises:
        DataError: a table or a folder of images is missing.
    """
    parts = []
    for split in _PARTS:
        name = f"annotations/{split}.csv"
        table = read_table(need(folder, card, name), ("study_id", "image_id", "lesion_type"))
        marks = _Marks()
        for line in table.lines:
            cells = line.cells
            marks.add(cells["image_id"], line.number, [cells["lesion_type"]], cells["study_id"])
        images = pictures([need(folder, card, f"{split}_images")])
        parts.append(lay(folder, marks.drafts(table, split), images))
    return join(parts)


def read_pcxr(folder: Path, card: DataCard) -> Laid[Row]:
    """Read VinDr-PCXR: one column a class. Classes that the card has not are left out.

    Raises:
        DataError: a table or a folder of images is missing.
    """
    task = task_of(card)
    parts = []
    for split in _PARTS:
        table = read_table(need(folder, card, f"image_labels_{split}.csv"), ("image_id",))
        classes = [c for c in table.columns if c not in ("image_id", "rad_ID", "rad_id")]
        inside = [name for name in classes if task.resolve(name)]
        marks, empty, every = _Marks(), 0, []
        for line in table.lines:
            image = line.cells["image_id"]
            every.append(image)
            found = [name for name in inside if is_yes(line.cells.get(name))]
            empty += not found
            if found:
                marks.add(image, line.number, found, None)
        images = pictures([_images(folder, card, split)])
        part = lay(folder, marks.drafts(table, split), images, every)
        left = ", ".join(name for name in classes if name not in inside)
        note = f"{empty} images of {split} were left out: they have none of the labels but {left}."
        notes = (note,) if empty else ()
        parts.append(Laid(part.items, part.problems, part.unlisted, notes, {split: empty}))
    return join(parts)


def _images(folder: Path, card: DataCard, split: Split) -> Path:
    # A folder called `train` is looked for only here: elsewhere it could be anything.
    if not (folder / split).is_dir():
        raise absent(folder, card, repr(split))
    return folder / split


def read_mammo(folder: Path, card: DataCard) -> Laid[Row]:
    """Read VinDr-Mammo: the BI-RADS assessment of the breast that an image shows.

    Raises:
        DataError: the table or the folder of images is missing.
    """
    columns = ("study_id", "image_id", "breast_birads", "split")
    table = read_table(need(folder, card, "breast-level_annotations.csv"), columns)
    drafts = [
        Draft(
            f"{table.name} line {line.number}",
            line.cells["image_id"],
            (line.cells["breast_birads"],),
            split_named(line.cells["split"]),
            line.cells["study_id"],
        )
        for line in table.lines
    ]
    return lay(folder, drafts, pictures([need(folder, card, "images")]))


class _Marks:
    """What readers marked on each image, over all its lines."""

    def __init__(self) -> None:
        self._labels: dict[str, dict[str, None]] = defaultdict(dict)
        self._first: dict[str, tuple[int, str | None]] = {}

    def add(self, image: str, line: int, labels: Iterable[str], patient: str | None) -> None:
        """Add what one line says."""
        self._labels[image].update(dict.fromkeys(labels))
        self._first.setdefault(image, (line, patient))

    def drafts(self, table: Table, split: Split) -> list[Draft]:
        """Return one draft an image, with the union of its labels."""
        return [
            Draft(f"{table.name} line {line}", image, tuple(self._labels[image]), split, patient)
            for image, (line, patient) in self._first.items()
        ]
