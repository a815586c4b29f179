"""Engines: who does the work of a run. Work is a call that travels: from a workspace to answers.

with engine_named("ray") as engine:
run(agent, items, systems, out, engine=engine)
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, get_args

from gsco.errors import UsageError, unknown
from gsco.evaluation.ledger import Answer

if TYPE_CHECKING:
    from gsco.agent import GSCo

EngineName = Literal["local", "ray"]
BESIDE = 3
"""Works that overlap."""
Work = Callable[["GSCo"], list[Answer]]
"""Asks some cases together. It can be pickled, so that another process may do it."""


class Done(NamedTuple):
    """Work that is done."""

    number: int
    """Which of the works, from 0."""
    answers: list[Answer]


class Engine(Protocol):
    """Does each work once; tells of it as soon as it is done, in any order."""

    def __call__(self, agent: "GSCo", works: Sequence[Work]) -> Iterator[Done]:
        """Do the works with the workspace."""


def one_by_one(agent: "GSCo", works: Sequence[Work]) -> Iterator[Done]:
    """Do the works in this process, in order."""
    for number, work in enumerate(works):
        yield Done(number, work(agent))


def overlapping(agent: "GSCo", works: Sequence[Work]) -> Iterator[Done]:
    """Do a few works at a time in this process, and tell of them in order.

    A server then has more to do while the last answers of one work are awaited.
    """
    pool = ThreadPoolExecutor(BESIDE)
    try:
        for number, answers in enumerate(pool.map(lambda work: work(agent), works)):
            yield Done(number, answers)
    finally:
        # Whoever breaks off waits for what has begun, not for all the rest.
        pool.shutdown(cancel_futures=True)


def engine_named(name: str, address: str = "") -> AbstractContextManager[Engine]:
    """Return the engine of that name; leaving the block gives back what it holds.

    Args:
        name: `local` or `ray`.
        address: of a Ray cluster; empty to start one on this machine.

    Raises:
        UsageError: there is no such engine, or its extra is not installed.
        ClusterError: the cluster cannot be reached.
    """
    if name == "local":
        return nullcontext(one_by_one)
    if name != "ray":
        raise UsageError(unknown("engine", name, get_args(EngineName), "gsco bench run --help"))
    from gsco.evaluation.cluster import cluster

    return cluster(address)
