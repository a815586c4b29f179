"""Getting a published data set: download what is open, say what to place where for the rest."""

from dataclasses import dataclass
from pathlib import Path

from gsco.datasets.card import DataCard, DataFile
from gsco.datasets.check import check
from gsco.datasets.download import download
from gsco.errors import UsageError
from gsco.progress import Progress


@dataclass(frozen=True)
class Prepared:
    """What was done, and what a person must do."""

    name: str
    file: Path | None = None
    """What was downloaded, or was there."""
    todo: tuple[str, ...] = ()
    """What to get and where to put it, in sentences; empty if the set is there."""


def prepare(
    card: DataCard, folder: Path, size: int | None = None, progress: Progress | None = None
) -> Prepared:
    """Download a set that needs no permission, or say what to place where.

    `size` chooses among the sizes of MedMNIST files; 28 pixels if left out.

    Raises:
        UsageError: the set has no files of that size.
        DataError: the download failed.
    """
    if card.files:
        return Prepared(card.name, download(_file(card, size), folder, progress))
    if size is not None:
        raise UsageError(f"Data set {card.name!r} comes in one size. Leave --size out.")
    if folder.is_dir() and check(card, folder, images=False).ok:
        return Prepared(card.name)
    asks = {
        "open": f"Download it from {card.url}.",
        "registration": f"Register and download it from {card.url}.",
        "credentialed": f"Apply for access at {card.url}, then download it.",
    }
    places = tuple(f"Put into {folder.name!r}: {place}." for place in card.place)
    last = f"Then run `gsco data check {card.name} {folder}`."
    return Prepared(card.name, None, (asks[card.tier], *places, last))


def _file(card: DataCard, size: int | None) -> DataFile:
    wanted = card.files[0].size if size is None else size
    for file in card.files:
        if file.size == wanted:
            return file
    sizes = ", ".join(str(file.size) for file in card.files)
    raise UsageError(f"Data set {card.name!r} has no size {size}. Available: {sizes}.")
