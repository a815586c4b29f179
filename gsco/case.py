"""The values that walk through gsco: a Case comes in, a Reading is made, a Diagnosis goes out.

Where words are asked for, an Answer or a Report goes out. A Case never holds labels. `Opinion`
(specialists) and `Neighbour` (retrieval) belong to the leaves.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, get_args

from PIL import Image

from retrieval import Neighbour
from specialists import Opinion

System = Literal[
    "generalist",
    "specialist",
    "vote",
    "mean",
    "stack",
    "neighbours",
    "moed",
    "rad",
    "gsco",
    "gsco-fused",
]
"""The dial: what collaborates. `gsco` is the published method, `gsco-fused` adds calibration."""

SYSTEMS: tuple[System, ...] = get_args(System)

DIAGNOSIS_VERSION = ANSWER_VERSION = REPORT_VERSION = 1
NOTICE = "Research software, not a medical device: never use it to decide about a patient."


@dataclass(frozen=True)
class Case:
    """What a person asks about: images, a task, perhaps a question."""

    images: tuple[Path | str | Image.Image, ...]
    """Files or PIL images of one case; one alone will do. Specialists and index see the first."""
    task: str
    """Id of a task in the workspace, for example `pneumonia-cxr`."""
    question: str | None = None
    """A question in the user's words; the options stay those of the task."""
    id: str | None = None
    """The caller's name of the case; the content hash of its first image if None."""
    patient: str | None = None
    """Pseudonym of the patient; neighbours of the same patient are left out."""

    def __post_init__(self) -> None:
        one = isinstance(self.images, str | Path | Image.Image)
        object.__setattr__(self, "images", (self.images,) if one else tuple(self.images))


@dataclass(frozen=True)
class Reading:
    """What the generalist says: a probability for each option, and its words."""

    answer: str | None
    """The chosen option's label, or None if what it said could not be parsed."""
    probabilities: Mapping[str, float]
    """Label to probability, sums to 1 for single-label tasks; empty if it gave none."""
    raw: str
    """What the model wrote or chose, unchanged; served, only as far as it decides."""
    model: str
    """Name of the model."""
    prompt_hash: str
    """SHA-256 of the prompt's text, without pixels."""
    permutations: int = 1
    """Over how many option orders the probabilities are averaged."""
    failure: str | None = None
    """Why there is no answer: the server refused this prompt, say; None if there is one."""
    too_long: bool = False
    """Whether it failed because the prompt is longer than the model reads."""


@dataclass(frozen=True)
class Failure:
    """A part that did not deliver."""

    part: str
    """For example `specialist resnet18`, `generalist`, `index`."""
    reason: str
    """One sentence."""


@dataclass(frozen=True)
class Diagnosis:
    """The answer, what says so, and how far it can be trusted."""

    case: str
    task: str
    system: System
    answer: str | tuple[str, ...] | None
    """The label, the labels of a multi-label task, or None if no part could answer."""
    probabilities: Mapping[str, float]
    """Label to probability, in [0, 1]."""
    prediction_set: tuple[str, ...] | None
    """Labels that cannot be excluded at `coverage`; None where no set was fitted."""
    coverage: float | None
    """The share of cases whose true label the set is built to hold."""
    review: bool
    """Whether a person must look before anybody relies on the answer."""
    review_reasons: tuple[str, ...]
    opinions: tuple[Opinion, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    reading: Reading | None = None
    in_domain: bool | None = None
    """Whether the image resembles what the specialists were trained on; None if unknown."""
    familiarity: float | None = None
    """Mean cosine similarity to the nearest indexed cases, in [-1, 1]."""
    dropped_neighbours: int = 0
    """Cases the leakage guard left out."""
    explanation: str = ""
    """The diagnosis in sentences, composed from the other fields."""
    changed_by: Mapping[str, str] = field(default_factory=dict)
    """Evidence whose absence would change the answer, and to what (leave one out, on request)."""
    failures: tuple[Failure, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Wall time of each step."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Versions and hashes that reproduce the answer."""
    notice: str = NOTICE

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready data; `version` changes when a key changes its meaning."""
        neighbours = [neighbour._asdict() for neighbour in self.neighbours]
        return {"version": DIAGNOSIS_VERSION, **asdict(self), "neighbours": neighbours}


@dataclass(frozen=True)
class Answer:
    """What was said to a question about an image."""

    question: str
    text: str
    """The chosen option, or what was written."""
    probabilities: Mapping[str, float]
    """Option to probability, summing to 1; empty for an open question, or if none was given."""
    model: str
    """Name of the generalist."""
    prompt_hash: str | None
    """SHA-256 of the prompt's text, without pixels; None where no prompt asked the question."""
    composed: bool = False
    """Whether the text was put together from a diagnosis, because the generalist cannot write."""
    caution: str | None = None
    """Why the answer may be worth little, in a sentence; None if nothing says so."""
    failures: tuple[Failure, ...] = ()
    """Parts of the evidence that did not deliver."""
    notice: str = NOTICE

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready data; `version` changes when a key changes its meaning."""
        return {"version": ANSWER_VERSION, **asdict(self)}


@dataclass(frozen=True)
class Report:
    """Findings and impression of a case in words."""

    case: str
    """The caller's id, or the content hash of the first image."""
    task: str
    text: str
    """All that was written."""
    findings: str | None
    """Its part after `Findings:`; None where it has no such part."""
    impression: str | None
    """Its part after `Impression:`; None where it has no such part."""
    model: str
    """Name of the generalist."""
    prompt_hash: str | None
    """SHA-256 of the prompt's text, without pixels; None where no prompt asked for a report."""
    composed: bool = False
    """Whether the text was put together from a diagnosis, because the generalist cannot write."""
    failures: tuple[Failure, ...] = ()
    """Parts of the evidence that did not deliver or were not read."""
    notice: str = NOTICE

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready data; `version` changes when a key changes its meaning."""
        return {"version": REPORT_VERSION, **asdict(self)}
