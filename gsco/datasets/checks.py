"""What would mislead: one patient or one image in two splits, classes without cases."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gsco.datasets.record import SPLITS, NpzRow, Record, Split
from gsco.datasets.row import Row
from gsco.errors import DataError
from gsco.task import Task


@dataclass(frozen=True)
class Kept:
    """Records that may be used, and what was found out."""

    records: tuple[Record, ...]
    notes: tuple[str, ...]


def content_digests(rows: Sequence[Row]) -> dict[str, str]:
    """Return SHA-256 by id of the images that may have a twin: those that share their size."""
    sizes: dict[str, int] = {}
    for row in rows:
        if isinstance(row.source, Path):
            sizes[row.id] = row.source.stat().st_size
    common = Counter(sizes.values())
    digests: dict[str, str] = {}
    for row in rows:
        if isinstance(row.source, NpzRow):
            pixels = row.source.pixels
            digests[row.id] = _digest(str(pixels.shape).encode() + pixels.tobytes())
        elif common[sizes[row.id]] > 1:
            digests[row.id] = _digest(row.source.read_bytes())
    return digests


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def check_patients(records: Sequence[Record], name: str) -> None:
    """Refuse patients whose images stand in two splits.

    Raises:
        DataError: with up to five patients.
    """
    seen: dict[str, dict[str, str]] = defaultdict(dict)
    for record in records:
        if record.patient is not None:
            seen[record.patient].setdefault(record.split, record.id)
    shared = {patient: where for patient, where in seen.items() if len(where) > 1}
    if shared:
        listed = "".join(f"\n  {p!r}: {_places(where)}" for p, where in list(shared.items())[:5])
        more = f"\n  and {len(shared) - 5} more" if len(shared) > 5 else ""
        raise DataError(
            f"Data set {name!r}: two images of one patient stand in two splits, for {len(shared)} "
            f"patient(s):{listed}{more}\nAccuracy would be too high. Move all images of a patient "
            "into one split."
        )


def _places(where: Mapping[str, str]) -> str:
    return ", ".join(f"{id} in {split}" for split, id in where.items())


def check_content(
    records: Sequence[Record], digests: Mapping[str, str], name: str, *, allow_overlap: bool
) -> Kept:
    """Find identical images in two splits.

    The official splits of MedMNIST files stay usable: the copy in the earlier split is dropped,
    never a test case. Elsewhere it is an error, as the same slip may hide more.

    Raises:
        DataError: with up to five pairs, unless `allow_overlap`.
    """
    same: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.id in digests:
            same[digests[record.id]].append(record)
    twins = [group for group in same.values() if len(group) > 1]
    notes = _conflicts(twins)
    across = [group for group in twins if len({record.split for record in group}) > 1]
    if not across:
        return Kept(tuple(records), notes)
    if allow_overlap:
        note = f"{len(across)} images stand in two splits, as allowed: accuracy may be too high."
        return Kept(tuple(records), (*notes, note))
    if any(isinstance(record.source, Path) for group in across for record in group):
        listed = "".join(
            f"\n  {_places({record.split: record.id for record in group})}" for group in across[:5]
        )
        more = f"\n  and {len(across) - 5} more" if len(across) > 5 else ""
        raise DataError(
            f"Data set {name!r} has {len(across)} identical image(s) in two splits:{listed}{more}\n"
            "Accuracy would be too high. Remove the copies, or use --allow-overlap "
            "(allow_overlap=True) if you know why."
        )
    return keep_apart(records, digests)


def keep_apart(records: Sequence[Record], digests: Mapping[str, str]) -> Kept:
    """Drop the cases that share a patient or an image with a later split, never a test case.

    For official splits, which are as they are.
    """
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        if record.patient is not None:
            groups["patient", record.patient].append(record)
        if record.id in digests:
            groups["content", digests[record.id]].append(record)
    notes = _conflicts([g for (kind, _), g in groups.items() if kind == "content" and len(g) > 1])
    dropped: dict[str, str] = {}
    for group in groups.values():
        last = max(SPLITS.index(record.split) for record in group)
        dropped.update((r.id, r.split) for r in group if SPLITS.index(r.split) < last)
    if not dropped:
        return Kept(tuple(records), notes)
    number = ", ".join(f"{n} from {split}" for split, n in Counter(dropped.values()).items())
    note = f"Cases were dropped ({number}): their patient or image stands in a later split."
    return Kept(tuple(r for r in records if r.id not in dropped), (*notes, note))


def _conflicts(twins: Sequence[Sequence[Record]]) -> tuple[str, ...]:
    groups = [group for group in twins if len({record.label for record in group}) > 1]
    if not groups:
        return ()
    pair = " and ".join(f"{record.id} ({', '.join(record.labels)})" for record in groups[0][:2])
    return (f"{len(groups)} identical images carry different labels, for example {pair}.",)


def check_classes(records: Sequence[Record], task: Task, name: str) -> tuple[str, ...]:
    """Return notes on classes that are scarce.

    Raises:
        DataError: one class only, or a label of the card without a training case.
    """
    counts = {split: Counter[str]() for split in SPLITS}
    for record in records:
        counts[record.split].update(record.labels)
    found = [text for text in task.texts if any(counts[split][text] for split in SPLITS)]
    if len(found) < 2:
        raise DataError(
            f"Data set {name!r} has one class only: {found!r}. Nothing can be told apart; add "
            "images of another class from the same source."
        )
    sizes = Counter(record.split for record in records)
    notes = [f"There are no {word} cases." for split, word in _WORDS if not sizes[split]]
    if not sizes["train"]:
        return (*notes, "The data can be measured on, but not trained on.")
    absent = [text for text in task.texts if not counts["train"][text]]
    if absent:
        raise DataError(
            f"Data set {name!r} has no training image of {', '.join(map(repr, absent))}. "
            f"Add some, or take a card without the label (this one is {task.id!r})."
        )
    rare = [text for text in task.texts if counts["train"][text] < 2]
    unseen = [text for text in task.texts if not counts["val"][text]] if sizes["val"] else []
    if rare:
        notes.append(f"Only one training case of: {', '.join(rare)}.")
    if unseen:
        notes.append(f"No validation case of: {', '.join(unseen)}. Calibration cannot see it.")
    return tuple(notes)


_WORDS: tuple[tuple[Split, str], ...] = (
    ("train", "training"),
    ("val", "validation"),
    ("test", "test"),
)
