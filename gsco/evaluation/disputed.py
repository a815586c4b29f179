"""Cases that the systems disagree about, with small images where the licence lets them be shown.

OUT/SET/images.json    case to image, of the cases that the report lists

They are kept when a run ends, while the data are at hand; a report of later shows what is kept.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gsco.datasets.licence import open_licence
from gsco.evaluation.metrics import Answers
from gsco.evaluation.stored import Stored, right
from gsco.thumbnail import data_url
from gsco.workspace import write_text
from specialists import SpecialistError

if TYPE_CHECKING:
    from gsco.datasets import Dataset

SHOWN = 12
"""Cases a set that are listed."""
SIDE = 160
"""Longest side of an image, in pixels."""
IMAGES = "images.json"
FORBIDDEN = "No image: its licence is not known to let it be shown."
ABSENT = "No image: none is kept with this run. Run it again where the data are."
_LONGEST = 65_536
_START = "data:image/jpeg;base64,"


@dataclass(frozen=True)
class Dispute:
    """One case that some systems tell rightly and others do not."""

    case: str
    truth: str
    said: Mapping[str, str]
    """System to its answer."""

    @property
    def answers(self) -> dict[str, list[str]]:
        """Answer to the systems that gave it, the true one first."""
        told = sorted(set(self.said.values()), key=lambda answer: (answer != self.truth, answer))
        return {answer: [n for n, other in self.said.items() if other == answer] for answer in told}


def disputes_of(stored: Stored, said: Mapping[str, Answers]) -> list[Dispute]:
    """Return the cases that about half of the systems tell rightly."""
    told = np.array([right(found, stored.targets) for found in said.values()])
    shares = told.mean(axis=0)
    order = np.argsort(np.abs(shares - 0.5), kind="stable")
    chosen = [int(i) for i in order[:SHOWN] if 0 < shares[i] < 1]
    return [
        Dispute(
            stored.cases[i],
            _words(stored.targets[i], stored.labels),
            {name: _words(found.chosen[i], stored.labels) for name, found in said.items()},
        )
        for i in chosen
    ]


def _words(answer: NDArray[np.int64], labels: Sequence[str]) -> str:
    """Say a class number, or zeros and ones of a multi-label task."""
    if answer.ndim:
        held = (text for text, holds in zip(labels, answer, strict=True) if holds)
        return ", ".join(held) or "none"
    return labels[int(answer)] if answer >= 0 else "no answer"


def keep_images(folder: Path, disputes: Sequence[Dispute], dataset: "Dataset") -> None:
    """Keep small images of disputed cases in the folder of a set, if the licence allows."""
    cases, found = {one.case for one in disputes}, {}
    if open_licence(dataset.licence):
        for record in (record for record in dataset.split("test") if record.id in cases):
            # A file that is no image is a failure of its case already.
            with suppress(SpecialistError):
                found[record.id] = data_url(record.open(), SIDE)
    write_text(folder / IMAGES, json.dumps(found, indent=1) + "\n")


def images_of(folder: Path, licence: str | None) -> dict[str, str]:
    """Return case to image, as a data URL, of what is kept and may be shown.

    What is no small picture inside the page is left out: the page must load nothing from elsewhere.
    """
    try:
        kept = json.loads((folder / IMAGES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if open_licence(licence) is None or not isinstance(kept, dict):
        return {}
    return {
        case: url
        for case, url in kept.items()
        if isinstance(url, str) and url.startswith(_START) and len(url) <= _LONGEST
    }


def reason_of(licence: str | None) -> str:
    """Say why a case is listed without its image."""
    return ABSENT if open_licence(licence) else FORBIDDEN
