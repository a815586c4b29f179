"""Plain folders: `root/<class>/*.png`, or `root/{train,val,test}/<class>/*.png`."""

from pathlib import Path

from gsco.datasets.record import Split
from gsco.datasets.row import IMAGE_ENDINGS, Found, Row, split_named
from gsco.errors import DataError


def read_folders(root: Path) -> Found:
    """Read the images of class folders; the folder's name is the label.

    Raises:
        DataError: there are no class folders, or one without images.
    """
    parts = _folders(root)
    by_split = bool(parts) and all(split_named(part.name) for part in parts)
    rows: list[Row] = []
    skipped = 0
    for part in parts if by_split else [root]:
        split = split_named(part.name) if by_split else None
        for folder in _folders(part):
            files = sorted(file for file in folder.iterdir() if file.is_file())
            images = [file for file in files if file.name.lower().endswith(IMAGE_ENDINGS)]
            skipped += len(files) - len(images)
            rows += [_row(root, file, folder.name, split) for file in images]
            if not images:
                raise DataError(
                    f"Class folder {folder.relative_to(root).as_posix()!r} holds no image. Put "
                    f"images ({', '.join(IMAGE_ENDINGS)}) right into it, or remove it."
                )
    if not rows:
        raise DataError(
            f"{root.name!r} holds no data set. Give a MedMNIST .npz file, a folder with a "
            "manifest.csv (file, split, label), or one folder of images for each class."
        )
    notes = (f"{skipped} files in class folders are no images and were skipped.",)
    return Found(tuple(rows), notes=notes if skipped else ())


def _folders(root: Path) -> list[Path]:
    hidden = (".", "__")
    return sorted(f for f in root.iterdir() if f.is_dir() and not f.name.startswith(hidden))


def _row(root: Path, file: Path, label: str, split: Split | None) -> Row:
    name = file.relative_to(root).as_posix()
    return Row(name, name, file, (label,), split)
