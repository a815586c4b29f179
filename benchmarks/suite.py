"""Every system on every set at hand, through the benchmark that users run, over three seeds.

    python -m benchmarks.suite --data DIR --work W [--seed N ... | --served]

A workspace for each seed: the first holds the starter tasks as they ship, the others train them
anew; those whose weights may not ship are constructed in all. Asks what `gsco bench run` asks.
Killed, it goes on; one seed at a time can be made in processes side by side. Writes
`benchmarks/results/suite-local.json` when all seeds are there, and the first seed's report as
`suite-local.md`; `gsco bench verify W/run-N` computes its figures again from the stored answers.
With `--served` a real vLLM server asks gsco-tiny in its stead, of the first seed's workspace, into
`suite-served.json`: the same figures, and how each differs from the one got in process.
"""

import argparse
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy import read
from benchmarks.record import RESULTS, show, write
from benchmarks.serving import server
from benchmarks.starter import BACKBONES, SOURCES
from gsco.agent import GSCo, open_generalist
from gsco.case import SYSTEMS, System
from gsco.construct import Plan, construct
from gsco.evaluation.bench import Scope, local_items, run
from gsco.evaluation.metrics import resamples
from gsco.evaluation.page import write as write_report
from gsco.evaluation.stored import BASELINE, RESAMPLED, Stored, compare, results, sets_of
from gsco.generalist import Generalist
from gsco.generalist.served import connect
from gsco.workspace import starter

COMMAND = "python -m benchmarks.suite --data $GSCO_DATA --work W"
SEEDS = (0, 1, 2)
OWN = ("white-cells", "breast-ultrasound-3", "dermoscopy")
"""Their weights may not ship, so every seed constructs them."""


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


def asked(root: Path, workspace: Path, out: Path, generalist: Generalist) -> dict[str, str]:
    """Ask all systems of a workspace; return the sets that cannot be asked, with why.

    Raises:
        SystemExit: the folder of the run holds shards of another.
    """
    agent = GSCo.open(workspace, generalist=generalist)
    items, left = local_items(agent, root)
    if run(agent, items, list(SYSTEMS), out, Scope(), show) is None:
        raise SystemExit(f"{out} holds shards of another run. Choose another --work.")
    return left


def served(root: Path, work: Path) -> None:
    """Ask the first seed's workspace through a server; keep figures and differences."""
    # Fitted in process: what is asked below differs in where gsco-tiny runs, and in nothing else.
    workspace = constructed(root, work, SEEDS[0], open_generalist())
    out, before = work / "run-served", work / f"run-{SEEDS[0]}"
    with server("") as url, connect([url]) as generalist:
        asked(root, workspace, out, generalist)
    rows = results(out) or []
    facts = {
        "generalist": "gsco-tiny behind vLLM",
        "n": sum(len(stored.cases) for stored in sets_of(out)),
        "failures": sum(row["failures"] for row in rows),
        "seed": SEEDS[0],
        "against": "the same in process",
        "agree": agreement(sets_of(out), sets_of(before)),
        "compared": compare(out, before),
    }
    write("suite-served", f"{COMMAND} --served", {**facts, "rows": rows})


def agreement(ours: Sequence[Stored], theirs: Sequence[Stored]) -> dict[System, dict[str, float]]:
    """Return, for each system, the share of like answers and the largest probability's difference.

    Over all sets; a case without an answer on either side is unlike.
    """
    said = {}
    for system in SYSTEMS:
        pairs = [
            (one.answers(system), other.answers(system))
            for one, other in zip(ours, theirs, strict=True)
        ]
        whole = [(one, other) for one, other in pairs if one is not None and other is not None]
        same = np.concatenate([one.chosen == other.chosen for one, other in whole])
        far = [np.nanmax(np.abs(one.probabilities - o.probabilities)) for one, o in whole]
        said[system] = {"same_answer": float(same.mean()), "largest": float(max(far))}
    return said


def averaged(runs: Sequence[Sequence[Stored]]) -> list[dict[str, Any]]:
    """Return each system's balanced accuracy on each set and on their mean, over the seeds.

    The intervals are of the mean over seeds; each draw resamples the patients of every set, and
    takes the same cases of all seeds and systems.
    """
    found = [_over_seeds(sets) for sets in zip(*runs, strict=True)]
    rows = []
    for stored, (n, each) in zip(runs[0], found, strict=True):
        name = stored.about["name"]
        rows += [_row(name, system, n, each) for system in SYSTEMS]
    every = {system: np.mean([each[system] for _, each in found], axis=0) for system in SYSTEMS}
    n = sum(n for n, _ in found)
    return rows + [_row("mean", system, n, every) for system in SYSTEMS]


def _over_seeds(sets: Sequence[Stored]) -> tuple[int, dict[System, NDArray[np.float64]]]:
    """Return the number of cases, and each system's (seeds, 1 + draws) balanced accuracies.

    The first of a row is that of all cases.

    Raises:
        SystemExit: the seeds were asked other cases, or not all of them.
    """
    first, n = sets[0], len(sets[0].cases)
    draws = resamples(first.groups, RESAMPLED, first.about["seed"])
    # How often each case is in each draw: recalls of all draws are then two products of matrices.
    weights = np.stack([np.ones(n), *(np.bincount(rows, minlength=n) for rows in draws)])
    classes = np.eye(first.targets.max() + 1)[first.targets]
    counts = weights @ classes
    out = {}
    for system in SYSTEMS:
        said = [one.answers(system) for one in sets]
        if any(one is None for one in said) or len({tuple(one.cases) for one in sets}) > 1:
            raise SystemExit(f"The seeds' answers of {first.about['name']!r} do not match.")
        right = [one.chosen == first.targets for one in said if one is not None]
        hits = np.stack([weights @ (classes * told[:, None]) for told in right])
        recalls = np.divide(hits, counts, out=np.full_like(hits, np.nan), where=counts > 0)
        out[system] = np.nanmean(recalls, axis=2)
    return n, out


def _row(
    name: str, system: System, n: int, every: Mapping[System, NDArray[np.float64]]
) -> dict[str, Any]:
    """Return a system's figures beside the best specialist's and beside those of `stack`."""
    each = every[system]
    mean = each.mean(axis=0)
    row = {
        "set": name,
        "system": system,
        "n": n,
        "each": [float(value) for value in each[:, 0]],
        "balanced_accuracy": float(mean[0]),
        "interval": _interval(mean),
    }
    for gain, other in (("gain", BASELINE), ("over_stack", "stack")):
        more = (each - every[other]).mean(axis=0)
        row |= {gain: float(more[0]), f"{gain}_interval": _interval(more)}
    return row


def _interval(values: NDArray[np.float64]) -> list[float]:
    """Return the 95 % interval of draws; the first value is that of all cases."""
    return [float(value) for value in np.percentile(values[1:], (2.5, 97.5))]


def main() -> None:
    """Construct what is missing, ask, and keep the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seed", type=int, action="append", choices=SEEDS)
    parser.add_argument("--served", action="store_true", help="ask gsco-tiny behind vLLM")
    given = parser.parse_args()
    if given.served:
        served(given.data, given.work)
        return
    generalist = open_generalist()
    left: dict[str, str] = {}
    for seed in given.seed or SEEDS:
        workspace = constructed(given.data, given.work, seed, generalist)
        left = asked(given.data, workspace, given.work / f"run-{seed}", generalist)
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
    write("suite-local", COMMAND, {**facts, "averaged": averaged(runs), "rows": first})


if __name__ == "__main__":
    main()
