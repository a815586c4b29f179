"""The served generalist: throughput against the published way, prefix cache, agreement.

    python -m benchmarks.serving --data DIR [--url http://127.0.0.1:8000/v1]

Starts a vLLM server with gsco-tiny unless a URL is given. Writes `benchmarks/results/serving.json`.
The published way asks one case at a time, image first, for 20 tokens of free text; the bare loop
fires the requests of our batch path, prepared beforehand, without anything of ours between. Every
arm of every round sees images of its own, turned and mirrored ones among them: nobody profits from
what another has left in a cache.
Ratios are geometric means over rounds, in which the arms take turns to begin. Of dermoscopy, where
labels begin with the same token and the server is asked again, only batch path and bare loop run.
"""

import argparse
import asyncio
import json
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from openai import OpenAI
from PIL import Image

from benchmarks.accuracy import SETS
from benchmarks.record import command_of, write
from benchmarks.rounds import ratio_of
from benchmarks.starter import SOURCES
from gsco.agent import GSCo
from gsco.case import Case, Reading
from gsco.datasets import Record, read_dataset
from gsco.generalist.client import client_of
from gsco.generalist.embedded import EmbeddedGeneralist
from gsco.generalist.pool import FIRST
from gsco.generalist.reading import expand
from gsco.generalist.request import call_of, data_url, image_part, request_of, urls_of
from gsco.generalist.served import ServedGeneralist, connect
from gsco.generalist.tiny import FOLDER as SHIPPED
from gsco.prompts import Prompt, build_prompt
from gsco.serving import Server, Service, free_port
from gsco.settings import Settings
from gsco.task import task_named

TASK = "pneumonia-cxr"
FOLDER = SOURCES[TASK]
TASKS = {**SOURCES, "dermoscopy": SETS["dermoscopy"].folder}
"""The four tasks whose readings are compared, and their data."""
ALIKE = "dermoscopy"
"""A task some of whose labels begin with the same token of gsco-tiny."""
ROUNDS = 8
ARMS = ("published", "published_short", "ours", "ours_1", "bare")
"""`published_short` may end before 20 tokens, as gsco-tiny does; `ours_1` reads one order."""


@dataclass(frozen=True)
class Turned:
    """A record whose image opens turned or mirrored: to a server, an image of its own."""

    record: Record
    way: Image.Transpose

    def open(self) -> Image.Image:
        """Return the turned image."""
        return self.record.open().transpose(self.way)


def prompts_of(records: Sequence[Record | Turned], task: str) -> list[Prompt]:
    """Return plain prompts in the form that suits gsco-tiny."""
    card = task_named(task)
    return [build_prompt(card, images=[r.open()], answer_form="label") for r in records]


def published(url: str, model: str, prompts: Sequence[Prompt], *, whole: bool) -> None:
    """Ask one by one, image first, for free text: 20 tokens, or fewer where it ends earlier."""
    with OpenAI(base_url=url, api_key="none") as client:
        for prompt in prompts:
            image = image_part(data_url(prompt.images[0]))
            text = {"type": "text", "text": f"{prompt.system}\n{prompt.before}{prompt.after}"}
            client.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": [image, text]}],  # type: ignore[list-item,misc]  # plain data
                max_tokens=20,
                temperature=0,
                extra_body={"ignore_eos": whole},
            )


def calls_of(prompts: Sequence[Prompt], permutations: int, model: str) -> list[dict[str, Any]]:
    """Return the calls by which the batch path sends its requests, prepared."""
    asked = [one for group in expand(prompts, permutations) for one in group]
    return [call_of(request_of(prompt, urls_of(prompt)), model) for prompt in asked]


async def fire(url: str, calls: Sequence[dict[str, Any]]) -> None:
    """Make prepared calls with our client's connections, as many at once as it makes at first."""
    slots = asyncio.Semaphore(FIRST)
    async with client_of(url) as client:

        async def one(call: dict[str, Any]) -> None:
            async with slots:
                await client.chat.completions.create(**call)

        await asyncio.gather(*map(one, calls))


def throughput(
    generalist: ServedGeneralist,
    url: str,
    records: Sequence[Record | Turned],
    each: int,
    task: str = TASK,
    arms: Sequence[str] = ARMS,
) -> dict[str, Any]:
    """Return seconds a case of each arm in each round, and ratios over rounds."""
    taken: dict[str, list[float]] = {name: [] for name in arms}
    parts = iter(records[i : i + each] for i in range(0, len(records) - each + 1, each))
    for number in range(ROUNDS + 1):
        for place in range(len(arms)):
            name = arms[(place + number) % len(arms)]
            prompts = prompts_of(next(parts), task)
            prepared = calls_of(prompts, 2, generalist.name) if name == "bare" else []
            start = time.perf_counter()
            if name.startswith("published"):
                published(url, generalist.name, prompts, whole=name == "published")
            elif name == "bare":
                asyncio.run(fire(url, prepared))
            else:
                readings = generalist.read(prompts, 1 if name == "ours_1" else 2)
                assert all(reading.failure is None for reading in readings)
            # The first round warms up.
            if number:
                taken[name].append((time.perf_counter() - start) / each)
    pairs = [(name, "ours") for name in ("published", "published_short", "bare") if name in arms]
    if "ours_1" in arms:
        pairs.append(("published", "ours_1"))
    return {
        "cases_a_round": each,
        "rounds": ROUNDS,
        "seconds_a_case": taken,
        "ratios": {f"{slow}_to_{fast}": ratio_of(taken[slow], taken[fast]) for slow, fast in pairs},
    }


def counters(url: str) -> tuple[float, float]:
    """Return the server's own counts of prompt tokens asked for and found in its prefix cache."""
    with urllib.request.urlopen(url.removesuffix("/v1") + "/metrics", timeout=30) as said:
        lines = said.read().decode().splitlines()

    def total(name: str) -> float:
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    return total("vllm:prefix_cache_queries_total"), total("vllm:prefix_cache_hits_total")


def cache(url: str, records: Sequence[Record | Turned], system: str) -> dict[str, float]:
    """Return the prefix cache's part in a run of one task over images that the server never saw."""
    with GSCo.open(settings=Settings(generalist=url)) as agent:
        cases = [Case(images=(r.open(),), task=TASK) for r in records]
        agent.diagnose(Case(images=(records[0].open(),), task=TASK), system)  # type: ignore[arg-type]  # a system
        before = counters(url)
        made = agent.diagnose_many(cases[1:], system)  # type: ignore[arg-type]  # a system
        asked, hits = (now - then for now, then in zip(counters(url), before, strict=True))
    tower = json.loads((SHIPPED / "config.json").read_text())["image_seq_length"]
    text = asked - tower * 2 * len(cases[1:])
    return {
        "cases": len(made),
        "failures": sum(bool(one.failures) for one in made),
        "prompt_tokens": asked,
        "text_tokens": text,
        "hits": hits,
        "hits_of_all_tokens": hits / asked,
        "hits_of_text_tokens": hits / text,
    }


def agreement(root: Path, generalist: ServedGeneralist) -> dict[str, Any]:
    """Compare readings in process with served ones, on 50 test cases of each of four tasks."""
    embedded = EmbeddedGeneralist()
    by_task = {}
    for task, folder in TASKS.items():
        prompts = prompts_of(read_dataset(root / folder, task_named(task)).split("test")[:50], task)
        start = time.perf_counter()
        here = embedded.read(prompts)
        seconds = (time.perf_counter() - start) / len(prompts)
        by_task[task] = compared(here, generalist.read(prompts)) | {"embedded_seconds": seconds}
    return by_task


def compared(here: Sequence[Reading], there: Sequence[Reading]) -> dict[str, Any]:
    """Return the largest difference of a probability, and how often the choice is the same."""
    rows = [
        [abs(one.probabilities[label] - other.probabilities[label]) for label in one.probabilities]
        for one, other in zip(here, there, strict=True)
    ]
    same = [one.answer == other.answer for one, other in zip(here, there, strict=True)]
    return {
        "n": len(rows),
        "largest_difference": float(np.max(rows)),
        "same_choice": float(np.mean(same)),
    }


def shuffled(root: Path, task: str) -> list[Record | Turned]:
    """Return all images of a task's data, in an order that is always the same, then all turned."""
    records = list(read_dataset(root / TASKS[task], task_named(task)).records)
    np.random.default_rng(0).shuffle(records)
    return [*records, *(Turned(record, way) for way in Image.Transpose for record in records)]


def version_of(url: str) -> str:
    """Return the version of the server there."""
    with urllib.request.urlopen(url.removesuffix("/v1") + "/version", timeout=30) as said:
        return str(json.load(said)["version"])


@contextmanager
def server(url: str) -> Iterator[str]:
    """Return the URL given, or that of a server of our own."""
    if url:
        yield url
        return
    with tempfile.TemporaryDirectory() as folder:
        service = Service(SHIPPED, free_port())
        with Server(service, log=Path(folder) / "vllm.log") as started:
            started.wait()
            yield started.url


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--url", default="", help="a running server of gsco-tiny")
    parser.add_argument("--cases", type=int, default=96, help="of a round and arm")
    given = parser.parse_args()
    records, alike = (shuffled(given.data, task) for task in (TASK, ALIKE))
    two = ("ours", "bare")
    with server(given.url) as url, connect([url]) as generalist:
        used = given.cases * len(ARMS) * (ROUNDS + 1)
        used_2 = given.cases * len(two) * (ROUNDS + 1)
        result: dict[str, Any] = {
            "server": f"vLLM {version_of(url)}, {generalist.name}",
            "data": FOLDER,
            "seed": 0,
            "n": used + used_2,
            "throughput": throughput(generalist, url, records[:used], given.cases),
            "begin_alike": throughput(
                generalist, url, alike[:used_2], given.cases, task=ALIKE, arms=two
            ),
            "prefix_cache": {
                system: cache(url, records[used + i * 65 : used + (i + 1) * 65], system)
                for i, system in enumerate(("gsco-fused", "gsco"))
            },
            "embedded_and_served": agreement(given.data, generalist),
        }
    cached = result["prefix_cache"].values()
    result["failures"] = sum(one["failures"] for one in cached)
    print(write("serving", command_of("serving", parser, given), result))


if __name__ == "__main__":
    main()
