"""Accuracy on test cases: the best specialist over seeds, and every system on the same cases.

    python -m benchmarks.accuracy --data DIR --work W [--set NAME ...] [--only systems]

Constructs each set in the workspace W, goes on where it was killed, and writes
`benchmarks/results/specialists-NAME.json` and `systems-NAME.json`, each with n, seeds, versions and
intervals. A plain fine-tune of the same backbone by the published recipe stands beside ours. After
a change of the generalist or the prompts, `--only systems` is enough: one seed, no fine-tune.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import show, write
from benchmarks.starter import BACKBONES, modality
from gsco.agent import GSCo, open_generalist
from gsco.case import SYSTEMS
from gsco.construct import DEFAULT_BACKBONES, Plan, construct
from gsco.datasets import Dataset, read_dataset, targets_of
from gsco.evaluation.evaluate import evaluate
from gsco.evaluation.metrics import interval, resamples
from gsco.task import task_named
from gsco.workflow import READING_SYSTEMS
from gsco.workspace import TaskFolder, starter
from specialists.calibrate import quality
from specialists.classifier import load

PLAIN = "efficientnet-lite0"
"""The backbone whose plain fine-tune (the published recipe) stands beside ours."""
METRICS = ("auc", "accuracy", "balanced_accuracy", "ece")


@dataclass(frozen=True)
class Set:
    """A data set as it is measured."""

    card: str
    folder: str
    seeds: int = 1
    plain: bool = True
    """Whether a plain fine-tune is trained beside it."""
    split_column: str = "split"
    ships: bool = False
    """Whether the starter workspace is measured instead of a new one."""
    reads: bool = True
    """Whether the generalist is asked: not where it learnt from images of the same source."""


SETS: Mapping[str, Set] = {
    "breastmnist": Set("breast-ultrasound", "breastmnist", seeds=3, plain=False, reads=False),
    "pneumoniamnist": Set("pneumonia-cxr", "pneumoniamnist", seeds=3, plain=False, reads=False),
    "white-cells": Set("white-cells", "wbc_seg"),
    "breast-ultrasound-3": Set("breast-ultrasound-3", "busi_breast_us"),
    "dermoscopy": Set("dermoscopy", "dermoscopy_ham10000"),
    "brain-mri": Set("brain-mri", "brain_tumor_mri", ships=True),
    "brain-mri-alt": Set("brain-mri", "brain_tumor_mri", split_column="alt_split", reads=False),
    "pneumonia-cxr": Set("pneumonia-cxr", "cxr_pneumonia", plain=False, ships=True),
    "breast-ultrasound": Set("breast-ultrasound", "busi_breast_us", plain=False, ships=True),
    "modality": Set("modality", "", plain=False, ships=True),
}


def read(root: Path, name: str) -> Dataset:
    """Read a set by its name here."""
    chosen = SETS[name]
    if not chosen.folder:
        return modality(root)
    return read_dataset(
        root / chosen.folder, task_named(chosen.card), split_column=chosen.split_column
    )


COMMAND = "python -m benchmarks.accuracy --data $GSCO_DATA --work W --set"


def compare_specialists(root: Path, work: Path, name: str) -> None:
    """Construct a set once a seed, and measure its best specialists."""
    chosen, dataset = SETS[name], read(root, name)
    generalist = open_generalist() if chosen.reads else None
    ours, plain = [], []
    for seed in range(chosen.seeds):
        # The first seed's workspace is also the one whose systems are compared.
        reader = generalist if seed == 0 else None
        folder = starter() if chosen.ships else work / f"seed-{seed}"
        if not chosen.ships:
            construct(dataset, folder, name, Plan(seed=seed), generalist=reader, progress=show)
        ours.append(Measured.of(TaskFolder(folder, name), dataset))
        if chosen.plain:
            plan = Plan(backbones=(PLAIN,), recipe="paper", seed=seed)
            construct(dataset, work / f"plain-{seed}", name, plan, progress=show)
            plain.append(Measured.of(TaskFolder(work / f"plain-{seed}", name), dataset))
    figures = {
        "best_of": BACKBONES if chosen.ships else DEFAULT_BACKBONES,
        "ours": summary(ours, dataset),
        "plain_timm": summary(plain, dataset) if plain else None,
    }
    seeds = list(range(chosen.seeds))
    facts = {**_facts(name, dataset), "failures": 0, "seeds": seeds}
    write(f"specialists-{name}", f"{COMMAND} {name}", {**facts, **figures})


def compare_systems(root: Path, work: Path, name: str) -> None:
    """Construct a set if need be, and measure all systems."""
    chosen, dataset = SETS[name], read(root, name)
    generalist = open_generalist() if chosen.reads else None
    first = starter() if chosen.ships else work / "seed-0"
    if not chosen.ships:
        construct(dataset, first, name, Plan(seed=0), generalist=generalist, progress=show)
    agent = GSCo.open(first, generalist=generalist)
    systems = [s for s in SYSTEMS if generalist or s not in READING_SYSTEMS]
    rows = [asdict(row) for row in evaluate(agent, dataset, name, systems, progress=show)]
    failures = sum(row["failures"] for row in rows)
    reader = generalist.name if generalist else "not asked: it learnt from the same source"
    about = {"generalist": reader, "failures": failures, "seed": 0}
    command = f"{COMMAND} {name} --only systems"
    write(f"systems-{name}", command, {**_facts(name, dataset), **about, "rows": rows})
    print(name, {row["system"]: round(row["balanced_accuracy"], 3) for row in rows}, flush=True)


def _facts(name: str, dataset: Dataset) -> dict[str, object]:
    tested = len(dataset.split("test"))
    return {"data": dataset.name, "card": SETS[name].card, "n_test": tested}


@dataclass(frozen=True)
class Measured:
    """The specialist that was best on validation, on the test cases."""

    best: str
    probabilities: NDArray[np.float64]

    @classmethod
    def of(cls, folder: TaskFolder, dataset: Dataset) -> "Measured":
        """Ask the best specialist of a constructed task."""
        best = folder.read_fusion().best
        images = [record.open() for record in dataset.split("test")]
        said = load(folder.specialist(best)).predict(images)
        return cls(best, np.array([opinion.probabilities for opinion in said]))


def summary(runs: Sequence[Measured], dataset: Dataset) -> dict[str, Any]:
    """Return each seed's figures, their mean, and a bootstrap interval of the mean over cases."""
    records = dataset.split("test")
    targets = targets_of(records, dataset.task)
    draws = resamples([r.patient or r.id for r in records], 1000, seed=0)
    each = [{"best": r.best, **asdict(quality(r.probabilities, targets))} for r in runs]

    def mean_of(metric: str) -> Callable[[NDArray[np.int64]], float | None]:
        def mean(rows: NDArray[np.int64]) -> float | None:
            found = [getattr(quality(r.probabilities[rows], targets[rows]), metric) for r in runs]
            return None if None in found else float(np.mean(found))

        return mean

    whole = np.arange(len(targets))
    return {
        "runs": each,
        "mean": {metric: mean_of(metric)(whole) for metric in METRICS},
        "interval": {metric: interval(mean_of(metric), draws) for metric in METRICS},
    }


def main() -> None:
    """Run the sets asked for, smallest first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder of the workspaces")
    parser.add_argument("--set", action="append", choices=list(SETS))
    parser.add_argument("--only", choices=["specialists", "systems"])
    given = parser.parse_args()
    for name in given.set or SETS:
        if given.only != "systems":
            compare_specialists(given.data, given.work, name)
        if given.only != "specialists":
            compare_systems(given.data, given.work, name)


if __name__ == "__main__":
    main()
