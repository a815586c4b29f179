"""Reading a data set as it is published: its card says how its files are laid out.

    dataset = read_known("ham10000", Path("ham10000"))

Official splits are kept; cases of training that share a patient or an image with a later split are
dropped, and the notes say how many.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from gsco.datasets.card import DataCard, card_named, data_cards, task_of
from gsco.datasets.layouts import DIAGNOSIS, QUESTIONS, REPORTS, Laid
from gsco.datasets.layouts.laid import Item
from gsco.datasets.question import Questions, Reports, split_by_image
from gsco.datasets.read import build
from gsco.datasets.record import Dataset
from gsco.datasets.row import Found, Row, complain
from gsco.errors import DataError, UsageError

Reader = Callable[[Path, DataCard], Laid[Item]]
"""Reads a folder that is laid out as a card says."""


def place_of(name: str, root: Path) -> Path | None:
    """Return where a set lies under `root`: under its name, with _ for -, or as a MedMNIST file."""
    places = (root / name, root / name.replace("-", "_"), root / f"{name}.npz")
    return next((place for place in places if place.exists()), None)


def is_published(task: str, data: Path, columns: tuple[str, str] = ("label", "split")) -> bool:
    """Whether data are read in the layout of the published set that the task is named after."""
    card = data_cards().get(task)
    has_columns = columns != ("label", "split") or (data / "manifest.csv").is_file()
    return card is not None and card.task is not None and not has_columns


def read_known(name: str, folder: Path) -> Dataset:
    """Read a diagnosis set in its published layout.

    Raises:
        UsageError: the name is unknown, or the set has no diagnoses.
        DataError: files are missing or wrong (up to five problems are listed).
    """
    card = card_named(name)
    task = task_of(card)
    laid = _laid(DIAGNOSIS[card.layout], card, folder)
    found = found_in(laid, card)
    made = build(found, task, name, card.licence, official=True)
    return replace(made, credit=f"{card.citation}; {card.url}")


def read_questions(
    name: str, folder: Path, *, split: Literal["official", "image"] = "official"
) -> Questions:
    """Read a visual question answering set; `image` gives new splits that share no image.

    Raises:
        UsageError: the name is unknown, or the set asks no questions.
        DataError: files are missing or wrong (up to five problems are listed).
    """
    laid = _worded(name, folder, QUESTIONS, "questions", "vqa")
    if split == "official":
        return Questions(name, laid.items, laid.notes)
    note = "The splits are not the official ones: they part by image, so that no image is shared."
    return Questions(name, split_by_image(laid.items), (*laid.notes, note))


def read_reports(name: str, folder: Path) -> Reports:
    """Read a set of reports with R2Gen's splits.

    Raises:
        UsageError: the name is unknown, or the set has no reports.
        DataError: files are missing or wrong (up to five problems are listed).
    """
    laid = _worded(name, folder, REPORTS, "reports", "report")
    return Reports(name, laid.items, laid.notes)


def _worded(
    name: str, folder: Path, readers: Mapping[str, Reader[Item]], what: str, kind: str
) -> Laid[Item]:
    """Read a set of one kind by the reader of its layout."""
    card = card_named(name)
    if card.layout not in readers:
        raise UsageError(
            f"Data set {card.name!r} is of kind {card.kind!r} and has no {what}. "
            f"Take one of kind {kind!r} from `gsco data list`."
        )
    return _laid(readers[card.layout], card, folder)


def _laid(read: Reader[Item], card: DataCard, folder: Path) -> Laid[Item]:
    check_there(card, folder)
    laid = read(folder, card)
    todo = f"`gsco data check {card.name} FOLDER` lists all of them, and what to do."
    complain(f"Data set {card.name!r}", laid.problems, todo)
    return laid


def check_there(card: DataCard, folder: Path) -> None:
    """Refuse a folder that does not exist, and a file where a folder is needed.

    Raises:
        DataError: with what belongs into it.
    """
    if folder.is_file() and card.layout != "medmnist":
        raise DataError(
            f"{folder.name!r} is a file. Give the folder that holds the set; "
            f"`gsco data show {card.name}` says what belongs into it."
        )
    if not folder.exists():
        raise DataError(
            f"There is no folder {folder.name!r}. Check the path; `gsco data show {card.name}` "
            "says what belongs into it."
        )


def found_in(laid: Laid[Row], card: DataCard) -> Found:
    """Return the rows in the form that other readers give."""
    return Found(laid.items, task_of(card).kind == "multi", notes=laid.notes)
