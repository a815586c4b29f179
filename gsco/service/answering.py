"""What is done for a request, in the one thread that owns the models: a form in, values out.

Files are read here and not before: of the requests that wait, none holds its images in memory.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from fastapi import UploadFile
from PIL import Image

from gsco.agent import BATCH, GSCo
from gsco.case import Case, Diagnosis
from gsco.errors import FusionError, GeneralistError, UsageError, WorkspaceError
from gsco.listing import Row
from gsco.service.form import Asked
from gsco.service.problems import Problem
from gsco.service.uploads import decoded, images_of, unreadable
from retrieval import RetrievalError
from specialists import SpecialistError
from specialists.images import LARGEST


def diagnosed(agent: GSCo, asked: Asked) -> Diagnosis:
    """Diagnose one case of one or more images.

    Raises:
        Problem: an image cannot be read, or the task or the generalist cannot be used.
    """
    images = images_of([upload.file.read() for upload in asked.images])
    with _errors_told():
        return agent.diagnose(_case(asked, *images), asked.system, style=asked.style)


def batched(agent: GSCo, asked: Asked) -> list[Row]:
    """Diagnose images, each a case; return a row for each, with a diagnosis or a problem.

    Raises:
        Problem: the task or the generalist cannot be used.
    """
    problems: dict[int, Row] = {}
    made: dict[int, Row] = {}
    for group in _groups(asked.images, problems):
        cases = [_case(asked, image) for image in group.values()]
        with _errors_told():
            found = agent.diagnose_many(cases, asked.system, style=asked.style)
        made |= {number: one.to_dict() for number, one in zip(group, found, strict=True)}
    return [
        {"number": number, "diagnosis": made.get(number), "problem": problems.get(number)}
        for number in range(1, len(asked.images) + 1)
    ]


def _case(asked: Asked, *images: Image.Image) -> Case:
    return Case(images=images, task=asked.task, question=asked.question)


def _groups(
    uploads: Sequence[UploadFile], problems: dict[int, Row]
) -> Iterator[dict[int, Image.Image]]:
    """Read images, numbered from 1, in groups that fit into memory; note those that fail."""
    group: dict[int, Image.Image] = {}
    for number, upload in enumerate(uploads, 1):
        try:
            group[number] = decoded(upload.file.read())
        except SpecialistError as error:
            problems[number] = unreadable(number, len(uploads), error).document()
        pixels = sum(image.width * image.height for image in group.values())
        if len(group) == BATCH or pixels > LARGEST // 4:
            yield group
            group = {}
    if group:
        yield group


@contextmanager
def _errors_told() -> Iterator[None]:
    """Turn gsco's errors into problems; the images have been read before."""
    try:
        yield
    except GeneralistError as error:
        raise Problem("no-generalist", str(error)) from error
    except UsageError as error:
        raise Problem("bad-request", str(error)) from error
    except (WorkspaceError, FusionError, RetrievalError, SpecialistError) as error:
        raise Problem("not-ready", str(error)) from error
