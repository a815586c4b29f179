"""Foreign specialists: whatever other installed packages offer for a task.

A package offers one by an entry point whose value is a function of the task's id:

    [project.entry-points."gsco.specialists"]
    my-model = "my_package:specialist"      # def specialist(task: str) -> Specialist | None
"""

from dataclasses import replace
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from specialists.errors import SpecialistError
from specialists.opinion import Opinion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from specialists import Specialist

GROUP = "gsco.specialists"


def installed(task: str) -> "dict[str, Specialist]":
    """Return by name the specialists that other packages offer for a task.

    Raises:
        SpecialistError: a package cannot be loaded, or two offer the same name.
    """
    found: dict[str, Specialist] = {}
    for entry in entry_points(group=GROUP):
        try:
            offered: Specialist | None = entry.load()(task)
        except (ImportError, AttributeError, TypeError) as error:
            raise SpecialistError(
                f"The specialist {entry.name!r} of an installed package cannot be loaded "
                f"({error}). Mend or uninstall that package."
            ) from error
        if offered is None:
            continue
        if offered.name in found:
            raise SpecialistError(
                f"Two installed packages offer a specialist {offered.name!r} for task {task!r}. "
                "Uninstall one of them."
            )
        found[offered.name] = offered
    return found


def ordered(opinion: Opinion, labels: "Sequence[str]") -> Opinion:
    """Return the opinion over exactly `labels`, in their order.

    Raises:
        SpecialistError: it says nothing of one of them, or knows others.
    """
    if opinion.labels == tuple(labels):
        return opinion
    said = dict(zip(opinion.labels, opinion.probabilities, strict=True))
    if set(said) != set(labels):
        raise SpecialistError(
            f"Specialist {opinion.specialist!r} knows the labels {list(said)!r}, the task has "
            f"{list(labels)!r}. Give it the task's labels, or take it out."
        )
    return replace(opinion, labels=tuple(labels), probabilities=tuple(said[t] for t in labels))
