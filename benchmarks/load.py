"""Load: many users ask the real HTTP service at once; does each get what it gets alone?

    python -m benchmarks.load [--users 20] [--seconds 300] [--served]

Starts `gsco api` on this machine over the starter workspace, asks every case once, alone, and then
lets the users ask for cases in orders of their own, unreadable images among them. Writes
`benchmarks/results/load.json`: answers that differ, errors, requests a second, waits, and the
service's resident memory at its start, after the warm-up and at the end. With `--served` the
generalist is asked as well, gsco-tiny behind a real vLLM server, into `load-served.json`.
"""

import argparse
import io
import random
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import httpx
import numpy as np
from PIL import Image

from benchmarks.record import command_of, write
from benchmarks.serving import server
from gsco.workspace import starter, tasks_of

SEED = 0
PICTURES = 24
SIDES = (64, 400)
"""Shortest and longest side of a picture in pixels."""
SYSTEMS = ("stack", "mean", "neighbours")
"""None of them asks a generalist: its seconds would hide the service's own."""
ASKING = ("gsco-fused", "gsco", "generalist")
NEAR = 0.01
"""Difference of a number that a server's batches may make."""
PATIENCE = 120.0
"""Seconds that a user waits for an answer."""
BETWEEN = 5.0
"""Seconds between two looks at the memory."""


@dataclass(frozen=True)
class Asked:
    """One case as a user sends it."""

    data: bytes
    task: str
    system: str


@dataclass
class Seen:
    """What the users saw."""

    seconds: list[float] = field(default_factory=list)
    """Of each request, in no order."""
    statuses: Counter[str] = field(default_factory=Counter)
    differing: int = 0
    """Answers that are not the ones got alone."""
    memory: list[float] = field(default_factory=list)
    """Resident MiB of the service, while the users ask."""


def cases(systems: Sequence[str] = SYSTEMS) -> list[Asked]:
    """Draw pictures of many sizes for all tasks and systems; every eighth is cut off."""
    generator, tasks = np.random.default_rng(SEED), sorted(tasks_of(starter()))
    drawn = []
    for number in range(PICTURES):
        pixels = generator.integers(20, 230, (12, 12, 3), dtype=np.uint8)
        width, height = (int(side) for side in generator.integers(*SIDES, 2))
        buffer = io.BytesIO()
        Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC).save(
            buffer, "PNG"
        )
        data = buffer.getvalue()
        drawn.append(data[: len(data) // 2] if number % 8 == 7 else data)
    return [
        Asked(data, task, systems[(number + place) % len(systems)])
        for number, data in enumerate(drawn)
        for place, task in enumerate(tasks)
    ]


def ask(client: httpx.Client, asked: Asked) -> tuple[int, dict[str, object]]:
    """Return status and answer, without what differs between two requests for the same."""
    form = {"task": asked.task, "system": asked.system}
    response = client.post("/v1/diagnose", files={"images": asked.data}, data=form)
    answer = response.json()
    return response.status_code, {
        key: value for key, value in answer.items() if key not in ("seconds", "instance")
    }


def alike(one: object, other: object) -> bool:
    """Whether two answers are the same, numbers up to `NEAR`, without what is made of numbers."""
    if isinstance(one, dict) and isinstance(other, dict):
        told = (one.keys() | other.keys()) - {
            "explanation",
            "raw",
            "prediction_set",
            "review_reasons",
        }
        return all(alike(one.get(key), other.get(key)) for key in told)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) < NEAR
    return one == other


@contextmanager
def service(generalist: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the service; give its process and its URL."""
    words = [sys.executable, "-m", "gsco", "api", "--port", "0", "--per-minute", "0"]
    words += ["--generalist", generalist] if generalist else []
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            first = process.stdout.readline() if process.stdout else ""
            found = re.search(r"http://[0-9.:]+", first)
            if not found:
                raise SystemExit("The service did not start: `gsco api` says why.")
            yield process, found[0]
        finally:
            process.terminate()


def resident(process: subprocess.Popen[str]) -> float:
    """Return the MiB of memory that a process holds."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", text)[0]) / 1024


def use(url: str, number: int, known: Sequence[tuple[Asked, object]], end: float) -> Seen:
    """Ask as one user until the end."""
    order, seen = random.Random(f"{SEED} {number}"), Seen()
    with httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False) as client:
        while time.monotonic() < end:
            asked, alone = order.choice(known)
            start = time.perf_counter()
            try:
                found = ask(client, asked)
            except (httpx.HTTPError, ValueError) as error:
                seen.statuses[type(error).__name__] += 1
                continue
            seen.seconds.append(time.perf_counter() - start)
            seen.statuses[str(found[0])] += 1
            seen.differing += not alike(found, alone)
    return seen


def measure(users: int, seconds: float, generalist: str = "") -> dict[str, object]:
    """Run the service and its users; return the figures.

    Args:
        users: who ask at once.
        seconds: for how long.
        generalist: URL of a server; empty to ask none.
    """
    systems = ASKING if generalist else SYSTEMS
    with service(generalist) as (process, url):
        with httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False) as client:
            client.get("/health").raise_for_status()
            begun = resident(process)
            known = [(asked, ask(client, asked)) for asked in cases(systems)]
            warm = resident(process)
        whole, done = Seen(), Event()

        def watch() -> None:
            while not done.wait(BETWEEN):
                whole.memory.append(resident(process))

        watcher = Thread(target=watch)
        watcher.start()
        start = time.monotonic()
        with ThreadPoolExecutor(users) as pool:
            seen = list(
                pool.map(lambda number: use(url, number, known, start + seconds), range(users))
            )
        taken = time.monotonic() - start
        done.set()
        watcher.join()
        ended = resident(process)
    for one in seen:
        whole.seconds += one.seconds
        whole.statuses += one.statuses
        whole.differing += one.differing
    expected = {str(status) for _, (status, _) in known}
    peak = max([warm, ended, *whole.memory])
    return {
        "users": users,
        "seconds": round(taken, 1),
        "seed": SEED,
        "cases": len(known),
        "systems": list(systems),
        "n": sum(whole.statuses.values()),
        "failures": sum(n for status, n in whole.statuses.items() if status not in expected),
        "differing": whole.differing,
        "statuses": dict(sorted(whole.statuses.items())),
        "requests_a_second": round(len(whole.seconds) / taken, 2),
        "wait_seconds": _spread(whole.seconds),
        "requests_by_user": [sum(one.statuses.values()) for one in seen],
        "resident_mib": {
            "start": round(begun, 1),
            "warm": round(warm, 1),
            "peak": round(peak, 1),
            "end": round(ended, 1),
            "each": [round(mib, 1) for mib in whole.memory],
        },
    }


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    parts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {"median": round(parts[49], 3), "p95": round(parts[94], 3), "p99": round(parts[98], 3)}


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--served", action="store_true", help="ask a generalist behind vLLM, too")
    given = parser.parse_args()
    command = command_of("load", parser, given)
    if not given.served:
        print(write("load", command, measure(given.users, given.seconds)))
        return
    with server("") as url:
        figures = measure(given.users, given.seconds, url)
    print(write("load-served", command, figures))


if __name__ == "__main__":
    main()
