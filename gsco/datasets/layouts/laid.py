"""What the readers of published layouts have in common: find files, join lines with images."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from gsco.datasets.card import DataCard
from gsco.datasets.record import Split
from gsco.datasets.row import IMAGE_ENDINGS, Row
from gsco.errors import DataError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Laid(Generic[Item]):
    """What stands in a folder, and what is wrong with it."""

    items: tuple[Item, ...]
    problems: tuple[str, ...] = ()
    """Lines that cannot be used, each a sentence."""
    unlisted: tuple[str, ...] = ()
    """Images that no line names."""
    notes: tuple[str, ...] = ()
    left_out: Mapping[Split, int] = field(default_factory=dict)
    """How many cases of each split are there and not among the items, on purpose."""


@dataclass(frozen=True)
class Draft:
    """A line that names an image, which is not yet looked for."""

    where: str
    image: str
    """The key of the image among the pictures."""
    labels: tuple[str, ...]
    split: Split | None
    patient: str | None = None


def absent(folder: Path, card: DataCard, what: str) -> DataError:
    """Say what is missing, where to get it and what belongs where."""
    return DataError(
        f"{folder.name!r} has no {what}. Data set {card.name!r} ({card.tier}) comes from "
        f"{card.url}; put into the folder: {'; '.join(card.place)}."
    )


def seek(folder: Path, *names: str) -> Path | None:
    """Return the first of the files or folders `names`, in `folder` or up to two levels below."""
    for level in ("", "*/", "*/*/"):
        for name in names:
            if found := sorted(folder.glob(level + name)):
                return found[0]
    return None


def need(folder: Path, card: DataCard, *names: str) -> Path:
    """Return the first of the files or folders `names`.

    Raises:
        DataError: there is none; with where to get it.
    """
    if (found := seek(folder, *names)) is None:
        raise absent(folder, card, repr(names[0]))
    return found


def image_files(folder: Path) -> list[Path]:
    """Return the images in and below a folder."""
    files = sorted(folder.rglob("*"))
    return [f for f in files if _ending(f.name) and not f.name.startswith(".")]


def pictures(folders: Iterable[Path]) -> dict[str, Path]:
    """Return the images in and below the folders by their name without ending."""
    found: dict[str, Path] = {}
    for folder in folders:
        for file in image_files(folder):
            found.setdefault(file.name[: -len(_ending(file.name))], file)
    return found


def _ending(name: str) -> str:
    return next((ending for ending in IMAGE_ENDINGS if name.lower().endswith(ending)), "")


def is_inside(root: Path, file: Path) -> bool:
    """Return whether a path made of what a file says stays below `root`."""
    return file.is_relative_to(root) and ".." not in file.relative_to(root).parts


def lay(
    root: Path, drafts: Sequence[Draft], images: Mapping[str, Path], known: Iterable[str] = ()
) -> Laid[Row]:
    """Join drafts with their images; `known` names images that are there for other uses."""
    rows: list[Row] = []
    problems: list[str] = []
    first: dict[str, str] = {}
    for draft in drafts:
        image = images.get(draft.image)
        if image is None:
            problems.append(f"{draft.where}: there is no image {draft.image!r}")
        elif draft.image in first:
            before = first[draft.image]
            problems.append(f"{draft.where}: image {draft.image!r} stands on {before} already")
        else:
            first[draft.image] = draft.where
            id = image.relative_to(root).as_posix()
            rows.append(Row(draft.where, id, image, draft.labels, draft.split, draft.patient))
    listed = {draft.image for draft in drafts} | set(known)
    unlisted = (images[name].relative_to(root).as_posix() for name in images.keys() - listed)
    return Laid(tuple(rows), tuple(problems), tuple(sorted(unlisted)))


def join(parts: Sequence[Laid[Row]]) -> Laid[Row]:
    """Put the parts of a set together."""
    return Laid(
        tuple(row for part in parts for row in part.items),
        tuple(problem for part in parts for problem in part.problems),
        tuple(name for part in parts for name in part.unlisted),
        tuple(note for part in parts for note in part.notes),
        {split: n for part in parts for split, n in part.left_out.items()},
    )


def is_yes(cell: str | None) -> bool:
    """Return whether a cell says 1 (`1`, `1.0`)."""
    return (cell or "").strip() in ("1", "1.0", "True", "true")
