"""Across domains: what systems learnt in one place is asked about images of another.

    python -m benchmarks.domains --data DIR --work W [--move NAME ...]

Each move is asked twice: with the index of the source, and with an index of the target's own
labelled cases, of which none is asked about. Nothing else is fitted anew. Writes
`benchmarks/results/domains-NAME.json` with n, seed, versions and intervals. Dermoscopy's second
source tells melanoma from the rest only, so there the probability of melanoma is measured (AUC),
and no index of the target can be made. BreastMNIST's images are BUSI's at 28 pixels: they are
paired by their looks, and what learnt the small ones is asked about the native size of test images.
"""

import argparse
import csv
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from benchmarks.record import show, write
from gsco.agent import GSCo, open_generalist
from gsco.case import SYSTEMS, Case, System
from gsco.construct import Plan, construct
from gsco.datasets import Dataset, Record, Split, read_dataset
from gsco.evaluation.evaluate import evaluate
from gsco.evaluation.metrics import interval, resamples
from gsco.generalist import Generalist
from gsco.indexing import rebuild
from gsco.task import task_named
from gsco.workflow import READING_SYSTEMS
from gsco.workspace import TaskFolder, starter, write_text
from specialists.calibrate import auc

COMMAND = "python -m benchmarks.domains --data $GSCO_DATA --work W --move"


@dataclass(frozen=True)
class Move:
    """From where to where."""

    task: str
    folder: str
    says: str


MOVES: Mapping[str, Move] = {
    "brain-mri": Move("brain-mri", "brain_tumor_mri", "official Training to Testing folder"),
    "white-cells-1-2": Move("white-cells", "wbc_seg", "stain dataset1 to dataset2"),
    "white-cells-2-1": Move("white-cells", "wbc_seg", "stain dataset2 to dataset1"),
    "dermoscopy": Move("dermoscopy", "dermoscopy_ham10000", "HAM10000 to its external part"),
    "native-size": Move("breast-ultrasound", "busi_breast_us", "BreastMNIST to its native size"),
}
SMALL = "breastmnist"
"""Where the small images of the move to native size are."""
SIDE = 28
TWINS = 0.99
"""Correlation from which a native image, made small, is that of the small set."""


def column(folder: Path, name: str) -> dict[str, str]:
    """Return file to what stands in a column of the manifest."""
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return {row["file"]: row[name] for row in csv.DictReader(file)}


def parted(dataset: Dataset, splits: Mapping[str, Split]) -> Dataset:
    """Return the records that `splits` names, in the splits that it says."""
    records = [replace(r, split=splits[r.id]) for r in dataset.records if r.id in splits]
    mark = hashlib.sha256("".join(sorted(f"{r.id} {r.split}" for r in records)).encode())
    return replace(dataset, records=tuple(records), fingerprint=mark.hexdigest())


def source_and_target(root: Path, name: str) -> tuple[Dataset | None, Dataset]:
    """Return what is learnt from (None: the starter workspace did), and the target's two parts.

    Of the target, `train` may be indexed and `test` is asked about.
    """
    move = MOVES[name]
    folder = root / move.folder
    dataset = read_dataset(folder, task_named(move.task))
    if name == "brain-mri":
        other = column(folder, "alt_split")
        target = [r.id for r in dataset.split("test")]
        parts: dict[str, Split] = {i: "train" if other[i] == "train" else "test" for i in target}
        return None, parted(dataset, parts)
    here, there = (f"dataset{number}" for number in name.split("-")[-2:])
    stain = column(folder, "source")
    learnt = {r.id: r.split for r in dataset.records if stain[r.id] == here and r.split != "test"}
    # What was held out for calibration in the target is asked about as well: it is small.
    asked: dict[str, Split] = {
        r.id: "train" if r.split == "train" else "test"
        for r in dataset.records
        if stain[r.id] == there
    }
    return parted(dataset, learnt), parted(dataset, asked)


def copied(first: Path, copy: Path, task: str) -> TaskFolder:
    """Put a copy of a workspace in the place of what was there; return the task in it."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(first, copy)
    return TaskFolder(copy, task)


def indexed_anew(first: Path, second: Path, task: str, target: Dataset) -> int:
    """Copy a workspace, give it an index of the target's labelled cases; return how many."""
    return rebuild(copied(first, second, task), target, "independent", show).count


def unaware(first: Path, copy: Path, task: str) -> Path:
    """Copy a workspace so that it does not know the size of the images it learnt from."""
    folder = copied(first, copy, task)
    facts = {**folder.read_json("data.json"), "image_size": None}
    write_text(folder.path / "data.json", json.dumps(facts))
    return copy


def told(
    what: str, agent: GSCo, dataset: Dataset, task: str, systems: Sequence[System]
) -> list[dict[str, Any]]:
    """Ask systems about test cases; tell how they did, and return the rows."""
    found = evaluate(agent, dataset, task, systems, progress=show)
    print(what, {row.system: round(row.balanced_accuracy, 3) for row in found}, flush=True)
    return [asdict(row) for row in found]


def twins(small: Dataset, native: Dataset) -> dict[str, Record]:
    """Return id of a native image to the record of the small set that was made from it.

    A small image is the middle square of a native one. Those without a twin are left out, and those
    that look like small images of several splits: the set holds copies.
    """
    known = np.stack([_outline(record.open()) for record in small.records])
    found = {}
    for record in native.records:
        alike = known @ _outline(record.open())
        splits = {small.records[i].split for i in np.flatnonzero(alike > TWINS)}
        if len(splits) == 1:
            found[record.id] = small.records[int(alike.argmax())]
    return found


def _outline(image: Image.Image) -> NDArray[np.float64]:
    """Return an image's middle square as a (784,) vector of mean 0 and length 1."""
    square = ImageOps.fit(image.convert("L"), (SIDE, SIDE), Image.Resampling.BICUBIC)
    pixels = np.asarray(square, dtype=np.float64).ravel()
    pixels = pixels - pixels.mean()
    unit: NDArray[np.float64] = pixels / max(float(np.linalg.norm(pixels)), 1e-9)
    return unit


def measured_size(root: Path, work: Path) -> None:
    """Ask what learnt small images about test images at native size, with either index.

    gsco-tiny learnt from native images of the same source, so it is not asked. Beside stand the
    same test cases at 28 pixels, and at native size by a copy that does not know how small it
    learnt.
    """
    move = MOVES["native-size"]
    task = task_named(move.task)
    small, native = read_dataset(root / SMALL, task), read_dataset(root / move.folder, task)
    pairs = twins(small, native)
    parts = {name: one.split for name, one in pairs.items() if one.split != "val"}
    target = parted(native, parts)
    tested = {one.id for one in pairs.values() if one.split == "test"}
    kept = {r.id: r.split for r in small.records if r.split != "test" or r.id in tested}
    first, second = work / "native-size-source", work / "native-size-target"
    source = parted(small, kept)
    construct(source, first, move.task, Plan(seed=0), progress=show)
    indexed = indexed_anew(first, second, move.task, target)
    third = unaware(first, work / "native-size-unaware", move.task)
    systems = [system for system in SYSTEMS if system not in READING_SYSTEMS]
    asked = {
        "small": (first, source),
        "unaware": (third, target),
        "source": (first, target),
        "target": (second, target),
    }
    rows = {
        which: told(f"native-size {which}", GSCo.open(folder), dataset, move.task, systems)
        for which, (folder, dataset) in asked.items()
    }
    facts = {
        "move": move.says,
        "task": move.task,
        "generalist": "not asked: it learnt from the same source",
        "n": len(target.split("test")),
        "left_out": len(native.records) - len(pairs),
        "indexed_of_target": indexed,
        "failures": sum(row["failures"] for found in rows.values() for row in found),
        "seed": 0,
        "small": rows.pop("small"),
        "unaware": rows.pop("unaware"),
    }
    write("domains-native-size", f"{COMMAND} native-size", {**facts, "rows": rows})


def measured_move(root: Path, work: Path, name: str, generalist: Generalist) -> None:
    """Ask all systems about the target, with either index."""
    move = MOVES[name]
    source, target = source_and_target(root, name)
    first, second = work / f"{name}-source", work / f"{name}-target"
    if source is None:
        shutil.copytree(starter(), first, dirs_exist_ok=True)
    else:
        construct(source, first, move.task, Plan(seed=0), generalist=generalist, progress=show)
    indexed = indexed_anew(first, second, move.task, target)
    rows = {
        which: told(
            f"{name} {which}",
            GSCo.open(folder, generalist=generalist),
            target,
            move.task,
            list(SYSTEMS),
        )
        for which, folder in (("source", first), ("target", second))
    }
    facts = {
        "move": move.says,
        "task": move.task,
        "generalist": generalist.name,
        "n": len(target.split("test")),
        "indexed_of_target": indexed,
        "failures": sum(row["failures"] for found in rows.values() for row in found),
        "seed": 0,
    }
    write(f"domains-{name}", f"{COMMAND} {name}", {**facts, "rows": rows})


def measured_melanoma(root: Path, work: Path, generalist: Generalist) -> None:
    """Ask about the second source of the dermoscopy set: how well melanoma stands out."""
    move, folder = MOVES["dermoscopy"], root / MOVES["dermoscopy"].folder
    dataset = read_dataset(folder, task_named(move.task))
    first = work / "dermoscopy-source"
    construct(dataset, first, move.task, Plan(seed=0), generalist=generalist, progress=show)
    with (folder / "external.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    cases = [
        Case((folder / row["file"],), move.task, id=row["file"], patient=row["patient_id"])
        for row in rows
    ]
    truth = np.array([int(row["melanoma"]) for row in rows])
    draws = resamples([row["patient_id"] for row in rows], 1000, seed=0)
    agent = GSCo.open(first, generalist=generalist)
    found = [_melanoma(agent, cases, truth, draws, system) for system in SYSTEMS]
    facts = {
        "move": move.says,
        "task": move.task,
        "generalist": generalist.name,
        "n": len(cases),
        "melanomas": int(truth.sum()),
        "failures": sum(row["failures"] for row in found),
        "seed": 0,
    }
    write("domains-dermoscopy", f"{COMMAND} dermoscopy", {**facts, "rows": {"source": found}})


# Any: the draws are of the metrics module, the row is JSON.
def _melanoma(
    agent: GSCo, cases: Sequence[Case], truth: Any, draws: Any, system: Any
) -> dict[str, Any]:
    made = agent.diagnose_many(cases, system)
    answered = np.array([bool(one.probabilities) for one in made])
    chance = np.array([one.probabilities.get("melanoma", np.nan) for one in made])

    def area(rows: Any) -> float | None:
        kept = rows[answered[rows]]
        both = np.stack([1 - chance[kept], chance[kept]], axis=1)
        return auc(both, truth[kept])

    whole = area(np.arange(len(truth)))
    print("dermoscopy", system, whole, flush=True)
    return {
        "system": system,
        "auc": whole,
        "auc_interval": interval(area, draws),
        "failures": int((~answered).sum()),
    }


def main() -> None:
    """Run the moves asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder of the workspaces")
    parser.add_argument("--move", action="append", choices=list(MOVES))
    given = parser.parse_args()
    generalist = open_generalist()
    for name in given.move or MOVES:
        if name == "dermoscopy":
            measured_melanoma(given.data, given.work, generalist)
        elif name == "native-size":
            measured_size(given.data, given.work)
        else:
            measured_move(given.data, given.work, name, generalist)


if __name__ == "__main__":
    main()
