"""Make the starter workspace that ships with the package, from data whose licence allows it.

    python -m benchmarks.starter --data DIR [--out gsco/starter] [--task TASK]

`modality` is put together from six open sets, because Medical MNIST (CC BY-SA) may not be used
for weights that ship: it tells apart the kinds of image that those sets hold.
"""

import argparse
import csv
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from gsco.construct import Plan, construct
from gsco.datasets import Dataset, Record, Split, read_dataset
from gsco.demo import TEST_SETS
from gsco.task import Label, task_named

SOURCES = TEST_SETS
KINDS = {
    "cxr_pneumonia": "chest X-ray",
    "busi_breast_us": "breast ultrasound",
    "brain_tumor_mri": "brain MRI",
    "bccd_blood_cells": "blood smear",
    "fundus_chasedb1": "fundus photograph",
    "dsb2018_nuclei": "microscopy of cell nuclei",
}
LICENCES = "CC BY 4.0 (chest X-ray, ultrasound, fundus), MIT (MRI, blood smear), CC0 (nuclei)"
BACKBONES = ("mobilenetv3-small", "lcnet", "efficientnet-lite0")
"""What ships must stay small; the default's second EfficientNet-Lite would add 8 MB a task."""
MOST: dict[Split, int] = {"train": 110, "val": 45, "test": 60}


def modality(root: Path) -> Dataset:
    """Put the six kinds of image together, at most so many of each in a split."""
    labels = tuple(Label(text) for text in KINDS.values())
    task = replace(task_named("modality"), labels=labels)
    records: list[Record] = []
    for folder, text in KINDS.items():
        records += _chosen(root / folder, text)
    mark = hashlib.sha256("".join(r.id + r.split for r in records).encode()).hexdigest()
    return Dataset("open-modality", task, tuple(records), mark, LICENCES)


def _chosen(folder: Path, text: str) -> list[Record]:
    """Return at most `MOST` records of each split; a fifth of training is validation if none is."""
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: _mark(row["file"]))
    if not any(row["split"] == "val" for row in rows):
        training = [row for row in rows if row["split"] == "train"]
        for row in training[: len(training) // 5]:
            row["split"] = "val"
    return [
        Record(
            f"{folder.name}/{row['file']}",
            folder / row["file"],
            text,
            split,
            row["patient_id"] or None,
        )
        for split, most in MOST.items()
        for row in [row for row in rows if row["split"] == split][:most]
    ]


def _mark(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def datasets(root: Path) -> dict[str, Callable[[], Dataset]]:
    """Return how to read the data of each starter task."""

    def reader(task: str, folder: str) -> Callable[[], Dataset]:
        return lambda: read_dataset(root / folder, task_named(task))

    readers = {task: reader(task, folder) for task, folder in SOURCES.items()}
    return {**readers, "modality": lambda: modality(root)}


def main() -> None:
    """Construct every starter task, or the one asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("gsco/starter"))
    parser.add_argument("--task", action="append")
    parser.add_argument("--no-generalist", action="store_true")
    given = parser.parse_args()
    generalist = None
    if not given.no_generalist:
        from gsco.agent import open_generalist

        generalist = open_generalist()
    plan = Plan(backbones=BACKBONES)
    for task, read in datasets(given.data).items():
        if not given.task or task in given.task:
            outcome = construct(
                read(), given.out, task, plan, generalist=generalist, say=print, progress=_show
            )
            print(task, "trained", outcome.trained, "dropped", outcome.dropped, flush=True)


def _show(step: str, done: int, total: int) -> None:
    if done == total or (step.startswith("train") and done % 5 == 0):
        print(f"  {step}: {done}/{total}", flush=True)


if __name__ == "__main__":
    main()
