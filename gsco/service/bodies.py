"""The shapes of what is sent and answered, for the OpenAPI page and for tools of an agent."""

from typing import Annotated, Literal

from fastapi import UploadFile
from pydantic import BaseModel, ConfigDict, Field

from gsco.case import Failure, Reading, System
from gsco.task import Kind
from specialists import Opinion

LONGEST = 2000
"""Characters of a question."""


class Asked(BaseModel):
    """A form: images and what is asked of them. Names of files are not looked at."""

    # A misspelt field would be answered as if it had been left out.
    model_config = ConfigDict(extra="forbid")

    images: Annotated[
        list[UploadFile],
        Field(min_length=1, description="PNG, JPEG, BMP, TIFF, WebP, DICOM or NIfTI files."),
    ]
    task: Annotated[str, Field(max_length=200, description="Its id; see `/v1/tasks`.")]
    question: Annotated[
        str | None, Field(max_length=LONGEST, description="Ask in your own words.")
    ] = None
    system: Annotated[System, Field(description="What collaborates.")] = "gsco-fused"
    style: Annotated[
        Literal["calibrated", "paper"], Field(description="Of the prompt; paper: bare labels.")
    ] = "calibrated"


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
