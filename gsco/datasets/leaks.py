"""What keeps training apart from validation and test: fingerprints, and who is left out by them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gsco.datasets.record import Dataset, Record
from gsco.progress import Progress
from retrieval import Entry, fingerprint, overlaps

if TYPE_CHECKING:
    from PIL import Image


def entry_of(record: Record, source: str, image: "Image.Image | None" = None) -> Entry:
    """Return the index's entry of a record, with fingerprints; give `image` if it is open."""
    prints = fingerprint(record.open() if image is None else image)
    return Entry(
        id=record.id,
        labels=record.labels,
        patient=record.patient,
        source=source,
        content_hash=prints.content_hash,
        perceptual_hash=prints.perceptual_hash,
        report=record.report,
    )


def entries_of(
    dataset: Dataset, progress: Progress = lambda step, done, total: None
) -> dict[str, Entry]:
    """Return the entry of every record of all splits, by its id."""
    found = {}
    for done, record in enumerate(dataset.records, 1):
        found[record.id] = entry_of(record, dataset.name)
        progress("read images", done, len(dataset.records))
    return found


def without_leaks(
    dataset: Dataset, entries: Mapping[str, Entry], others: Sequence[Entry] = ()
) -> list[Record]:
    """Return the training records that are no near-duplicates of validation or test cases.

    `others` are held out by other sets. They are compared by their looks: pseudonyms of patients
    may be the same in two sets by chance.
    """
    training = dataset.split("train")
    held_out = [entries[r.id] for r in dataset.records if r.split != "train"]
    held_out += [replace(entry, patient=None) for entry in others]
    leaks = {o.a for o in overlaps([entries[r.id] for r in training], held_out)}
    return [record for record in training if record.id not in leaks]
