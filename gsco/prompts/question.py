"""The tasks of free text: answering a question about an image, and reporting on one."""

import re
from collections.abc import Sequence

from gsco.cleaned import cleaned
from gsco.errors import UsageError
from gsco.prompts.prompt import YES_NO
from gsco.prompts.text import fill
from gsco.task import Kind, Label, Task

# Of the questions of VQA-RAD (Lau et al., Sci Data 2018) that this takes, 99 % have such an answer.
_YES_NO = re.compile(
    r"(is|are|was|were|do|does|did|has|have|had|can|could|will|would|should|may|might)\b"
    r"(?!\s+you\b)(?!.*\bor\b)",
    re.IGNORECASE | re.DOTALL,
)


def options_of(question: str, options: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the options given, else yes and no where the question asks for them, else none."""
    return tuple(options) or (YES_NO if _YES_NO.match(question.strip()) else ())


def question_task(options: Sequence[str] = (), modality: str = "unknown") -> Task:
    """Return the task of answering a question about an image.

    Args:
        options: the possible answers; none for an open question.
        modality: what the image is, for example `chest X-ray`.

    Raises:
        UsageError: a single option, a blank one, or one that stands twice.
    """
    plain = [cleaned(option).casefold() for option in options]
    if len(plain) == 1 or "" in plain:
        raise UsageError(
            f"The options are {list(options)!r}. Give two or more, none of them blank, or none "
            "for an open question."
        )
    for option, key in zip(options, plain, strict=True):
        if plain.count(key) > 1:
            raise UsageError(f"Option {option!r} is given twice. Give each answer once.")
    return _free("vqa", "visual question answering", modality, options)


def report_task(modality: str = "unknown") -> Task:
    """Return the task of reporting on an image of that modality."""
    return _free("report", "report generation", modality)


def _free(kind: Kind, title: str, modality: str, options: Sequence[str] = ()) -> Task:
    stem = fill("stem", task=title, modality=cleaned(modality))
    return Task(kind, title, kind, tuple(map(Label, options)), modality, stem)
