"""The shapes of what is answered, for the OpenAPI page and for tools of an agent."""

from typing import Literal

from pydantic import BaseModel, Field

from gsco.case import Failure, Reading, System
from gsco.task import Kind
from specialists import Opinion


class WrongField(BaseModel):
    """A field of a form that is not as it should be."""

    at: str
    why: str


class ProblemBody(BaseModel):
    """A problem document (RFC 9457)."""

    type: str = Field(description="Address of the kind's description.")
    title: str = Field(description="The kind in words.")
    status: int
    detail: str = Field(description="What to do, in a sentence.")
    instance: str = Field(description="Name of this one occurrence, also in the log of a bug.")
    errors: list[WrongField] | None = None


class TaskBody(BaseModel):
    """A task of the workspace."""

    id: str
    title: str
    kind: Kind
    labels: list[str]
    modality: str


class TasksBody(BaseModel):
    """The tasks that can be asked for."""

    version: int
    tasks: list[TaskBody]
    notice: str


class HealthBody(BaseModel):
    """The service runs."""

    status: Literal["ok"]
    version: str = Field(description="Of gsco.")
    notice: str


class NeighbourBody(BaseModel):
    """A labelled case that resembles the image."""

    id: str
    labels: tuple[str, ...]
    similarity: float = Field(description="Cosine similarity, in [-1, 1].")
    patient: str | None
    source: str | None
    report: str | None


class DiagnosisBody(BaseModel):
    """The answer, what says so, and how far it can be trusted."""

    version: int
    case: str = Field(description="Content hash of the first image.")
    task: str
    system: System
    answer: str | tuple[str, ...] | None
    probabilities: dict[str, float]
    prediction_set: tuple[str, ...] | None = Field(
        description="Labels that cannot be excluded at `coverage`."
    )
    coverage: float | None
    review: bool = Field(description="Whether a person must look before anybody relies on it.")
    review_reasons: tuple[str, ...]
    opinions: tuple[Opinion, ...]
    neighbours: tuple[NeighbourBody, ...]
    reading: Reading | None
    in_domain: bool | None = Field(description="Whether the image resembles the training cases.")
    familiarity: float | None
    dropped_neighbours: int = Field(description="Cases the leakage guard left out.")
    explanation: str
    changed_by: dict[str, str]
    failures: tuple[Failure, ...] = Field(description="Parts that did not deliver.")
    seconds: dict[str, float]
    provenance: dict[str, str]
    notice: str


class NeighboursBody(BaseModel):
    """The labelled cases that resemble an image most: a part of its diagnosis by them."""

    version: int
    case: str
    task: str
    neighbours: tuple[NeighbourBody, ...]
    in_domain: bool | None
    familiarity: float | None
    dropped_neighbours: int
    notice: str


class SpecialistBody(BaseModel):
    """A trained specialist and how good it is on validation."""

    task: str
    name: str
    n: int = Field(description="Validation cases.")
    balanced_accuracy: float
    auc: float | None
    ece: float
    data: str
    licence: str
    sha256: str


class SpecialistsBody(BaseModel):
    """The trained specialists."""

    version: int
    specialists: list[SpecialistBody]
    notice: str


class BatchCase(BaseModel):
    """What became of one image of a batch: a diagnosis or a problem."""

    number: int = Field(description="Of the image in the form, from 1.")
    diagnosis: DiagnosisBody | None
    problem: ProblemBody | None


class BatchBody(BaseModel):
    """What became of each image, in the order of the form."""

    version: int
    cases: list[BatchCase]
    failures: int = Field(description="Cases without a diagnosis.")
    notice: str
