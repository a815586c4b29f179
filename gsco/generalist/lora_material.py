"""What a generalist is tuned on, apart from what any of the given sets holds out."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NoReturn

from gsco.datasets import Dataset, Pair, PairSet, Record
from gsco.datasets.leaks import entries_of, without_leaks
from gsco.errors import DataError
from gsco.progress import Progress
from gsco.task import Task
from retrieval import Entry, fingerprint, overlaps
from specialists.card import file_sha256
from specialists.images import decode


@dataclass(frozen=True)
class Material:
    """What is learnt from."""

    tasks: Sequence[tuple[Task, Sequence[Record]]]
    entries: Sequence[Mapping[str, Entry]]
    """Record's id to its entry, parallel to the tasks."""
    left_out: Mapping[str, int]
    """Name to how many training cases, or pairs, look like validation or test cases."""
    pairs: Sequence[Pair]
    shown: Mapping[Path, Entry]
    """The images of the pairs."""

    def seen(self) -> set[str]:
        """Return the content hashes of all images."""
        learnt = {
            prints[record.id].content_hash
            for (_, records), prints in zip(self.tasks, self.entries, strict=True)
            for record in records
        }
        return learnt | {self.shown[pair.image].content_hash for pair in self.pairs}


def material_of(
    datasets: Sequence[Dataset], pairs: Sequence[PairSet], progress: Progress
) -> Material:
    """Return the training parts, without what looks like validation or test cases of any set."""
    if not datasets and not any(found.pairs for found in pairs):
        raise DataError("There are no data sets and no pairs. Give one or the other.")
    for found in datasets:
        if found.task.kind != "single":
            _refuse(found.task, found.split("train"))
    entries = [entries_of(found, progress) for found in datasets]
    shown = _shown(pairs, progress)
    held_out = [
        [prints[record.id] for record in found.records if record.split != "train"]
        for found, prints in zip(datasets, entries, strict=True)
    ]
    unlabelled = [shown[image] for found in pairs for image in found.others]
    left_out: Counter[str] = Counter()
    tasks = []
    for number, (found, prints) in enumerate(zip(datasets, entries, strict=True)):
        elsewhere = chain(*held_out[:number], *held_out[number + 1 :], unlabelled)
        records = without_leaks(found, prints, list(elsewhere))
        if not records:
            _refuse(found.task, records)
        tasks.append((found.task, records))
        left_out[found.name] += len(found.split("train")) - len(records)
    asked: list[Pair] = []
    for told in pairs:
        images = [shown[image] for image in _images(told)]
        alike = {overlap.a for overlap in overlaps(images, [*chain(*held_out), *unlabelled])}
        kept = [pair for pair in told.pairs if shown[pair.image].id not in alike]
        asked += kept
        left_out[told.name] += len(told.pairs) - len(kept)
    if not tasks and not asked:
        raise DataError("Every image of the pairs looks like a held-out one. Add others.")
    return Material(tasks, entries, left_out, asked, shown)


def _shown(pairs: Sequence[PairSet], progress: Progress) -> dict[Path, Entry]:
    """Return the fingerprints of all images of pairs, each of which many questions may share."""
    images = {image for found in pairs for image in (*found.others, *_images(found))}
    shown = {}
    for done, image in enumerate(sorted(images), 1):
        prints = fingerprint(decode(image))
        hashes = prints.content_hash, prints.perceptual_hash
        shown[image] = Entry(str(image), (), None, None, *hashes)
        progress("read images", done, len(images))
    return shown


def _images(found: PairSet) -> set[Path]:
    return {pair.image for pair in found.pairs}


def _refuse(task: Task, records: Sequence[Record]) -> NoReturn:
    raise DataError(
        f"Task {task.id!r} is of kind {task.kind!r} with {len(records)!r} training cases to learn "
        "from. Give single-label tasks with a training part that does not look like validation "
        "or test cases."
    )


def fingerprint_of(found: PairSet) -> str:
    """Return a hash that changes with the pairs, and not with the place of their folder."""
    images = {image: file_sha256(image) for image in (*_images(found), *found.others)}
    said = [(images[pair.image], pair.question, pair.answer) for pair in found.pairs]
    said += [(images[image], None, "held out") for image in found.others]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()
