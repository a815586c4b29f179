"""Scale: ten thousand and a hundred thousand made-up cases through the benchmark's own runner.

    python -m benchmarks.scale [--cases 10000 100000]

Writes `benchmarks/results/scale.json`: peak memory, cases a second, and how long a run that was
killed at about half takes to answer its next case. Each run is a process of its own. Images of
eight pixels a side, a specialist and an embedder that only count pixels and a scripted generalist
leave nothing but the runner and the workflow to measure.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.record import command_of, write
from gsco.agent import GSCo
from gsco.case import System
from gsco.conclude import provenance_of
from gsco.datasets import read_dataset
from gsco.evaluation import page
from gsco.evaluation.bench import Item, run
from gsco.evaluation.stored import RESULTS
from gsco.fusion import NEIGHBOURS, Fusion
from gsco.generalist.scripted import ScriptedGeneralist
from gsco.prompts import Prompt
from gsco.settings import Settings
from gsco.task import Label, Task
from gsco.workflow import Tools
from retrieval import CaseIndex, Entry
from specialists import Opinion

TASK = Task(
    id="shades",
    title="Shades",
    kind="single",
    labels=(Label("dark"), Label("bright")),
    modality="drawing",
    stem="Your task is to tell the shade. You are given a drawing.",
)
SYSTEM: System = "gsco"
SIDE = 8
INDEXED = 100
SEED = 0
GOALS = {"memory_ratio_at_most": 1.2, "throughput_ratio_at_least": 0.8, "resume_seconds_below": 30}
PATIENCE = 3600
"""Seconds after which a run that answers nothing is given up."""


def draw(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return (N, 8, 8) noisy greys and whether each is bright; the two kinds overlap."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(2, size=count)
    middle = 118 + 20 * labels + generator.normal(0, 12, count)
    pixels = generator.normal(middle[:, None, None], 40, (count, SIDE, SIDE))
    return pixels.clip(0, 255).astype(np.uint8), labels


def sureness(image: Image.Image) -> float:
    """Return the probability that an image is bright."""
    return float(1 / (1 + np.exp(-(np.asarray(image, dtype=np.float64).mean() - 128) / 8)))


def tell(prompt: Prompt) -> Mapping[str, float]:
    """Answer by the image alone."""
    bright = sureness(prompt.images[-1])
    return dict(zip(TASK.texts, (1 - bright, bright), strict=True))


class Counter:
    """A specialist and an embedder that learnt nothing."""

    name = "counter"
    weights_hash = "none"

    def predict(self, images: Sequence[Image.Image]) -> list[Opinion]:
        """Give opinions by the mean brightness."""
        chances = [sureness(image) for image in images]
        return [Opinion(self.name, TASK.texts, (1 - p, p)) for p in chances]

    def embed(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Return the pixels as unit rows."""
        rows = np.stack([np.asarray(i, dtype=np.float32)[:, :, 0].ravel() + 1 for i in images])
        out: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return out


def opened(folder: Path, generalist: ScriptedGeneralist) -> GSCo:
    """Return a workspace whose models are not trained but made here."""
    counter = Counter()
    fusion = Fusion(
        labels=TASK.texts,
        kind="single",
        best=counter.name,
        prior=(0.5, 0.5),
        stack={counter.name: 0.5, NEIGHBOURS: 0.5},
        reliability=0.8,
        fused={},
        temperatures={},
        thresholds={},
        coverage=0.9,
        familiar=0.0,
        n_validation=INDEXED,
        generalist=None,
    )
    pixels, labels = draw(INDEXED, SEED + 1)
    index = CaseIndex.build(
        counter.embed([Image.fromarray(one).convert("RGB") for one in pixels]),
        [Entry(f"indexed {i}", (TASK.texts[label],)) for i, label in enumerate(labels)],
        embedder=counter.name,
        embedder_hash=counter.weights_hash,
    )
    agent = GSCo(folder, Settings(), generalist)
    # Loading from a folder would ask for trained weights.
    agent._tools[TASK.id] = Tools(
        task=TASK,
        fusion=fusion,
        specialists={counter.name: counter},
        index=index,
        embedder=counter,
        generalist=None,
        neighbours=agent.settings.neighbours,
        permutations=agent.settings.permutations,
        style="calibrated",
        provenance=provenance_of(TASK, fusion, {counter.name: counter}, index),
    )
    return agent


def ask(file: Path, out: Path) -> None:
    """Do what `gsco bench run` does, and print what it took: the child process."""
    start = time.perf_counter()
    generalist = ScriptedGeneralist(tell)
    first = last = start

    def progress(step: str, done: int, total: int) -> None:
        nonlocal first, last
        # It remembers its prompts for tests, which ask a few.
        generalist.asked.clear()
        last = time.perf_counter()
        first = last if first == start else first

    agent = opened(out, generalist)
    dataset = read_dataset(file, TASK)
    rows = run(agent, [Item(TASK.id, TASK.id, dataset)], (SYSTEM,), out, progress=progress)
    if rows is None:
        raise RuntimeError("The run has no results.")
    page.write(out, rows)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told = {
        "n": rows[0]["n"],
        "failures": rows[0]["failures"],
        # In KiB on Linux, in bytes on a Mac.
        "peak_mib": peak / (2**20 if sys.platform == "darwin" else 2**10),
        "asking_seconds": last - first,
        "whole_seconds": time.perf_counter() - start,
    }
    print(json.dumps(told))


def measure(count: int, work: Path) -> dict[str, Any]:
    """Run so many cases whole; then kill a second run at half and go on with it."""
    file = work / f"shades-{count}.npz"
    pixels, labels = draw(count, SEED)
    np.savez(file, test_images=pixels, test_labels=labels)
    whole, killed = work / f"whole-{count}", work / f"killed-{count}"
    figures = _finish(_start(file, whole))
    answered = kill_at_half(file, killed, count)
    began = time.perf_counter()
    child = _start(file, killed)
    _wait(child, killed, answered)
    waited = time.perf_counter() - began
    resumed = _finish(child)
    return {
        **figures,
        "cases_a_second": count / figures["whole_seconds"],
        "cases_a_second_while_asking": count / figures["asking_seconds"],
        "killed_after": answered,
        "resume_seconds": waited,
        "resumed_peak_mib": resumed["peak_mib"],
        "resumed_results_same": (whole / RESULTS).read_bytes() == (killed / RESULTS).read_bytes(),
    }


def kill_at_half(file: Path, out: Path, count: int) -> int:
    """Start a run and kill it without warning; return how many cases it had answered."""
    child = _start(file, out)
    _wait(child, out, count // 2)
    child.kill()
    child.communicate()
    return _answered(out)


def _start(file: Path, out: Path) -> "subprocess.Popen[str]":
    words = [sys.executable, "-m", "benchmarks.scale", "--ask", str(file), str(out)]
    root = Path(__file__).parents[1]
    return subprocess.Popen(words, cwd=root, stdout=subprocess.PIPE, text=True)


def _finish(child: "subprocess.Popen[str]") -> dict[str, Any]:
    said, _ = child.communicate()
    if child.returncode:
        raise RuntimeError(f"A run ended with code {child.returncode}. Its error stands above.")
    figures: dict[str, Any] = json.loads(said)
    return figures


def _wait(child: "subprocess.Popen[str]", out: Path, answered: int) -> None:
    """Wait until more cases are answered than that, or the run has come to its end."""
    end = time.monotonic() + PATIENCE
    while _answered(out) <= answered and child.poll() != 0:
        if child.poll() is not None or time.monotonic() > end:
            child.kill()
            raise RuntimeError(f"A run answered no more than {_answered(out)} cases.")
        time.sleep(0.05)


def _answered(out: Path) -> int:
    """Return how many whole answers the ledger holds: its lines but the first."""
    return max((f.read_bytes().count(b"\n") - 1 for f in out.glob("*/*.*.jsonl")), default=0)


def ratios(few: Mapping[str, Any], many: Mapping[str, Any]) -> dict[str, float]:
    """Return how the larger number of cases fares beside the smaller one."""
    rates = ("cases_a_second", "cases_a_second_while_asking")
    added = many["peak_mib"] - few["peak_mib"]
    return {
        "memory_ratio": many["peak_mib"] / few["peak_mib"],
        "kib_a_further_case": 1024 * added / (many["n"] - few["n"]),
        "throughput_ratio": many[rates[0]] / few[rates[0]],
        "throughput_ratio_while_asking": many[rates[1]] / few[rates[1]],
        "resume_seconds": many["resume_seconds"],
    }


def main() -> None:
    """Measure and write; with `--ask`, be one of the runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, nargs=2, default=(10_000, 100_000))
    parser.add_argument("--ask", type=Path, nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.ask:
        ask(*given.ask)
        return
    with tempfile.TemporaryDirectory() as work:
        runs = [measure(count, Path(work)) for count in given.cases]
    print(write("scale", command_of("scale", parser, given), summary(runs)))


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the figures of both runs with the goals beside them."""
    return {
        "system": SYSTEM,
        "generalist": "scripted",
        "seed": SEED,
        "n": sum(one["n"] for one in runs),
        "failures": sum(one["failures"] for one in runs),
        "goals": GOALS,
        **ratios(*runs),
        "runs": runs,
    }


if __name__ == "__main__":
    main()
