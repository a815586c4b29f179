"""Splits made here: by hash, class by class, with all images of a patient on one side."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from gsco.datasets.record import Split
from gsco.datasets.row import Row

SEED = "gsco"
VALIDATION_SHARE = 0.15
"""Share of the training images that become validation where the data have none."""


@dataclass(frozen=True)
class Divided:
    """Rows that all have a split, and how they came by it."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def divide(rows: Sequence[Row], digests: Mapping[str, str]) -> Divided:
    """Give rows a split where the data have none, and cut validation out of training.

    `digests` maps ids to content hashes; identical images stay together like a patient's.
    """
    notes: list[str] = []
    done = tuple(rows)
    known = any(row.patient for row in rows)
    how = "with a patient's images kept together" if known else "by image: no patients are known"
    if any(row.split is None for row in rows):
        done = _cut(done, digests, _three)
        notes.append(f"The data have no splits; train, val and test (70/10/20) were cut {how}.")
    splits = {row.split for row in done}
    if "train" in splits and "val" not in splits:
        train = _cut([row for row in done if row.split == "train"], digests, _two)
        cut = {row.id: row for row in train}
        done = tuple(cut.get(row.id, row) for row in done)
        if any(row.split == "val" for row in train):
            share = f"{VALIDATION_SHARE:.0%}"
            notes.append(f"There was no validation part; {share} of training was cut off {how}.")
    return Divided(done, tuple(notes))


def _three(position: float) -> Split:
    return "train" if position < 0.7 else "val" if position < 0.8 else "test"


def _two(position: float) -> Split:
    return "train" if position < 1 - VALIDATION_SHARE else "val"


def _cut(
    rows: Sequence[Row], digests: Mapping[str, str], split_at: Callable[[float], Split]
) -> tuple[Row, ...]:
    """Order each class by hash and let a group's middle, in [0, 1], decide its split."""
    by_class: dict[tuple[str, ...], list[list[Row]]] = defaultdict(list)
    for group in _groups(rows, digests):
        by_class[group[0].labels].append(group)
    splits: dict[str, Split] = {}
    for groups in by_class.values():
        total, before = sum(map(len, groups)), 0
        for group in sorted(groups, key=_order):
            split = split_at((before + len(group) / 2) / total)
            splits.update((row.id, split) for row in group)
            before += len(group)
    return tuple(replace(row, split=splits[row.id]) for row in rows)


def _order(group: Sequence[Row]) -> str:
    name = min(row.patient or row.id for row in group)
    return hashlib.sha256(f"{SEED}:{name}".encode()).hexdigest()


def _groups(rows: Sequence[Row], digests: Mapping[str, str]) -> list[list[Row]]:
    """Join rows that share a patient or their content, directly or through others."""
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while leader.setdefault(name, name) != name:
            leader[name] = name = leader[leader[name]]
        return name

    for row in rows:
        shared = [f"patient {row.patient}"] if row.patient else []
        shared += [f"content {digests[row.id]}"] if row.id in digests else []
        for other in shared:
            leader[find(other)] = find(f"row {row.id}")
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[find(f"row {row.id}")].append(row)
    return list(groups.values())
