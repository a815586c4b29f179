"""Every system on every set at hand, through the benchmark that users run.

    python -m benchmarks.suite --data DIR --work W

Puts the starter tasks beside those whose weights may not ship into one workspace, constructs what
is missing, and runs what `gsco bench run` runs. Killed, it goes on. Writes
`benchmarks/results/suite-local.json` and the run's report as `suite-local.md`; `gsco bench verify
W/run` computes every figure again from the stored answers.
"""

import argparse
import shutil
from pathlib import Path

from benchmarks.accuracy import RESULTS, read, show, write
from gsco.agent import GSCo, open_generalist
from gsco.case import SYSTEMS
from gsco.construct import Plan, construct
from gsco.evaluation.bench import Scope, local_items, run
from gsco.evaluation.page import write as write_report
from gsco.workspace import starter

OWN = ("white-cells", "breast-ultrasound-3", "dermoscopy")
"""Constructed here; the other sets are those of the starter workspace."""


def main() -> None:
    """Construct what is missing, ask, and keep the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    given = parser.parse_args()
    workspace, out = given.work / "seed-0", given.work / "run"
    generalist = open_generalist()
    for name in OWN:
        data = read(given.data, name)
        construct(data, workspace, name, Plan(seed=0), generalist=generalist, progress=show)
    shutil.copytree(starter() / "tasks", workspace / "tasks", dirs_exist_ok=True)
    agent = GSCo.open(workspace, generalist=generalist)
    items, left = local_items(agent, given.data)
    rows = run(agent, items, list(SYSTEMS), out, Scope(), show)
    if rows is None:
        raise SystemExit(f"{out} holds shards of another run. Choose another --work.")
    page = write_report(out, rows)
    shutil.copy(page.with_suffix(".md"), RESULTS / "suite-local.md")
    facts = {
        "generalist": generalist.name,
        "sets": [item.name for item in items],
        "left_out": left,
        "n": sum(len(item.dataset.split("test")) for item in items),
        "failures": sum(row["failures"] for row in rows),
        "seed": 0,
    }
    command = "python -m benchmarks.suite --data $GSCO_DATA --work W"
    write("suite-local", command, {**facts, "rows": rows})


if __name__ == "__main__":
    main()
