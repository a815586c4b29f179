"""Accuracy of specialists over seeds, beside a plain timm fine-tune, and of every system.

    python -m benchmarks.accuracy specialists --data DIR --task NAME [--seeds 3]
    python -m benchmarks.accuracy systems --data DIR [--workspace W] [--limit N]

Writes `benchmarks/results/specialists-NAME.json` and `benchmarks/results/systems-TASK.json`, each
with n, seeds, versions and intervals.
"""

import argparse
import json
import platform
import sys
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np

import gsco
from gsco.construct import DEFAULT_BACKBONES, Plan, construct, targets_of
from gsco.datasets import Dataset, read_dataset
from gsco.task import task_named
from specialists.calibrate import quality
from specialists.classifier import load

RESULTS = Path(__file__).parent / "results"
NAMES = {
    "pneumoniamnist": ("pneumonia-cxr", "pneumoniamnist", {}),
    "breastmnist": ("breast-ultrasound", "breastmnist", {}),
    "brain-mri": ("brain-mri", "brain_tumor_mri", {}),
    "brain-mri-alt": ("brain-mri", "brain_tumor_mri", {"split_column": "alt_split"}),
    "breast-ultrasound-3": ("breast-ultrasound-3", "busi_breast_us", {}),
    "dermoscopy": ("dermoscopy", "dermoscopy_ham10000", {}),
    "white-cells": ("white-cells", "wbc_seg", {}),
}
PLAIN = "efficientnet-lite0"
"""The backbone whose plain timm fine-tune (the published recipe) stands beside ours."""


def versions() -> dict[str, str]:
    """Return what the figures depend on."""
    names = ("torch", "timm", "transformers", "numpy", "scikit-learn")
    return {"gsco": gsco.__version__, "python": platform.python_version()} | {
        name: version(name) for name in names
    }


def write(name: str, data: dict[str, object]) -> None:
    """Write a result with its command and versions."""
    RESULTS.mkdir(exist_ok=True)
    whole = {"command": " ".join(["python -m benchmarks.accuracy", *_public(sys.argv[1:])])}
    text = json.dumps({**whole, "versions": versions(), **data}, indent=1)
    (RESULTS / f"{name}.json").write_text(text + "\n")


def _public(words: list[str]) -> list[str]:
    """Leave the folder of the data out: it is a path of one machine."""
    return ["$GSCO_DATA" if Path(word).is_dir() and "/" in word else word for word in words]


def specialists(root: Path, name: str, seeds: int) -> None:
    """Train the default specialists and a plain fine-tune, once a seed; measure on test cases."""
    task, folder, columns = NAMES[name]
    dataset = read_dataset(root / folder, task_named(task), **columns)
    ours, plain = [], []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as scratch:
            ours.append(_best_on_test(dataset, Path(scratch), task, Plan(seed=seed)))
            paper = Plan(backbones=(PLAIN,), recipe="paper", seed=seed)
            plain.append(_best_on_test(dataset, Path(scratch), f"{task}-plain", paper))
        print(name, seed, ours[-1], plain[-1], flush=True)
    write(
        f"specialists-{name}",
        {
            "data": dataset.name,
            "n_test": len(dataset.split("test")),
            "failures": 0,
            "seeds": list(range(seeds)),
            "best_of": DEFAULT_BACKBONES,
            "ours": _summary(ours),
            "plain_timm": _summary(plain),
        },
    )


def _best_on_test(dataset: Dataset, scratch: Path, task: str, plan: Plan) -> dict[str, object]:
    construct(dataset, scratch, task, plan, progress=_show)
    folder = scratch / "tasks" / task
    best = json.loads((folder / "fusion.json").read_text())["best"]
    specialist = load(folder / "specialists" / best)
    records = dataset.split("test")
    said = specialist.predict([record.open() for record in records])
    shown = np.array([opinion.probabilities for opinion in said])
    return {"best": best, **asdict(quality(shown, targets_of(records, dataset.task)))}


def _summary(runs: list[dict[str, object]]) -> dict[str, object]:
    keys = ("auc", "accuracy", "balanced_accuracy", "ece")
    values = {k: [float(str(r[k])) for r in runs if r[k] is not None] for k in keys}
    means = {k: float(np.mean(v)) if v else None for k, v in values.items()}
    spread = {k: float(np.std(v, ddof=1)) if len(v) > 1 else None for k, v in values.items()}
    return {"runs": runs, "mean": means, "standard_deviation": spread}


def systems(root: Path, workspace: Path | None, limit: int | None, only: str | None) -> None:
    """Evaluate all systems on the test cases of every starter task."""
    from benchmarks.starter import datasets
    from gsco.agent import GSCo
    from gsco.case import SYSTEMS
    from gsco.evaluation.evaluate import evaluate

    agent = GSCo.open(workspace)
    for task, read in datasets(root).items():
        if task in agent.tasks and only in (None, task):
            rows = evaluate(agent, read(), task, SYSTEMS, limit=limit)
            write(f"systems-{task}", {"seed": 0, "rows": [asdict(row) for row in rows]})
            for row in rows:
                print(task, row.system, row.n, round(row.balanced_accuracy, 3), flush=True)


def _show(step: str, done: int, total: int) -> None:
    if step.startswith("train"):
        print(f"  {step}: {done}/{total}", file=sys.stderr, flush=True)


def main() -> None:
    """Run the part asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("specialists", "systems"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--task")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--limit", type=int)
    given = parser.parse_args()
    if given.part == "systems":
        systems(given.data, given.workspace, given.limit, given.task)
    else:
        for name in [given.task] if given.task else list(NAMES):
            specialists(given.data, name, given.seeds)


if __name__ == "__main__":
    main()
