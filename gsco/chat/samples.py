"""Samples that tell the story: voices that agree, that differ, an image nobody knows, no answer.

The images come from packages that are installed anyway; what becomes of them is not staged.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gsco.datasets.samples import packaged_samples

if TYPE_CHECKING:
    from gsco.agent import GSCo

_STORY = (
    ("brain-mri", "modality", "Agreement: the kind of image"),
    ("brain-mri", "brain-mri", "Dissent: an MRI slice"),
    ("chest-ct", "pneumonia-cxr", "Out of domain: a CT"),
    ("retina", "pneumonia-cxr", "Undecided: a retina"),
)


@dataclass(frozen=True)
class Chapter:
    """One sample of the page."""

    title: str
    task: str
    path: Path


def story(agent: "GSCo") -> list[Chapter]:
    """Return the samples whose image is installed and whose task the workspace has."""
    paths = {sample.name: sample.path for sample in packaged_samples()}
    known = agent.tasks
    return [
        Chapter(title, task, paths[name])
        for name, task, title in _STORY
        if name in paths and task in known
    ]
