"""Change the index of a constructed task: build anew, add cases, remove cases."""

from collections.abc import Iterable
from dataclasses import dataclass

from gsco import fusing
from gsco.datasets import Dataset
from gsco.datasets.leaks import entries_of, without_leaks
from gsco.errors import DataError
from gsco.progress import Progress
from gsco.voices import embedder_named, embedder_of
from gsco.workspace import TaskFolder
from retrieval import CaseIndex


@dataclass(frozen=True)
class Changed:
    """What became of an index."""

    count: int
    """Cases in it now."""
    dropped: int
    """Cases left out as leaks, or taken out."""


def rebuild(folder: TaskFolder, dataset: Dataset, index_with: str, progress: Progress) -> Changed:
    """Replace the index by one of the training cases of `dataset`."""
    entries = entries_of(dataset, progress)
    training = without_leaks(dataset, entries)
    if not training:
        raise DataError(f"{dataset.name!r} has no training case that may be indexed. Add some.")
    embedder = embedder_named(index_with, folder)
    fusing.build_index(folder, embedder, training, entries, progress)
    return Changed(len(training), len(dataset.split("train")) - len(training))


def add(folder: TaskFolder, dataset: Dataset, progress: Progress) -> Changed:
    """Add the training cases of `dataset` that are not in the index yet."""
    entries = entries_of(dataset, progress)
    training = without_leaks(dataset, entries)
    embedder = embedder_of(folder)
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
    embedder = embedder_of(folder)
    with CaseIndex.open_for_update(
        folder.index, embedder=embedder.name, embedder_hash=embedder.weights_hash
    ) as cases:
        removed = cases.remove(ids)
        return Changed(len(cases), removed)
