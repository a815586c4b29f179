"""Reading a data set: find its form, name its labels, keep its splits apart."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gsco.datasets.checks import (
    check_classes,
    check_content,
    check_patients,
    content_digests,
    keep_apart,
)
from gsco.datasets.folders import read_folders
from gsco.datasets.licence import credit_of, licence_of
from gsco.datasets.manifest import read_manifest
from gsco.datasets.medmnist import read_npz
from gsco.datasets.record import Dataset, Record
from gsco.datasets.row import Found, Row, complain
from gsco.datasets.splits import divide
from gsco.errors import DataError
from gsco.task import Task, card_from_labels


def read_dataset(
    folder: Path,
    task: Task | None = None,
    *,
    split_column: str = "split",
    label_column: str = "label",
    allow_overlap: bool = False,
) -> Dataset:
    """Read a MedMNIST file, a folder with a `manifest.csv`, or folders of classes.

    Without a task a card is made of the labels found. Missing splits are cut by hash; `notes` say
    so. With `allow_overlap` identical images may stand in two splits; a patient never may.

    Raises:
        DataError: the data cannot be read, do not fit the card, or would mislead.
    """
    name = folder.stem if folder.is_file() else folder.resolve().name
    found = _find(folder, task, split_column, label_column)
    task = task or _card(name, found)
    place = folder.parent if folder.is_file() else folder
    made = build(found, task, name, licence_of(place), allow_overlap=allow_overlap)
    return replace(made, columns=(label_column, split_column), credit=credit_of(place))


def build(
    found: Found,
    task: Task,
    name: str,
    licence: str | None,
    *,
    allow_overlap: bool = False,
    official: bool = False,
) -> Dataset:
    """Name the labels of what was found, divide it, and keep its splits apart.

    `official` splits are kept: cases of training that would leak are dropped, with a note.

    Raises:
        DataError: labels do not fit the card, or the data would mislead.
    """
    resolved = resolve(found, task, name)
    todo = f"The card's labels are {', '.join(map(repr, task.texts))}: edit the data or the card."
    complain(f"Data set {name!r}", resolved.problems, todo)
    digests = content_digests(resolved.rows)
    divided = divide(resolved.rows, digests)
    records = tuple(_record(row, task) for row in divided.rows)
    if official:
        kept = keep_apart(records, digests)
    else:
        check_patients(records, name)
        kept = check_content(records, digests, name, allow_overlap=allow_overlap)
    scarce = check_classes(kept.records, task, name)
    return Dataset(
        name=name,
        task=task,
        records=kept.records,
        fingerprint=_fingerprint(kept.records, digests, found.content),
        licence=licence,
        notes=(*found.notes, *divided.notes, *kept.notes, *scarce),
    )


def _find(folder: Path, task: Task | None, split_column: str, label_column: str) -> Found:
    if not folder.exists():
        raise DataError(f"There is no folder or file {folder.name!r}. Check the path.")
    if folder.is_file():
        if folder.suffix != ".npz":
            raise DataError(
                f"{folder.name!r} is not a data set. Give a MedMNIST .npz file or a folder."
            )
        return read_npz(folder, task)
    if (folder / "manifest.csv").is_file():
        return read_manifest(folder, split_column=split_column, label_column=label_column)
    if (split_column, label_column) != ("split", "label"):
        raise DataError(
            f"{folder.name!r} has no manifest.csv, so no columns {split_column!r} and "
            f"{label_column!r}. Add the file, or leave the columns out."
        )
    archives = sorted(folder.glob("*.npz"))
    if len(archives) > 1:
        names = ", ".join(file.name for file in archives)
        raise DataError(f"{folder.name!r} holds several .npz files: {names}. Name the one to read.")
    return read_npz(archives[0], task) if archives else read_folders(folder)


def _card(name: str, found: Found) -> Task:
    words = found.names or sorted({label for row in found.rows for label in row.labels})
    if len(words) < 2:
        raise DataError(
            f"Data set {name!r} has one class only: {list(words)!r}. Nothing can be told apart; "
            "add images of another class from the same source."
        )
    id = re.sub(r"[^a-z0-9]+", "-", name.casefold()).strip("-") or "data"
    return replace(card_from_labels(id, words), kind="multi" if found.is_multi else "single")


@dataclass(frozen=True)
class Resolved:
    """Rows with the card's texts, and what does not fit the card."""

    rows: tuple[Row, ...]
    problems: tuple[str, ...]


def resolve(found: Found, task: Task, name: str) -> Resolved:
    """Replace labels as written by the card's texts; rows that do not fit are problems.

    Raises:
        DataError: images have several labels, and the card allows one.
    """
    if found.is_multi and task.kind != "multi":
        raise DataError(
            f"Data set {name!r} has images with several labels, but card {task.id!r} is of kind "
            f"{task.kind!r}. Give a card of kind 'multi'."
        )
    texts = {word: task.resolve(word) for row in found.rows for word in row.labels}
    rows: list[Row] = []
    problems: list[str] = []
    for row in found.rows:
        labels = tuple(text for word in row.labels if (text := texts[word]) is not None)
        if len(labels) < len(row.labels):
            wrong = next(word for word in row.labels if texts[word] is None)
            problems.append(f"{row.where}: label {wrong!r} is not in card {task.id!r}")
            continue
        if len(labels) > 1 and task.no_finding and task.resolve(task.no_finding) in labels:
            problems.append(f"{row.where}: label {task.no_finding!r} stands only alone")
            continue
        if task.kind == "multi" and not labels and task.no_finding:
            labels = (task.resolve(task.no_finding) or task.no_finding,)
        # A set's order says nothing: the card's order, each label once.
        ordered = tuple(text for text in task.texts if text in labels)
        named = ordered if task.kind == "multi" else labels
        # Most rows say what the card says: of a hundred thousand no second copy is made.
        rows.append(row if named == row.labels else replace(row, labels=named))
    return Resolved(tuple(rows), tuple(problems))


def _record(row: Row, task: Task) -> Record:
    if row.split is None:
        raise ValueError(f"Row {row.id!r} was not divided.")
    label = row.labels if task.kind == "multi" else row.labels[0]
    return Record(row.id, row.source, label, row.split, row.patient, row.report)


def _fingerprint(records: Sequence[Record], digests: dict[str, str], content: bytes) -> str:
    summary = hashlib.sha256(content)
    for record in sorted(records, key=lambda record: record.id):
        size = record.source.stat().st_size if isinstance(record.source, Path) else None
        line = [record.id, size, digests.get(record.id), record.labels, record.split]
        summary.update(json.dumps(line).encode())
    return summary.hexdigest()
