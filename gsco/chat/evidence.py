"""The evidence of a diagnosis as a sheet of HTML: on the page, and in the report.

All text is escaped by the template; pictures stand in it as data, so that a sheet is one file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gsco.case import Diagnosis
from gsco.errors import DataError
from gsco.explain import is_unheard
from gsco.thumbnail import data_url
from retrieval import Neighbour
from specialists import SpecialistError

if TYPE_CHECKING:
    from gsco.agent import GSCo
    from gsco.datasets import Record

_ONE_AT_A_TIME = Lock()


@dataclass(frozen=True)
class Sheet:
    """All that the sheet of one diagnosis shows."""

    made: Diagnosis
    title: str
    """Of the task."""
    picture: Image.Image
    """The image that was asked about."""
    looks: Mapping[str, Image.Image] = field(default_factory=dict)
    """Specialist to the map of where it looked, the size of the image."""
    shown: Mapping[str, Image.Image] = field(default_factory=dict)
    """Id of a similar case to its image, where that is at hand."""
    alone: Diagnosis | None = None
    """What the generalist says without the evidence; None if it was not asked."""
    changes: bool = False
    """Whether it was tried what the answer would be without each piece of evidence."""


def looks_of(agent: "GSCo", image: Image.Image, made: Diagnosis) -> dict[str, Image.Image]:
    """Return where each specialist looked for its own answer; those that cannot show it are left.

    Returns:
        Specialist to an RGBA map of the image's size, clear where nothing spoke for the answer.
    """
    from specialists.classifier import Classifier
    from specialists.grad_cam import saliency

    tools, found = agent.tools(made.task), {}
    for opinion in made.opinions:
        specialist = tools.specialists.get(opinion.specialist)
        if isinstance(specialist, Classifier) and opinion.answers:
            # Gradients are kept by hooks on the network, which threads share.
            with _ONE_AT_A_TIME:
                heat = saliency(specialist, tools.as_learnt(image), opinion.answers[0])
            found[opinion.specialist] = _coloured(heat).resize(image.size)
    return found


def _coloured(heat: NDArray[np.float32]) -> Image.Image:
    from matplotlib import colormaps

    pixels = (colormaps["inferno"](heat) * 255).astype(np.uint8)
    pixels[..., 3] = (heat * 255).astype(np.uint8)
    return Image.fromarray(pixels, "RGBA")


class Shelf:
    """The images of labelled cases, where the data they were indexed from are at hand."""

    def __init__(self, agent: "GSCo") -> None:
        self._agent = agent
        self._records: dict[str, dict[str, Record]] = {}
        self._lock = Lock()

    def find(self, task: str, neighbours: tuple[Neighbour, ...]) -> dict[str, Image.Image]:
        """Return id to image for those that can be shown."""
        with self._lock:
            if task not in self._records:
                self._records[task] = self._read(task)
        found = {}
        for one in neighbours:
            try:
                if one.id in self._records[task]:
                    found[one.id] = self._records[task][one.id].open()
            except SpecialistError:
                continue
        return found

    def _read(self, task: str) -> "dict[str, Record]":
        """Read the data of a task if they are what it was constructed from."""
        from gsco.evaluation.bench import local_items

        root = self._agent.settings.data
        try:
            items, _ = local_items(self._agent, Path(root), [task]) if root else ([], {})
        except DataError:
            return {}
        return {record.id: record for item in items for record in item.dataset.records}


def render(sheet: Sheet) -> str:
    """Return the sheet as a piece of HTML."""
    made = sheet.made
    if is_unheard(made):
        caption = "Without evidence: it weighs nothing here"
    elif made.system in ("gsco-fused", "generalist"):
        caption = "Without evidence: one voice among others"
    else:
        caption = "With the evidence in the prompt"
    return str(template("evidence").render(sheet=sheet, made=made, caption=caption, url=data_url))


@cache
def template(name: str) -> Any:  # Any: of jinja2, which is imported where used
    """Return a template of this package; what it is filled with is escaped."""
    from jinja2 import Environment, PackageLoader

    made = Environment(
        loader=PackageLoader("gsco.chat", ""), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= {"share": lambda value: f"{value:.0%}", "listed": ", ".join, "zipped": zip}
    return made.get_template(f"{name}.html.jinja")


def style() -> str:
    """Return the style sheet of the page and the report."""
    return (resources.files("gsco.chat") / "sheet.css").read_text(encoding="utf-8")
