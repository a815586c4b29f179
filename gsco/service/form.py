"""What is sent to the HTTP service: a form of images and what is asked of them."""

from typing import Annotated, Literal

from fastapi import UploadFile
from pydantic import BaseModel, ConfigDict, Field

from gsco.case import System

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
