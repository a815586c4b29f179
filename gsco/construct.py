"""Construction: from labelled images to specialists, calibration, index, fusion and a report.

Each step writes its result whole and knows it again, so a killed construction goes on, and a
finished one does nothing. Training, index and validation cases never overlap: by patient and
content where the data are read, by near-duplicate here, with the number dropped.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock

import gsco
from gsco import fusing, fusion
from gsco.datasets import Dataset, Record, targets_of
from gsco.datasets.leaks import entries_of, without_leaks
from gsco.errors import DataError, GscoError
from gsco.fusion import check_coverage
from gsco.progress import Progress, Say
from gsco.task import Task, validate
from gsco.workspace import TaskFolder, write_text, writing
from specialists import Backbone, Card, backbone_named
from specialists.calibrate import quality

if TYPE_CHECKING:
    from gsco.generalist import Generalist
    from specialists.train import Part, RecipeName

SMALL = 64
"""Pixels a side up to which images that are all alike were made small, as those of MedMNIST."""
DEFAULT_BACKBONES = ("mobilenetv3-small", "efficientnet-lite0", "efficientnet-lite1")


@dataclass(frozen=True)
class Plan:
    """What to construct, and how."""

    backbones: tuple[str, ...] = DEFAULT_BACKBONES
    recipe: "RecipeName" = "default"
    seed: int = 0
    coverage: float = 0.9
    """Of the prediction sets, in (0, 1)."""
    pretrained: bool = True
    """Start backbones from their first weights where they have some."""
    index_with: str = "independent"
    """`independent`, or the name of a specialist whose own features to use (the paper)."""


@dataclass(frozen=True)
class Outcome:
    """What a construction did."""

    folder: Path
    trained: tuple[str, ...]
    """Specialists trained in this run."""
    dropped: int
    """Training cases left out as near-duplicates of validation or test cases."""
    nothing_to_do: bool = False


def construct(
    dataset: Dataset,
    workspace: Path,
    name: str,
    plan: Plan,
    *,
    generalist: "Generalist | None" = None,
    say: Say = lambda text: None,
    progress: Progress = lambda step, done, total: None,
) -> Outcome:
    """Construct one task in a workspace.

    Args:
        dataset: labelled images in three splits.
        workspace: folder to write into.
        name: the task's id in the workspace.
        plan: backbones, recipe, seed, coverage.
        generalist: whose readings to calibrate; None to leave them out.
        say: told a sentence now and then.
        progress: told how far each long step is.

    Raises:
        UsageError: the name cannot be a folder's.
        DataError: the data have no validation or no training part.
        FusionError: too few validation cases for the coverage.
        GscoError: as each part raises it.
    """
    for backbone in plan.backbones:
        backbone_named(backbone)
    dataset = replace(dataset, task=replace(dataset.task, id=name))
    validate(dataset.task)
    if not dataset.split("train") or not dataset.split("val"):
        raise DataError(f"{dataset.name!r} has no training or no validation cases. Add some.")
    check_coverage(len(dataset.split("val")), plan.coverage)
    folder = TaskFolder(workspace, name)
    with writing(name):
        folder.path.mkdir(parents=True, exist_ok=True)
        (folder.path / ".lock").touch()
    with FileLock(folder.path / ".lock"):
        key = _key(dataset, plan, generalist)
        if _is_current(folder, key):
            return Outcome(folder.path, (), 0, nothing_to_do=True)
        return _construct(folder, dataset, plan, generalist, key, say, progress)


def _construct(
    folder: TaskFolder,
    dataset: Dataset,
    plan: Plan,
    generalist: "Generalist | None",
    key: str,
    say: Say,
    progress: Progress,
) -> Outcome:
    from gsco import construction_report

    for note in dataset.notes:
        say(note)
    entries = entries_of(dataset, progress)
    training = without_leaks(dataset, entries)
    dropped = len(dataset.split("train")) - len(training)
    if dropped:
        say(f"{dropped} training cases look like validation or test cases; left out.")
    if not training:
        raise DataError(
            f"{dataset.name!r} has no training case that is not also a validation or test case. "
            "Add some."
        )
    (folder.path / "done.json").unlink(missing_ok=True)
    write_text(folder.path / "task.toml", dataset.task.to_toml())
    size = _small_size(training)
    if size:
        say(construction_report.shrinks(size))
    write_text(folder.path / "data.json", _data(dataset, training, dropped, size))
    _remove_strangers(folder, dataset, plan, say)
    trained = [
        backbone
        for backbone in plan.backbones
        if _specialist(folder, dataset, backbone_named(backbone), training, plan, progress)
    ]
    fusing.index(folder, training, entries, plan.index_with, progress)
    validation = dataset.split("val")
    fusing.fit(
        folder, dataset.task, training, validation, entries, plan.coverage, generalist, progress
    )
    construction_report.write(folder)
    write_text(folder.path / "done.json", json.dumps({"key": key, "gsco": gsco.__version__}))
    shutil.rmtree(folder.build, ignore_errors=True)
    return Outcome(folder.path, tuple(trained), dropped)


def _key(dataset: Dataset, plan: Plan, generalist: "Generalist | None") -> str:
    reader = generalist.identity if generalist else None
    makes = [gsco.__version__, fusion.VERSION]
    facts = [dataset.fingerprint, dataset.task.to_toml(), asdict(plan), reader, *makes]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _is_current(folder: TaskFolder, key: str) -> bool:
    from retrieval import RetrievalError, storage
    from specialists import SpecialistError
    from specialists.card import file_sha256
    from specialists.classifier import WEIGHTS, load_card
    from specialists.registry import installed

    # Whatever is missing or damaged is made again: that is what a second run is for.
    try:
        if folder.read_json("done.json").get("key") != key:
            return False
        for name in set(folder.read_fusion().specialists) - set(installed(folder.name)):
            card = load_card(folder.specialist(name))
            weights = folder.specialist(name) / WEIGHTS
            if not weights.exists() or file_sha256(weights) != card.weights_sha256:
                return False
        storage.read(folder.index)
    except (GscoError, SpecialistError, RetrievalError):
        return False
    return True


def _remove_strangers(folder: TaskFolder, dataset: Dataset, plan: Plan, say: Say) -> None:
    """Remove specialists of other data: they may have been trained on what is now held out."""
    from specialists import SpecialistError
    from specialists.classifier import load_card

    for name in folder.specialists():
        if name in plan.backbones:
            continue
        try:
            card = load_card(folder.specialist(name))
            fits = (card.data_fingerprint, card.labels) == (
                dataset.fingerprint,
                dataset.task.texts,
            )
        except SpecialistError:
            fits = False
        if not fits:
            say(f"Specialist {name!r} was trained on other data; removed.")
            shutil.rmtree(folder.specialist(name))


def _small_size(training: Sequence[Record]) -> tuple[int, int] | None:
    """Return the width and height of the images where all are alike and small, else None."""
    first = training[0].open().size
    alike = max(first) <= SMALL and all(record.open().size == first for record in training)
    return first if alike else None


def _data(
    dataset: Dataset, training: Sequence[Record], dropped: int, size: tuple[int, int] | None
) -> str:
    texts = dataset.task.texts
    counts = {
        split: {text: sum(text in r.labels for r in dataset.split(split)) for text in texts}
        for split in ("train", "val", "test")
    }
    facts = {
        "name": dataset.name,
        "licence": dataset.licence,
        "fingerprint": dataset.fingerprint,
        "columns": dataset.columns,
        "counts": counts,
        "trained_on": len(training),
        "near_duplicates_dropped": dropped,
        "image_size": size,
        "notes": list(dataset.notes),
    }
    return json.dumps(facts, indent=1)


def _specialist(
    folder: TaskFolder,
    dataset: Dataset,
    backbone: Backbone,
    training: Sequence[Record],
    plan: Plan,
    progress: Progress,
) -> bool:
    """Train and save one specialist unless it is there; return whether it was trained."""
    from specialists.classifier import save
    from specialists.train import train

    target = folder.specialist(backbone.name)
    if _is_trained(target, dataset, plan, len(training)):
        return False
    task, size = dataset.task, backbone.input_size
    build = folder.build / dataset.fingerprint[:12]
    with writing("build"):
        parts = {
            "train": _part(build, "train", training, task, size, folder.learnt_size),
            "val": _part(build, "val", dataset.split("val"), task, size, folder.learnt_size),
        }
    checkpoint = build / f"{backbone.name}-{plan.recipe}-{plan.seed}.pt"
    result = train(
        backbone,
        parts["train"],
        parts["val"],
        len(task.texts),
        recipe=plan.recipe,
        seed=plan.seed,
        checkpoint=checkpoint,
        pretrained=plan.pretrained,
        progress=lambda done, planned, loss: progress(f"train {backbone.name}", done, planned),
    )
    scaled = result.logits / result.temperature
    probabilities = fusion.probabilities_of(scaled, task.kind)
    card = Card(
        name=backbone.name,
        task=folder.name,
        backbone=backbone,
        labels=task.texts,
        kind=task.labelling,
        recipe=plan.recipe,
        seed=plan.seed,
        epochs=result.epochs,
        data=dataset.name,
        data_licence=dataset.licence or "unknown",
        data_fingerprint=dataset.fingerprint,
        n_train=len(training),
        temperature=result.temperature,
        validation=quality(probabilities, parts["val"].targets),
        weights_sha256="",
    )
    with writing(f"specialists/{backbone.name}"):
        save(target, card, result.network)
    for file in build.glob(f"{checkpoint.stem}.*"):
        file.unlink()
    return True


def _is_trained(target: Path, dataset: Dataset, plan: Plan, n_train: int) -> bool:
    """Whether a folder holds a whole specialist that was trained on these data as planned."""
    from specialists import SpecialistError
    from specialists.classifier import load

    try:
        card = load(target).card
    except SpecialistError:
        return False
    there = (card.data_fingerprint, card.recipe, card.seed, card.labels, card.n_train)
    return there == (dataset.fingerprint, plan.recipe, plan.seed, dataset.task.texts, n_train)


def _part(
    build: Path,
    split: str,
    records: Sequence[Record],
    task: Task,
    size: int,
    learnt: tuple[int, int] | None,
) -> "Part":
    from specialists.images import reduced, stack
    from specialists.train import Part

    build.mkdir(parents=True, exist_ok=True)
    names = hashlib.sha256("\n".join(r.id for r in records).encode()).hexdigest()[:12]
    file = build / f"{split}-{size}-{names}.npy"
    if not file.exists():
        images = (reduced(record.open(), learnt) for record in records)
        stack(images, len(records), size, file)
    return Part(np.load(file, mmap_mode="r"), targets_of(records, task))
