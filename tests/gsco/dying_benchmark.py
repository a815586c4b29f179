"""Run a benchmark that kills itself in the middle of writing an answer.

python dying_benchmark.py DATA WORKSPACE OUT ANSWERS [ADDRESS OF A RAY CLUSTER]
"""

import sys
from pathlib import Path

import drawn
import torch
from dying import die_after

from gsco.agent import GSCo
from gsco.datasets import read_dataset
from gsco.evaluation import bench
from gsco.evaluation.bench import Item, run
from gsco.evaluation.engine import engine_named
from gsco.generalist.scripted import ScriptedGeneralist
from gsco.settings import Settings


def main() -> None:
    data, workspace, out, left = *map(Path, sys.argv[1:4]), int(sys.argv[4])
    die_after(left)
    bench.CHUNK = 4
    torch.set_num_threads(1)
    agent = GSCo.open(workspace, generalist=ScriptedGeneralist(drawn.tell), settings=Settings())
    items = [Item("spots", "spots", read_dataset(data))]
    with engine_named("ray" if sys.argv[5:] else "local", *sys.argv[5:]) as engine:
        if sys.argv[5:]:
            import ray

            # The test's functions are no package that a worker could import.
            ray.cloudpickle.register_pickle_by_value(drawn)
        run(agent, items, ("specialist", "gsco"), out, engine=engine)


if __name__ == "__main__":
    main()
