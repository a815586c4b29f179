"""Folders with a `manifest.csv`: one image a line, with its split, label and perhaps patient.

    file,split,label,patient_id
    images/a.png,train,benign,P07
    set.npz#train_images[3],test,malignant,

Several labels are parted by `|`. A blank patient_id means that the patient is unknown. A column
`report` may hold what was written of the image.
"""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gsco.datasets.medmnist import check_images, load_arrays
from gsco.datasets.record import NpzRow
from gsco.datasets.row import Found, Row, complain, split_named
from gsco.datasets.table import decode, read_bytes, split_lines
from gsco.errors import DataError

_IN_NPZ = re.compile(r"(?P<file>.+\.npz)#(?P<key>\w+)\[(?P<row>\d+)\]")
Archives = dict[Path, dict[str, NDArray[np.generic]]]


def read_manifest(folder: Path, *, split_column: str, label_column: str) -> Found:
    """Read the images that `folder/manifest.csv` lists.

    Raises:
        DataError: not UTF-8, a column is missing, or rows are wrong (up to five are listed).
    """
    content = read_bytes(folder / "manifest.csv")
    lines = split_lines(decode(content, "manifest.csv"), "manifest.csv")
    columns = list(lines[0][1]) if lines else []
    has_split = _check_columns(columns, split_column, label_column)
    archives: Archives = {}
    rows: list[Row] = []
    problems: list[str] = []
    for number, cells in lines[1:]:
        try:
            if len(cells) > len(columns):
                raise _WrongRow(
                    f"{len(cells)} cells for {len(columns)} columns; quote text that has a comma"
                )
            cell = dict(zip(columns, cells, strict=False))
            split = cell.get(split_column, "") if has_split else None
            row = _row(folder, number, cell, split, cell.get(label_column, ""), archives)
            rows.append(row)
        except _WrongRow as error:
            problems.append(f"line {number}: {error}")
    seen: dict[str, str] = {}
    for row in rows:
        if (first := seen.setdefault(row.id, row.where)) != row.where:
            problems.append(f"{row.where}: file {row.id!r} stands on {first} already")
    complain(f"'manifest.csv' of {folder.name!r}", problems, "Edit these lines.")
    if not rows:
        raise DataError(f"'manifest.csv' of {folder.name!r} lists no image. Add lines to it.")
    is_multi = any(len(row.labels) > 1 for row in rows)
    return Found(tuple(rows), is_multi, content=content)


class _WrongRow(Exception):
    """A line that cannot be used, and why."""


def _check_columns(columns: list[str], split_column: str, label_column: str) -> bool:
    columns[:] = [column.strip() for column in columns]
    # Data without splits are split by the reader; a column asked for by name must be there.
    wanted = ["file", label_column] + ([split_column] if split_column != "split" else [])
    missing = [column for column in wanted if column not in columns]
    twice = [column for column, count in Counter(columns).items() if count > 1 and column]
    if missing or twice:
        what = f"has no column {missing[0]!r}" if missing else f"has column {twice[0]!r} twice"
        hint = " Part the columns by commas." if len(columns) == 1 else ""
        raise DataError(
            f"'manifest.csv' {what}; its columns are {', '.join(map(repr, columns)) or 'none'}. "
            f"It needs file, split, label, and may have patient_id and report.{hint}"
        )
    return split_column in columns


def _row(
    folder: Path,
    number: int,
    cell: Mapping[str, str],
    split_word: str | None,
    label: str,
    archives: Archives,
) -> Row:
    file = cell.get("file", "").strip()
    if not file:
        raise _WrongRow("file is blank")
    labels = tuple(word.strip() for word in label.split("|"))
    if not all(labels):
        raise _WrongRow(f"label of {file!r} is blank")
    split = split_named(split_word) if split_word is not None else None
    if split_word is not None and split is None:
        raise _WrongRow(f"split {split_word!r} of {file!r} is not one of train, val, test")
    source = _source(folder, file, archives)
    # Only a blank says "unknown"; it never joins two images.
    patient = cell.get("patient_id", "").strip() or None
    report = cell.get("report", "").strip() or None
    return Row(f"line {number}", file, source, labels, split, patient, report)


def _source(folder: Path, file: str, archives: Archives) -> Path | NpzRow:
    found = _IN_NPZ.fullmatch(file)
    name = found["file"] if found else file
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise _WrongRow(f"file {file!r} lies outside of the folder; copy it into the folder")
    if not path.is_file():
        hint = " (write paths with /)" if "\\" in file else ""
        raise _WrongRow(f"there is no file {name!r} in the folder{hint}")
    if not found:
        return path
    if path not in archives:
        archives[path] = load_arrays(path)
    key, row = found["key"], int(found["row"])
    if key not in archives[path] or row >= len(archives[path][key]):
        raise _WrongRow(f"{name!r} has no {key}[{row}]")
    return NpzRow(path, key, row, check_images(archives[path][key], path, key))
