"""What the three readers have in common: rows as found, not yet checked against a card."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gsco.datasets.record import NpzRow, Split
from gsco.errors import DataError

IMAGE_ENDINGS = (
    ".png",
    ".jpg",
    ".jpeg",
    ".bmp",
    ".tif",
    ".tiff",
    ".webp",
    ".dcm",
    ".dicom",
    ".nii",
    ".nii.gz",
)
_SPLIT_WORDS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled image as a reader found it."""

    where: str
    """For messages: `line 7`, or the file."""
    id: str
    source: Path | NpzRow
    labels: tuple[str, ...]
    """As written in the data."""
    split: Split | None
    """None if the data do not say."""
    patient: str | None = None
    report: str | None = None


@dataclass(frozen=True)
class Found:
    """What a reader found."""

    rows: tuple[Row, ...]
    is_multi: bool = False
    """Whether an image may carry several labels."""
    names: tuple[str, ...] | None = None
    """The labels in their order where the data number them; None where they are words."""
    content: bytes = b""
    """The manifest, for the fingerprint."""
    notes: tuple[str, ...] = ()


def split_named(word: str) -> Split | None:
    """Return the split that `word` names (`validation`, `Testing`), or None."""
    return _SPLIT_WORDS.get(word.strip().casefold())


def complain(what: str, problems: Sequence[str], todo: str) -> None:
    """Raise with up to five problems, if there are any.

    Raises:
        DataError: `problems` is not empty.
    """
    if not problems:
        return
    more = f"\n  and {len(problems) - 5} more" if len(problems) > 5 else ""
    listed = "".join(f"\n  {problem}" for problem in problems[:5])
    raise DataError(f"{what} has {len(problems)} problem(s):{listed}{more}\n{todo}")
