"""Who speaks on a case: a task's specialists and its similar cases, and what they say together.

Construction hears them on validation cases, the workflow on the cases it is asked about.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from gsco import fusion
from gsco.case import System
from gsco.fusion import NEIGHBOURS, Fusion
from gsco.workspace import TaskFolder
from retrieval import Neighbour, vote, vote_multi
from specialists import Opinion, Specialist, SpecialistError

if TYPE_CHECKING:
    from retrieval import Embedder

RECALLED = 10
"""Neighbours recalled while fitting: the published k."""
TOGETHER = "together"
"""What the opinion is called that weighs all others."""
READ_SYSTEMS: tuple[System, ...] = ("generalist", "moed", "rad", "gsco")
"""Those whose answer is the generalist's reading."""


def embedder_named(name: str, folder: TaskFolder) -> "Embedder":
    """Return the independent embedder, or a specialist of the task by its name."""
    from specialists.classifier import load
    from specialists.embedder import NAME, independent_embedder

    if name in ("independent", NAME):
        return independent_embedder()
    return load(folder.specialist(name))


def embedder_of(folder: TaskFolder) -> "Embedder":
    """Return the embedder that a task's index was built with."""
    from retrieval.storage import read_manifest

    return embedder_named(read_manifest(folder.index).embedder, folder)


def specialists_of(folder: TaskFolder) -> "dict[str, Specialist]":
    """Load the specialists of a task: those in its folder and those of installed packages.

    Raises:
        SpecialistError: altered or missing weights, or a name that stands twice.
    """
    from specialists.classifier import load
    from specialists.registry import installed

    own: dict[str, Specialist] = {
        name: load(folder.specialist(name)) for name in folder.specialists()
    }
    foreign = installed(folder.name)
    if twice := set(own) & set(foreign):
        raise SpecialistError(
            f"An installed package offers a specialist {min(twice)!r}, which task "
            f"{folder.name!r} has already. Uninstall it, or give it another name."
        )
    return own | foreign


def hears(system: str) -> bool:
    """Whether the system shows the specialists' opinions to the generalist."""
    return system in ("moed", "gsco")


def recalls(system: str) -> bool:
    """Whether the system shows the neighbours to the generalist."""
    return system in ("rad", "gsco")


def neighbour_vote(
    neighbours: Sequence[Neighbour], labels: Sequence[str], kind: str
) -> tuple[float, ...]:
    """Return the neighbours' similarity-weighted vote, one probability a label."""
    return (vote_multi if kind == "multi" else vote)(neighbours, labels)


def together(
    fitted: Fusion, opinions: Mapping[str, Opinion], neighbours: Sequence[Neighbour]
) -> Opinion | None:
    """Return what opinions and neighbours come to by the weights that validation taught.

    None where less than two of the voices that were weighed are there, or no specialist is.
    """
    voices = {name: np.array([opinion.probabilities]) for name, opinion in opinions.items()}
    if neighbours:
        shares = neighbour_vote(neighbours, fitted.labels, fitted.kind)
        voices[NEIGHBOURS] = np.array([shares])
    if not opinions or len(voices.keys() & fitted.stack.keys()) < 2:
        return None
    (row,) = fusion.pool(voices, fitted.stack, fitted.kind, fitted.prior).tolist()
    return Opinion(TOGETHER, fitted.labels, tuple(row), fitted.kind, fitted.reliability)
