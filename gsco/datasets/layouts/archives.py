"""MedMNIST archives in every size; the file's name says which."""

import re
from pathlib import Path

from gsco.datasets.card import DataCard
from gsco.datasets.layouts.laid import Laid, absent
from gsco.datasets.medmnist import read_npz
from gsco.datasets.record import NpzRow
from gsco.datasets.row import Row
from gsco.errors import DataError


def read_archive(folder: Path, card: DataCard) -> Laid[Row]:
    """Read `<name>.npz` or `<name>_<size>.npz` in a folder, or the file itself.

    Raises:
        DataError: there is none, there are several, or images are not as large as the name says.
    """
    files = [folder] if folder.is_file() else _files(folder, card)
    if not files:
        raise absent(folder, card, f"'{card.name}.npz'")
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise DataError(f"{folder.name!r} holds several sizes: {names}. Name the file to read.")
    file = files[0]
    found = read_npz(file, card.task)
    said = re.search(r"_(\d+)$", file.stem)
    side = int(said[1]) if said else 28
    row = found.rows[0].source
    if isinstance(row, NpzRow) and row.pixels.shape[0] != side:
        raise DataError(
            f"{file.name!r} should hold images of {side} pixels a side, and holds some of "
            f"{row.pixels.shape[0]}. Take the file as it was published, under its own name."
        )
    return Laid(found.rows, notes=found.notes)


def _files(folder: Path, card: DataCard) -> list[Path]:
    pattern = re.compile(rf"{re.escape(card.name)}(_\d+)?\.npz")
    return sorted(file for file in folder.iterdir() if pattern.fullmatch(file.name))
