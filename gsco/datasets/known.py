"""Reading a data set as it is published: its card says how its files are laid out.

    dataset = read_known("ham10000", Path("ham10000"))

Official splits are kept; cases of training that share a patient or an image with a later split are
dropped, and the notes say how many.
"""

from pathlib import Path

from gsco.datasets.card import DataCard, card_named, task_of
from gsco.datasets.layouts import DIAGNOSIS, Laid
from gsco.datasets.read import build
from gsco.datasets.record import Dataset
from gsco.datasets.row import Found, Row, complain
from gsco.errors import DataError


def read_known(name: str, folder: Path) -> Dataset:
    """Read a diagnosis set in its published layout.

    Raises:
        UsageError: the name is unknown, or the set has no diagnoses.
        DataError: files are missing or wrong (up to five problems are listed).
    """
    card = card_named(name)
    task = task_of(card)
    laid = lay_out(card, folder)
    todo = f"`gsco data check {name} FOLDER` lists all of them, and what to do."
    complain(f"Data set {name!r}", laid.problems, todo)
    found = found_in(laid, card)
    return build(found, task, name, card.licence, official=True)


def lay_out(card: DataCard, folder: Path) -> Laid[Row]:
    """Read what stands in a folder, with its problems.

    Raises:
        DataError: nothing can be read.
    """
    if not folder.exists():
        raise DataError(
            f"There is no folder {folder.name!r}. Check the path; `gsco data show {card.name}` "
            "says what belongs into it."
        )
    return DIAGNOSIS[card.layout](folder, card)


def found_in(laid: Laid[Row], card: DataCard) -> Found:
    """Return the rows in the form that other readers give."""
    return Found(laid.items, task_of(card).kind == "multi", notes=laid.notes)
