"""What one browser session holds: cases, and what was said of each. It is never shared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from gsco.case import Answer, Case, Diagnosis, System
from gsco.chat.evidence import Sheet
from gsco.errors import UsageError
from specialists.images import decode
from specialists.volumes import Volume, open_volume

MOST_IMAGES = 8
"""Images of one case, if they are no slices of a volume."""
MOST_CASES = 20
"""Cases that a session remembers; the oldest goes first."""


@dataclass
class Exam:
    """The images of one case, as they are looked at and asked about."""

    pictures: tuple[Image.Image, ...]
    """RGB. For a volume only the slice that is asked about."""
    volume: Volume | None = None
    number: int = 0
    """Which slice of the volume, from 0."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Technical facts; nothing that names a patient."""

    def turn_to(self, number: int) -> None:
        """Ask about another slice of the volume."""
        if self.volume is not None:
            self.number = max(0, min(number, len(self.volume.values) - 1))
            self.pictures = (self.volume.picture(self.number),)


def open_exam(files: Sequence[Path]) -> Exam:
    """Read the images of one case.

    Raises:
        UsageError: too many images. SpecialistError: a file is no image that can be read.
    """
    volume = open_volume(files)
    if volume is not None and (len(files) > 1 or len(volume.values) > 1):
        exam = Exam((), volume, facts=volume.header)
        exam.turn_to(len(volume.values) // 2)
        return exam
    if len(files) > MOST_IMAGES:
        raise UsageError(f"{len(files)} images are too many for one case: give {MOST_IMAGES}.")
    pictures = tuple(decode(file) for file in files)
    sizes = ", ".join(f"{one.width} x {one.height}" for one in pictures)
    facts = volume.header if volume else {}
    return Exam(pictures, volume, facts={"Pixels": sizes, **facts})


@dataclass
class Talk:
    """One case and all that was said of it."""

    exam: Exam
    task: str
    system: System
    messages: list[dict[str, str]] = field(default_factory=list)
    """As the page shows them: `role` and `content`, plain text."""
    diagnosis: Diagnosis | None = None
    answers: list[Answer] = field(default_factory=list)
    sheet: Sheet | None = None
    """The evidence as far as it is known."""

    @property
    def case(self) -> Case:
        """The case as it is asked about now."""
        return Case(self.exam.pictures, self.task)

    def say(self, role: str, content: str) -> None:
        """Add a message."""
        self.messages.append({"role": role, "content": content})

    def told(self) -> dict[str, Any]:
        """Return what is exported of the case: no pixels."""
        return {
            "task": self.task,
            "system": self.system,
            "facts": dict(self.exam.facts),
            "messages": list(self.messages),
            "diagnosis": self.diagnosis.to_dict() if self.diagnosis else None,
            "answers": [answer.to_dict() for answer in self.answers],
        }


@dataclass
class Session:
    """The cases of one browser session, the current one by its place."""

    talks: list[Talk] = field(default_factory=list)
    place: int = -1
    asked: int = 0
    """How many cases there have been, forgotten ones included."""

    @property
    def talk(self) -> Talk | None:
        """The case that is talked about now."""
        return self.talks[self.place] if 0 <= self.place < len(self.talks) else None

    def begin(self, talk: Talk) -> Talk:
        """Talk about a new case; the oldest is forgotten where there are too many."""
        self.talks = [*self.talks, talk][-MOST_CASES:]
        self.place, self.asked = len(self.talks) - 1, self.asked + 1
        return talk

    def names(self) -> list[str]:
        """Return what the cases are called, oldest first."""
        first = self.asked - len(self.talks) + 1
        return [
            f"Case {first + place}: {talk.task}"
            + (f", {_said(talk.diagnosis)}" if talk.diagnosis else "")
            for place, talk in enumerate(self.talks)
        ]


def _said(made: Diagnosis) -> str:
    answer = made.answer
    return ", ".join(answer) if isinstance(answer, tuple) else str(answer or "no answer")
