"""The engine on a Ray cluster: workers open the workspace once and ask their share of the cases.

    with cluster("10.0.0.5:6379") as engine:
        run(agent, items, systems, out, engine=engine)

Numbers of works go through an actor pool of Ray Data; answers come back as JSON to the one process
that writes the ledgers. A worker that dies has its work done again by another. Each machine of the
cluster needs the same gsco, and sees the files of workspace and data under the same paths.
"""

import json
import logging
import os
import re
import socket
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from gsco.errors import ClusterError, GscoError, UsageError
from gsco.evaluation.engine import Done, Engine, Work
from gsco.evaluation.ledger import Answer
from retrieval import RetrievalError
from specialists import SpecialistError

if TYPE_CHECKING:
    from gsco.agent import GSCo

TRIES = 10
"""How often work is done again whose worker died, before the run gives up."""
PATIENCE = 5.0
"""Seconds that a cluster may take to open a connection."""
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
"""No telemetry, and no notes of Ray's on its own doings."""
# Ray takes the loopback address by itself on a Mac only, which this switch is named for.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


@contextmanager
def cluster(address: str = "") -> Iterator[Engine]:
    """Join a cluster, or start one on this machine that only this machine can reach.

    Raises:
        UsageError: Ray is not installed.
        ClusterError: there is no cluster at the address.
    """
    os.environ.update(QUIET if address else {**QUIET, **LOOPBACK})
    ray = _imported("ray")
    try:
        _reach(address)
        ray.init(
            address or "local",
            include_dashboard=None if address else False,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    # Ray's ways of saying that nobody is there, or not of its version.
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise ClusterError(
            f"No Ray cluster can be used at {address or 'this machine'!r} ({_reason(error)}). "
            "Check `--ray-address`, or leave it out to use this machine."
        ) from error
    try:
        yield on_cluster
    finally:
        ray.shutdown()


def on_cluster(agent: "GSCo", works: Sequence[Work]) -> Iterator[Done]:
    """Do the works on the cluster that was joined; see `Engine`.

    Raises:
        ClusterError: what a worker says that it cannot mend, or that workers die again and again.
    """
    if not works:
        return
    waiting = set(range(len(works)))
    try:
        for number, answers, failed in _rows(agent, works):
            if failed:
                raise ClusterError(f"A worker of the Ray cluster stopped. {failed}")
            if number in waiting:
                waiting.remove(number)
                yield Done(number, [Answer(**told) for told in json.loads(answers)])
    except _imported("ray").exceptions.RayError as error:
        raise ClusterError(
            f"The Ray cluster gave up ({_reason(error)}). Run it again: answers that are "
            "stored are not asked for twice. Without `--engine ray` it runs in this process."
        ) from error


def _rows(agent: "GSCo", works: Sequence[Work]) -> Iterator[tuple[int, str, str]]:
    """Run the pipeline; give the number of each work, its answers as JSON, and why it failed."""
    ray, data = _imported("ray"), _imported("ray.data")
    data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    # One object for all: workers of one machine read it from shared memory.
    job = ray.put((agent, tuple(works)))
    numbers = [{"number": number} for number in range(len(works))]
    workers = max(1, min(int(ray.cluster_resources().get("CPU", 1)), len(works)))
    with warnings.catch_warnings():
        # Ray would try for ever, and says that the way to say how often will be another one.
        warnings.simplefilter("ignore", DeprecationWarning)
        done = data.from_items(numbers, override_num_blocks=len(works)).map(
            Worker,
            fn_constructor_args=(job, str(Path.cwd())),
            compute=data.ActorPoolStrategy(size=workers),
            num_cpus=1,
            max_task_retries=TRIES,
        )
    # Nothing is fetched ahead: what is done is stored at once.
    for row in done.iter_batches(batch_size=1, prefetch_batches=0, batch_format="numpy"):
        yield int(row["number"][0]), str(row["answers"][0]), str(row["failed"][0])


class Worker:
    """A process of the cluster that keeps the workspace open."""

    # Any: a reference to what was put into Ray's store.
    def __init__(self, job: Any, folder: str) -> None:
        """Remember what to open; the first work opens it.

        Args:
            job: reference to the agent and the works.
            folder: where the run was started, which relative paths start from.
        """
        self._job, self._folder = job, folder

    @cached_property
    def _opened(self) -> "tuple[GSCo, tuple[Work, ...]]":
        try:
            os.chdir(self._folder)
        except OSError as error:
            raise ClusterError(
                f"It has no folder {self._folder!r}. Let every machine of the cluster see the "
                "same files under the same paths."
            ) from error
        job: tuple[GSCo, tuple[Work, ...]] = _imported("ray").get(self._job)
        return job

    def __call__(self, row: dict[str, int]) -> dict[str, object]:
        """Do one work."""
        told, failed = "", ""
        try:
            agent, works = self._opened
            told = json.dumps([asdict(answer) for answer in works[row["number"]](agent)])
        except (GscoError, SpecialistError, RetrievalError) as error:
            failed = str(error)
        return {"number": row["number"], "answers": told, "failed": failed}


# Any: Ray is an extra, and its types are loose.
def _imported(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise UsageError(
            "The engine 'ray' needs Ray, which is not installed. Install the extra: "
            "`pip install 'gsco[ray]'`, or leave `--engine` out."
        ) from error


def _reach(address: str) -> None:
    """Knock at an address of the form HOST:PORT: Ray itself would wait there for minutes."""
    found = urlsplit(address if "://" in address else f"//{address}")
    if found.hostname and found.port:
        socket.create_connection((found.hostname, found.port), timeout=PATIENCE).close()


def _reason(error: BaseException) -> str:
    """Return in one line what Ray wraps in pages."""
    text = str(error).strip()
    # A worker's error travels as a traceback; the innermost stands first.
    if found := re.search(r"^\w+(Error|Exception): .*", text, re.MULTILINE):
        return found[0]
    return text.partition("\n")[0].rstrip(".") or type(error).__name__
