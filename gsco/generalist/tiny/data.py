"""The images that gsco-tiny learns from: only sets whose licence lets weights be shipped.

A training image that looks like one of validation or test, or is of the same patient, is left out.
"""

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
from numpy.typing import NDArray

from gsco.datasets import Record, Split
from gsco.datasets.leaks import entry_of
from gsco.errors import DataError
from gsco.task import Label, Task, task_named
from retrieval import Entry, overlaps
from specialists.embedder import independent_embedder
from specialists.images import resize

if TYPE_CHECKING:
    from torch import Tensor


MODALITY = Task(
    id="modality-tiny",
    title="Kind of picture",
    kind="single",
    labels=tuple(
        Label(text)
        for text in (
            "chest X-ray",
            "breast ultrasound",
            "brain MRI",
            "blood smear",
            "fundus photograph",
            "microscopy of cell nuclei",
        )
    ),
    modality="medical image",
    stem="Your task is to name the kind of examination. You are given a medical image.",
)


FEWEST = 50
"""Images of a task without which it is not said what each looks like."""


@dataclass(frozen=True)
class Source:
    """One folder of images, and the label of each of its classes."""

    folder: str
    labels: Mapping[str, str] | str
    """Label of the manifest to label of the task, or one label for all."""


_BRAIN = {
    "glioma": "glioma",
    "meningioma": "meningioma",
    "pituitary": "pituitary tumour",
    "no": "no tumour",
}
_TWO = {"malignant": "malignant", "benign": "normal or benign", "normal": "normal or benign"}
_THREE = {"malignant": "malignant", "benign": "benign", "normal": "normal"}

SOURCES: Mapping[str, tuple[Source, ...]] = {
    "pneumonia-cxr": (Source("cxr_pneumonia", {"normal": "normal", "pneumonia": "pneumonia"}),),
    "breast-ultrasound": (Source("busi_breast_us", _TWO),),
    "breast-ultrasound-3": (Source("busi_breast_us", _THREE),),
    "brain-mri": (Source("brain_tumor_mri", _BRAIN),),
    MODALITY.id: (
        Source("cxr_pneumonia", "chest X-ray"),
        Source("busi_breast_us", "breast ultrasound"),
        Source("brain_tumor_mri", "brain MRI"),
        Source("bccd_blood_cells", "blood smear"),
        Source("fundus_chasedb1", "fundus photograph"),
        Source("dsb2018_nuclei", "microscopy of cell nuclei"),
    ),
}
"""Task to its sources. None forbids shipping: CC BY 4.0, MIT and CC0."""


@dataclass(frozen=True)
class Examples:
    """One task's images of one split."""

    task: Task
    rows: "Tensor"
    """(n,) rows of the pixels."""
    targets: "Tensor"
    """(n,) numbers of the task's labels."""
    fresh: "Tensor"
    """(n,) whether an image is kept for learning to weigh: no earlier stage tells its label or that
    of its like, since evidence beside an image that is known by heart would not be needed."""
    doubts: "Tensor | None" = None
    """(n, C) float32, see `doubts_of`."""


@dataclass(frozen=True)
class Pictures:
    """Every image once, and what each task makes of it."""

    pixels: "Tensor"
    """(N, 3, S, S) uint8."""
    tasks: tuple[Examples, ...]
    content: tuple[str, ...]
    """The content hash of each image."""
    left_out: int
    """Training images that looked like validation or test images."""

    @property
    def fingerprint(self) -> str:
        """A hash that changes with the images, their labels and what is kept for weighing."""
        parts = [(e.rows, e.targets, e.fresh) for e in self.tasks]
        labels = [[part.tolist() for part in parts_of] for parts_of in parts]
        said = [self.content, [e.task.to_toml() for e in self.tasks], labels]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def tasks() -> tuple[Task, ...]:
    """Return the tasks that gsco-tiny learns."""
    return tuple(MODALITY if name == MODALITY.id else task_named(name) for name in SOURCES)


def load_pictures(root: Path, split: Literal["train", "val"], size: int) -> Pictures:
    """Read the images of `split`; for training, those of other splits too, to leave out their like.

    Raises:
        DataError: a folder, a label, or a label's images are missing.
    """
    import torch

    records: dict[str, list[Record]] = {}
    starts: dict[str, int] = {}
    fresh: dict[str, set[str]] = {}
    left_out = 0
    pixels: list[NDArray[np.uint8]] = []
    content: list[str] = []
    features: list[NDArray[np.float32]] = []
    for folder in sorted({source.folder for sources in SOURCES.values() for source in sources}):
        found = _records(root / folder)
        mine = [record for record in found if record.split == split]
        images = [record.open() for record in mine]
        entries = [entry_of(r, folder, image) for r, image in zip(mine, images, strict=True)]
        held_out = [record for record in found if split == "train" and record.split != split]
        leaks = {o.a for o in overlaps(entries, [entry_of(r, folder) for r in held_out])}
        kept = [number for number, record in enumerate(mine) if record.id not in leaks]
        starts[folder], records[folder] = len(pixels), [mine[number] for number in kept]
        left_out += len(mine) - len(kept)
        fresh[folder] = _fresh([entries[number] for number in kept])
        pixels += [resize(images[number], size) for number in kept]
        content += [entries[number].content_hash for number in kept]
        if split == "train":
            features.append(independent_embedder().embed([images[number] for number in kept]))
    examples = [_examples(task, records, starts, fresh) for task in tasks()]
    if split == "train":
        _check_classes(examples)
        people = [r.patient or r.id for part in records.values() for r in part]
        known = np.concatenate(features)
        examples = [_doubted(one, known, people) for one in examples]
    return Pictures(torch.from_numpy(np.stack(pixels)), tuple(examples), tuple(content), left_out)


def _examples(
    task: Task,
    records: Mapping[str, Sequence[Record]],
    starts: Mapping[str, int],
    kept_fresh: Mapping[str, set[str]],
) -> Examples:
    import torch

    rows, targets, fresh = [], [], []
    for source in SOURCES[task.id]:
        for number, record in enumerate(records[source.folder]):
            named = source.labels
            label = named if isinstance(named, str) else named[record.labels[0]]
            rows.append(starts[source.folder] + number)
            targets.append(task.texts.index(label))
            fresh.append(record.id in kept_fresh[source.folder])
    return Examples(task, torch.tensor(rows), torch.tensor(targets), torch.tensor(fresh))


def _check_classes(examples: Sequence[Examples]) -> None:
    for one in examples:
        if missing := set(range(len(one.task.texts))) - set(one.targets.tolist()):
            label = one.task.texts[min(missing)]
            raise DataError(
                f"No training image of {label!r} (task {one.task.id!r}) is left that does not "
                "look like one of validation or test. Add some."
            )


def _doubted(examples: Examples, features: NDArray[np.float32], people: Sequence[str]) -> Examples:
    rows, texts = examples.rows.tolist(), examples.task.texts
    whose = [people[row] for row in rows]
    doubts = doubts_of(features[rows], examples.targets.numpy(), whose, len(texts))
    return replace(examples, doubts=doubts)


def doubts_of(
    features: NDArray[np.float32], targets: NDArray[np.int64], people: Sequence[str], count: int
) -> "Tensor | None":
    """Return (n, C) float32: how much more each image looks like each label than others of its own.

    An image that one network mistakes is mistaken by others, too, and in the same direction. It is
    what a linear reading of features says that was fitted to other people's images, less its mean
    over the images of the same label; in the scale of noise of deviation 1 on each label, of which
    only differences matter. None if there are fewer than `FEWEST` images.

    Args:
        features: (n, D) of the images.
        targets: (n,) numbers of their labels.
        people: (n,) whose images they are.
        count: C, how many labels there are.
    """
    import torch

    if len(targets) < FEWEST:
        return None
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    linear = make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 5, 11)))
    truth = np.eye(count)[targets]
    said = cross_val_predict(linear, features, truth, groups=people, cv=GroupKFold(5))
    rest = said - truth @ np.linalg.lstsq(truth, said)[0]
    rest -= rest.mean(1, keepdims=True)
    scaled = rest * np.sqrt((count - 1) / count) / rest.std(0).clip(1e-9)
    return torch.from_numpy(scaled.astype(np.float32))


def _fresh(entries: Sequence[Entry]) -> set[str]:
    """Keep a quarter of the patients, and with each image those that look like it."""
    fresh = [e for e in entries if _is_drawn(e.patient or e.id)]
    others = [e for e in entries if not _is_drawn(e.patient or e.id)]
    while alike := {overlap.b for overlap in overlaps(fresh, others)}:
        fresh += [e for e in others if e.id in alike]
        others = [e for e in others if e.id not in alike]
    return {e.id for e in fresh}


def _is_drawn(patient: str) -> bool:
    return hashlib.sha256(patient.encode()).digest()[0] < 64


def _records(folder: Path) -> list[Record]:
    path = folder / "manifest.csv"
    if not path.is_file():
        raise DataError(f"No {str(path)!r}. Give the folder that holds the data sets as --data.")
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Record(
                row["file"],
                folder / row["file"],
                row["label"],
                cast(Split, row["split"]),
                row.get("patient_id") or None,
            )
            for row in csv.DictReader(file)
        ]
