"""Pairs: images with a question and its answer, or with a report, that a generalist learns from.

    file,question,answer,answer_type,image_split
    images/a.png,Is there a mass?,yes,CLOSED,train
    images/b.png,,Findings: A mass. Impression: Cyst.,REPORT,train

They are read from a `qa.csv`, which may have more columns. `image_split` parts images, not
questions: two questions about one image in two splits would tell a test what training saw.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gsco.datasets.licence import licence_of
from gsco.datasets.record import Split
from gsco.datasets.row import complain, split_named
from gsco.errors import DataError

FILE = "qa.csv"
_COLUMNS = ("file", "question", "answer", "image_split")
_MORE = "cells beyond the columns"


@dataclass(frozen=True)
class Pair:
    """An image with what is asked and the answer that is right."""

    image: Path
    question: str | None
    """None where the answer is a report of the image."""
    answer: str


@dataclass(frozen=True)
class PairSet:
    """The pairs of one split of a folder."""

    name: str
    """Name of the folder."""
    pairs: tuple[Pair, ...]
    licence: str | None = None
    """What SOURCE.md says after `Licence:`; None if it does not."""
    others: tuple[Path, ...] = ()
    """The images of the other splits."""


def read_pairs(folder: Path, split: Split = "train") -> PairSet:
    """Read the pairs of one split from `folder/qa.csv`.

    Raises:
        DataError: not readable, a column is missing, rows are wrong (up to five are listed), an
        image stands in two splits, or the split is empty.
    """
    pairs: list[Pair] = []
    problems: list[str] = []
    splits: dict[str, Split] = {}
    for number, row in enumerate(_rows(folder), 1):
        part, problem = split_named(row["image_split"]), _problem(folder, row)
        if part is None:
            problem = f"image_split {row['image_split']!r} is not one of train, val, test"
        elif splits.setdefault(row["file"], part) != part:
            problem = f"{row['file']!r} stands in {splits[row['file']]} and in {part}"
        if problem:
            problems.append(f"row {number}: {problem}")
        elif part == split:
            pairs.append(_pair(folder, row))
    complain(f"{FILE!r} of {folder.name!r}", problems, "Edit these rows.")
    if not pairs:
        raise DataError(f"{FILE!r} of {folder.name!r} has no row of {split!r}. Add some.")
    others = tuple(folder / file for file, part in splits.items() if part != split)
    return PairSet(folder.resolve().name, tuple(pairs), licence_of(folder), others)


def _rows(folder: Path) -> list[dict[str, str]]:
    try:
        with (folder / FILE).open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, restkey=_MORE, restval="")
            missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
            rows = [] if missing else list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{FILE!r} of {folder.name!r} cannot be read ({error}). Save it as CSV in UTF-8."
        ) from error
    if missing:
        raise DataError(
            f"{FILE!r} of {folder.name!r} has no column {missing[0]!r}. It needs "
            f"{', '.join(_COLUMNS)}, and may have answer_type."
        )
    return rows


def _problem(folder: Path, row: Mapping[str, str]) -> str:
    if _MORE in row:
        return "there are more cells than columns; quote text that has a comma"
    path = folder / row["file"]
    if not path.resolve().is_relative_to(folder.resolve()):
        return f"file {row['file']!r} lies outside of the folder; copy it into the folder"
    if not path.is_file():
        return f"there is no file {row['file']!r} in the folder"
    if not row["answer"].strip():
        return "answer is blank"
    if not row["question"].strip() and not _is_report(row):
        return "question is blank; if the answer is a report, give it the answer_type REPORT"
    return ""


def _pair(folder: Path, row: Mapping[str, str]) -> Pair:
    question = None if _is_report(row) else row["question"].strip()
    return Pair(folder / row["file"], question, row["answer"].strip())


def _is_report(row: Mapping[str, str]) -> bool:
    return row.get("answer_type", "").strip().casefold() == "report"
