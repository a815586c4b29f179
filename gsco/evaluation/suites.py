"""Suites: data sets that are asked together, by one name.

gsco28   the 28 sets of the publication
open     every set that anybody may have
local    what is constructed, and the questions and reports that are there
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from gsco.datasets.card import DataCard, data_cards
from gsco.datasets.known import place_of
from gsco.errors import UsageError, unknown

SuiteName = Literal["gsco28", "open", "local"]


@dataclass(frozen=True)
class Chosen:
    """What a suite comes to in a workspace and a folder of data."""

    tasks: list[str] = field(default_factory=list)
    """Constructed tasks."""
    words: list[str] = field(default_factory=list)
    """Sets of questions or reports."""
    left: dict[str, str] = field(default_factory=dict)
    """Sets that cannot be asked, and what to do about each."""


def members(suite: str) -> dict[str, DataCard]:
    """Return the cards of a suite by name; `local` has none of its own.

    Raises:
        UsageError: there is no such suite.
    """
    if suite not in get_args(SuiteName):
        raise UsageError(unknown("suite", suite, get_args(SuiteName), "gsco bench run --help"))
    if suite == "local":
        return {}
    # The targets of the publication's cross-domain test are not among its 28 sets.
    return {
        name: card
        for name, card in data_cards().items()
        if (card.tier == "open" if suite == "open" else card.domain != "cross")
    }


def choose(suite: str, constructed: Collection[str], root: Path) -> Chosen:
    """Part a suite into what can be asked, and what is to be fetched or constructed first.

    Args:
        suite: its name.
        constructed: the tasks of the workspace.
        root: holds the folders of the data sets.

    Raises:
        UsageError: there is no such suite.
    """
    chosen = Chosen()
    for name, card in members(suite).items():
        place = place_of(name, root)
        if place is None:
            chosen.left[name] = f"it is not under {root.name!r}; see `gsco data show {name}`"
        elif card.task is None:
            chosen.words.append(name)
        elif name in constructed:
            chosen.tasks.append(name)
        else:
            todo = f"gsco construct {name} --data {place}"
            chosen.left[name] = f"it is there but not constructed; run `{todo}`"
    return chosen
