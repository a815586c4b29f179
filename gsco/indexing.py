"""Change the index of a constructed task: build anew, add cases, remove cases."""

from collections.abc import Iterable
from dataclasses import dataclass

from gsco import fusing
from gsco.datasets import Dataset, Record
from gsco.errors import DataError
from gsco.progress import Progress
from gsco.workspace import TaskFolder
from retrieval import CaseIndex, Entry, fingerprint, overlaps
from retrieval.storage import read_manifest


@dataclass(frozen=True)
class Changed:
    """What became of an index."""

    count: int
    """Cases in it now."""
    dropped: int
    """Cases left out as leaks, or taken out."""


def entry_of(record: Record, source: str) -> Entry:
    """Return the index's entry of a record, with its fingerprints."""
    prints = fingerprint(record.open())
    return Entry(
        id=record.id,
        labels=record.labels,
        patient=record.patient,
        source=source,
        content_hash=prints.content_hash,
        perceptual_hash=prints.perceptual_hash,
        report=record.report,
    )


def without_leaks(dataset: Dataset, entries: dict[str, Entry]) -> list[Record]:
    """Return the training records that are no near-duplicates of validation or test cases."""
    training = dataset.split("train")
    held_out = [entries[r.id] for r in dataset.records if r.split != "train"]
    leaks = {o.a for o in overlaps([entries[r.id] for r in training], held_out)}
    return [record for record in training if record.id not in leaks]


def rebuild(folder: TaskFolder, dataset: Dataset, index_with: str, progress: Progress) -> Changed:
    """Replace the index by one of the training cases of `dataset`."""
    entries = {record.id: entry_of(record, dataset.name) for record in dataset.records}
    training = without_leaks(dataset, entries)
    if not training:
        raise DataError(f"{dataset.name!r} has no training case that may be indexed. Add some.")
    embedder = fusing.embedder_named(index_with, folder)
    fusing.build_index(folder, embedder, training, entries, progress)
    return Changed(len(training), len(dataset.split("train")) - len(training))


def add(folder: TaskFolder, dataset: Dataset, progress: Progress) -> Changed:
    """Add the training cases of `dataset` that are not in the index yet."""
    entries = {record.id: entry_of(record, dataset.name) for record in dataset.records}
    training = without_leaks(dataset, entries)
    embedder = fusing.embedder_named(read_manifest(folder.index).embedder, folder)
    with CaseIndex.open_for_update(
        folder.index, embedder=embedder.name, embedder_hash=embedder.weights_hash
    ) as cases:
        new = [record for record in training if record.id not in cases]
        if new:
            vectors = fusing.embed(embedder, new, folder.learnt_size, progress)
            cases.add(vectors, [entries[r.id] for r in new])
        return Changed(len(cases), len(dataset.split("train")) - len(new))


def remove(folder: TaskFolder, ids: Iterable[str]) -> Changed:
    """Take cases out of the index by id."""
    embedder = fusing.embedder_named(read_manifest(folder.index).embedder, folder)
    with CaseIndex.open_for_update(
        folder.index, embedder=embedder.name, embedder_hash=embedder.weights_hash
    ) as cases:
        removed = cases.remove(ids)
        return Changed(len(cases), removed)
