"""Tables as people keep them: text in UTF-8 with a line of column names, comma or tab between."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gsco.errors import DataError


@dataclass(frozen=True)
class Line:
    """One line of a table."""

    number: int
    """Its number in the file, from 1."""
    cells: Mapping[str, str]
    """Trimmed text by column."""


@dataclass(frozen=True)
class Table:
    """A table that was read."""

    name: str
    """The file's name."""
    columns: tuple[str, ...]
    lines: tuple[Line, ...]


def read_table(file: Path, needed: Sequence[str]) -> Table:
    """Read a table that has the `needed` columns; more are kept.

    Raises:
        DataError: it cannot be read, is not UTF-8, lacks a column, or has a line of other length.
    """
    text = decode(read_bytes(file), file.name)
    head = text.split("\n", 1)[0]
    lines = split_lines(text, file.name, "\t" if "\t" in head and "," not in head else ",")
    columns = tuple(column.strip() for column in lines[0][1]) if lines else ()
    for column in needed:
        if column not in columns:
            raise DataError(
                f"{file.name!r} has no column {column!r}; its columns are "
                f"{', '.join(map(repr, columns)) or 'none'}. Take the file as it was published."
            )
    last = max((columns.index(column) for column in needed), default=0)
    rows = tuple(_line(number, cells, columns, last, file.name) for number, cells in lines[1:])
    return Table(file.name, columns, rows)


def _line(number: int, cells: Sequence[str], columns: Sequence[str], last: int, name: str) -> Line:
    """Return a line that reaches the `last` needed column and no farther than the columns."""
    if len(cells) <= last or any(cell.strip() for cell in cells[len(columns) :]):
        raise DataError(
            f"{name!r} line {number} has {len(cells)} cells for {len(columns)} columns. The file "
            "is cut off or was edited: take it as it was published."
        )
    return Line(number, {c: cell.strip() for c, cell in zip(columns, cells, strict=False)})


def read_bytes(file: Path) -> bytes:
    """Return what the file holds.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(
            f"{file.name!r} of {file.parent.name!r} cannot be read: {error.strerror}. "
            "Check its rights."
        ) from error


def decode(content: bytes, name: str) -> str:
    """Return the text of `content`, without the mark that spreadsheets write first.

    Raises:
        DataError: it is not UTF-8; with the line.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"{name!r} is not UTF-8: line {line} has the byte {content[error.start]:#04x}. "
            "Save it as UTF-8 (in a spreadsheet: 'CSV UTF-8')."
        ) from error


def split_lines(text: str, name: str, delimiter: str = ",") -> list[tuple[int, list[str]]]:
    """Return the number and the cells of each line that is not blank.

    Raises:
        DataError: a quote is never closed, or the like.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        return [(reader.line_num, cells) for cells in reader if any(c.strip() for c in cells)]
    except csv.Error as error:
        raise DataError(
            f"{name!r} cannot be read at line {reader.line_num}: {error}. "
            "Write plain comma-separated lines."
        ) from error
