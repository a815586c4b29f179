"""Asking: an engine does all that no ledger knows; every answer is on disk before the next.

The same for diagnoses and for words. One call of the engine does the work of all sets, so that a
cluster opens the workspace once.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gsco.evaluation.engine import Engine, Work
from gsco.evaluation.ledger import Ledger
from gsco.evaluation.outlook import Outlook
from gsco.progress import Progress, Say

if TYPE_CHECKING:
    from gsco.agent import GSCo


@dataclass(frozen=True)
class Strand:
    """What is to be asked of one set and one system, or of one set in words."""

    name: str
    """Of the set."""
    who: str
    """Who is asked: cases of one cost about the same."""
    step: str
    """How progress calls it."""
    ledger: Ledger
    works: Sequence[Work]
    """What the ledger does not know."""
    left: int
    """How many cases that is."""
    cases: int
    """How many there are, known ones included."""


def ask(
    agent: "GSCo",
    strands: Sequence[Strand],
    engine: Engine,
    reading: Collection[str],
    progress: Progress,
    say: Say,
) -> Iterator[str]:
    """Do the works of all strands in order; give the name of each set once it is answered.

    Args:
        agent: the opened workspace.
        strands: those of a set one after another.
        engine: who asks.
        reading: those asked who let the generalist read each case.
        progress: told how far each strand is.
        say: told the outlook after each work.
    """
    works = [(strand, work) for strand in strands for work in strand.works]
    left = {strand.step: strand.left for strand in strands}
    waiting = _summed((strand.name, strand.left) for strand in strands)
    outlook = Outlook(_summed((strand.who, strand.left) for strand in strands), reading, say)
    for strand in strands:
        progress(strand.step, strand.cases - strand.left, strand.cases)
    yield from (name for name, count in waiting.items() if not count)
    for number, answers in engine(agent, [work for _, work in works]):
        strand = works[number][0]
        strand.ledger.add(answers)
        left[strand.step] -= len(answers)
        waiting[strand.name] -= len(answers)
        progress(strand.step, strand.cases - left[strand.step], strand.cases)
        outlook.note(strand.who, answers)
        if not waiting[strand.name]:
            yield strand.name


def _summed(counts: Iterable[tuple[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for name, count in counts:
        total[name] = total.get(name, 0) + count
    return total
