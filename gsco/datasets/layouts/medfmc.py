"""MedFMC (colon, chest, endo): lists of file names with numbers, and a table for the test part."""

import re
from collections.abc import Mapping
from pathlib import Path

from gsco.datasets.card import DataCard, task_of
from gsco.datasets.layouts.laid import Draft, Laid, absent, is_yes, lay, need, pictures, seek
from gsco.datasets.record import Split
from gsco.datasets.row import Row
from gsco.datasets.table import decode, read_bytes, read_table
from gsco.task import Task

# Names of the colon part hold blanks: only numbers after the ending are labels.
_LINE = re.compile(r"(?P<file>.+\.\w+?)(?:\s+(?P<numbers>[01](?:[\s,]+[01])*))?")
_PATIENTS = {
    # Some names begin with a date, which names nobody.
    "colon": re.compile(r"(?P<patient>\d{4}[-_]\d{4,})"),
    "endo": re.compile(r"(?P<patient>.+)_[^_]+"),
}
_LISTS: tuple[tuple[Split, str], ...] = (
    ("train", "trainval.txt"),
    ("test", "test_WithoutLabel.txt"),
)


def read_medfmc(folder: Path, card: DataCard) -> Laid[Row]:
    """Read the part that the card names; the publication's test part gets its labels from a table.

    Raises:
        DataError: a list or the images are missing.
    """
    task = task_of(card)
    images = pictures(_image_folders(folder, card))
    table = _table(folder, card, task)
    drafts: list[Draft] = []
    problems: list[str] = []
    for split, name in _LISTS:
        text = decode(read_bytes(need(folder, card, f"{card.part}/{name}", name)), name)
        for number, line in enumerate(text.splitlines(), 1):
            found = _LINE.fullmatch(line.strip())
            if not line.strip():
                continue
            where = f"{name} line {number}"
            labels = _labels(found["numbers"], task) if found and found["numbers"] else None
            stem = Path(found["file"]).stem if found else line.strip()
            labels = labels if labels is not None else table.get(stem)
            if labels is None:
                problems.append(f"{where}: {stem!r} has no label; add '{card.part}_val.csv'")
                continue
            drafts.append(Draft(where, stem, labels, split, _patient(card, stem)))
    others = [
        Path(f).stem
        for f in _names(seek(folder, f"{card.part}/test_WithLabel.txt", "test_WithLabel.txt"))
    ]
    laid = lay(folder, drafts, images, others)
    return Laid(laid.items, (*problems, *laid.problems), laid.unlisted)


def _image_folders(folder: Path, card: DataCard) -> list[Path]:
    """Return the folders of images: one in the repository's tree, one a part in the challenge's."""
    found = [
        place
        for level in ("", "*/", "*/*/")
        for name in ("images", "image")
        for place in sorted(folder.glob(level + name))
        if place.parent == folder or place.parent.name == card.part
    ]
    if not found:
        raise absent(folder, card, "'images'")
    return found


def _labels(numbers: str, task: Task) -> tuple[str, ...] | None:
    """Return the labels that numbers name; None if there are too few or too many."""
    marks = re.split(r"[\s,]+", numbers)
    if task.kind == "single":
        return (task.texts[int(marks[0])],) if len(marks) == 1 else None
    texts = [text for text in task.texts if text != task.no_finding]
    if len(marks) != len(texts):
        return None
    return tuple(text for text, mark in zip(texts, marks, strict=True) if mark == "1")


def _table(folder: Path, card: DataCard, task: Task) -> Mapping[str, tuple[str, ...]]:
    """Return the labels of the published table by image, if it is there."""
    file = seek(folder, f"{card.part}_val.csv")
    if file is None:
        return {}
    table = read_table(file, ("img_id",))
    columns = [name for name in table.columns if task.resolve(name)]
    if not columns:
        return {}
    found: dict[str, tuple[str, ...]] = {}
    for line in table.lines:
        yes = tuple(name for name in columns if is_yes(line.cells.get(name)))
        # One column of two says the other class by its zero.
        other = () if task.kind == "multi" else (task.texts[0],)
        found[Path(line.cells["img_id"]).stem] = yes or other
    return found


def _names(file: Path | None) -> list[str]:
    if file is None:
        return []
    lines = decode(read_bytes(file), file.name).splitlines()
    return [found["file"] for line in lines if (found := _LINE.fullmatch(line.strip()))]


def _patient(card: DataCard, stem: str) -> str | None:
    pattern = _PATIENTS.get(card.part or "")
    found = pattern.match(stem) if pattern else None
    return found["patient"] if found else None
