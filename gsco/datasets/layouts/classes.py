"""Class folders below train, val and test: PCam200, RetOCT-C8, DermNet."""

from pathlib import Path

from gsco.datasets.card import DataCard
from gsco.datasets.folders import read_folders
from gsco.datasets.layouts.laid import Laid, absent
from gsco.datasets.row import Row, split_named
from gsco.errors import DataError


def read_classes(folder: Path, card: DataCard) -> Laid[Row]:
    """Read class folders, however deep the archive has them.

    Raises:
        DataError: there are no folders of splits, others beside them, or a class without images.
    """
    root = _splits(folder)
    if root is None:
        raise absent(folder, card, "folders 'train' and 'test'")
    others = [folder.name for folder in _folders(root) if not split_named(folder.name)]
    if others:
        raise DataError(
            f"{root.name!r} holds {others[0]!r} beside the folders of the splits. Move it away: "
            "only train, val and test belong here."
        )
    found = read_folders(root)
    return Laid(found.rows, notes=found.notes)


def _splits(folder: Path) -> Path | None:
    """Return the folder that holds the splits' folders; archives nest it in folders of its name."""
    for _ in range(4):
        inside = _folders(folder)
        if len([f for f in inside if split_named(f.name)]) >= 2:
            return folder
        if len(inside) != 1:
            return None
        folder = inside[0]
    return None


def _folders(folder: Path) -> list[Path]:
    hidden = (".", "__")
    return [f for f in sorted(folder.iterdir()) if f.is_dir() and not f.name.startswith(hidden)]
