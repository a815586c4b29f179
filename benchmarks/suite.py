"""Every system on every set at hand, through the benchmark that users run, over three seeds.

    python -m benchmarks.suite --data DIR --work W [--seed N ...]

A workspace for each seed: the first holds the starter tasks as they ship, the others train them
anew; those whose weights may not ship are constructed in all. Asks what `gsco bench run` asks.
Killed, it goes on; one seed at a time can be made in processes side by side. Writes
`benchmarks/results/suite-local.json` when all seeds are there, and the first seed's report as
`suite-local.md`; `gsco bench verify W/run-N` computes its figures again from the stored answers.
"""

import argparse
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy import RESULTS, read, show, write
from benchmarks.starter import BACKBONES, SOURCES
from gsco.agent import GSCo, open_generalist
from gsco.case import SYSTEMS
from gsco.construct import Plan, construct
from gsco.evaluation.bench import Scope, local_items, run
from gsco.evaluation.metrics import interval, resamples
from gsco.evaluation.page import write as write_report
from gsco.evaluation.stored import BASELINE, RESAMPLED, Stored, results, sets_of
from gsco.generalist import Generalist
from gsco.workspace import starter
from specialists.calibrate import balanced_accuracy

SEEDS = (0, 1, 2)
OWN = ("white-cells", "breast-ultrasound-3", "dermoscopy")
"""Their weights may not ship, so every seed constructs them."""
Rows = NDArray[np.int64]


def constructed(root: Path, work: Path, seed: int, generalist: Generalist) -> Path:
    """Construct what is missing of a seed's workspace; return it."""
    workspace = work / f"seed-{seed}"
    plans = dict.fromkeys(OWN, Plan(seed=seed))
    if seed == SEEDS[0]:
        shutil.copytree(starter() / "tasks", workspace / "tasks", dirs_exist_ok=True)
    else:
        plans |= dict.fromkeys(SOURCES, Plan(backbones=BACKBONES, seed=seed))
    for name, plan in plans.items():
        data = read(root, name)
        construct(data, workspace, name, plan, generalist=generalist, progress=show)
    return workspace


def asked(root: Path, work: Path, seed: int, generalist: Generalist) -> dict[str, str]:
    """Ask all systems of a seed's workspace; return the sets that cannot be asked, with why.

    Raises:
        SystemExit: the folder of the run holds shards of another.
    """
    agent = GSCo.open(constructed(root, work, seed, generalist), generalist=generalist)
    items, left = local_items(agent, root)
    out = work / f"run-{seed}"
    if run(agent, items, list(SYSTEMS), out, Scope(), show) is None:
        raise SystemExit(f"{out} holds shards of another run. Choose another --work.")
    return left


def averaged(runs: Sequence[Sequence[Stored]]) -> list[dict[str, Any]]:
    """Return each system's balanced accuracy on each set and on their mean, over the seeds.

    The intervals are of the mean over seeds; each draw resamples the patients of every set, and
    takes the same cases of all seeds and systems.
    """
    by_set = list(zip(*runs, strict=True))
    rows = []
    drawn: dict[tuple[str, str], list[list[float]]] = {}
    for sets in by_set:
        first = sets[0]
        draws = list(resamples(first.groups, RESAMPLED, first.about["seed"]))
        means = {system: _mean(sets, system) for system in SYSTEMS}
        base = means[BASELINE]
        whole = np.arange(len(first.targets))
        for system, mean in means.items():
            gain = _difference(mean, base)
            rows.append(
                {
                    "set": first.about["name"],
                    "system": system,
                    "n": len(whole),
                    "each": [_mean([one], system)(whole) for one in sets],
                    "balanced_accuracy": mean(whole),
                    "interval": interval(mean, draws),
                    "gain": gain(whole),
                    "gain_interval": interval(gain, draws),
                }
            )
            for kind, measure in (("balanced_accuracy", mean), ("gain", gain)):
                drawn.setdefault((system, kind), []).append([measure(some) for some in draws])
    return rows + [_over_sets(system, rows, drawn) for system in SYSTEMS]


def _mean(sets: Sequence[Stored], system: str) -> Callable[[Rows], float]:
    """Return how to measure the mean over seeds on some rows.

    Raises:
        SystemExit: the seeds were asked other cases, or not all of them.
    """
    found = [one.answers(system) for one in sets]
    if any(said is None for said in found) or len({tuple(one.cases) for one in sets}) > 1:
        raise SystemExit(f"The seeds' answers of {sets[0].about['name']!r} do not match.")
    targets = sets[0].targets
    chosen = [said.chosen for said in found if said is not None]
    return lambda rows: float(np.mean([balanced_accuracy(c[rows], targets[rows]) for c in chosen]))


def _difference(one: Callable[[Rows], float], other: Callable[[Rows], float]) -> Any:
    return lambda rows: one(rows) - other(rows)


def _over_sets(
    system: str, rows: Sequence[dict[str, Any]], drawn: dict[tuple[str, str], list[list[float]]]
) -> dict[str, Any]:
    mine = [row for row in rows if row["system"] == system]

    def spread(kind: str) -> list[float]:
        means = np.mean(drawn[system, kind], axis=0)
        return [float(value) for value in np.percentile(means, (2.5, 97.5))]

    return {
        "set": "mean",
        "system": system,
        "n": sum(row["n"] for row in mine),
        "each": [
            float(np.mean(values)) for values in zip(*(row["each"] for row in mine), strict=True)
        ],
        "balanced_accuracy": float(np.mean([row["balanced_accuracy"] for row in mine])),
        "interval": spread("balanced_accuracy"),
        "gain": float(np.mean([row["gain"] for row in mine])),
        "gain_interval": spread("gain"),
    }


def main() -> None:
    """Construct what is missing, ask, and keep the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seed", type=int, action="append", choices=SEEDS)
    given = parser.parse_args()
    generalist = open_generalist()
    left: dict[str, str] = {}
    for seed in given.seed or SEEDS:
        left = asked(given.data, given.work, seed, generalist)
    folders = [given.work / f"run-{seed}" for seed in SEEDS]
    if not all((folder / "results.json").is_file() for folder in folders):
        return
    first = results(folders[0])
    page = write_report(folders[0], first or [])
    shutil.copy(page.with_suffix(".md"), RESULTS / "suite-local.md")
    runs = [sets_of(folder) for folder in folders]
    found = [row for folder in folders for row in results(folder) or []]
    facts = {
        "generalist": generalist.name,
        "sets": [stored.about["name"] for stored in runs[0]],
        "left_out": left,
        "n": sum(len(stored.cases) for stored in runs[0]),
        "failures": sum(row["failures"] for row in found),
        "seeds": list(SEEDS),
    }
    command = "python -m benchmarks.suite --data $GSCO_DATA --work W"
    write("suite-local", command, {**facts, "averaged": averaged(runs), "rows": first})


if __name__ == "__main__":
    main()
