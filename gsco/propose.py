"""Which task an image is for: the one whose labelled cases it resembles most.

Proposed, never decided: a person sees how alike the image is and chooses another task at will.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from gsco.case import Case
from gsco.voices import RECALLED

if TYPE_CHECKING:
    from gsco.agent import GSCo


@dataclass(frozen=True)
class Proposal:
    """A task that an image may be for."""

    task: str
    familiarity: float
    """Mean cosine similarity to its nearest labelled cases, in [-1, 1]."""
    margin: float
    """How far that lies above what the task's own validation cases reach; below 0: foreign."""

    @property
    def is_familiar(self) -> bool:
        """Whether the image resembles the task's cases as its own validation cases do."""
        return self.margin >= 0


def propose(agent: "GSCo", image: Image.Image) -> list[Proposal]:
    """Return every task of the workspace with an index, the most likely first.

    A task that only tells kinds of examination apart stands behind those of the kinds themselves.

    Raises:
        SpecialistError: the image cannot be read. RetrievalError: an index is damaged.
    """
    tasks, found = agent.tasks, []
    kinds = {task.modality for task in tasks.values()}
    for task in tasks:
        similar = agent.similar(Case((image,), task), RECALLED)
        if similar:
            alike = float(np.mean([neighbour.similarity for neighbour in similar]))
            found.append(Proposal(task, alike, alike - agent.tools(task).fusion.familiar))

    def order(one: Proposal) -> tuple[bool, bool, float]:
        return not one.is_familiar, not kinds.isdisjoint(tasks[one.task].texts), -one.familiarity

    return sorted(found, key=order)
