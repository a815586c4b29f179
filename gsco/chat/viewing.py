"""How an image is looked at: slice, window and level, dark for light. For eyes only.

What is asked about is the slice in the window of the file itself: a window that a person tries out
must not change the answer without a word.
"""

from dataclasses import dataclass

from PIL import Image

from gsco.chat.evidence import template
from gsco.chat.session import Exam
from gsco.thumbnail import data_url

SIDE = 1024
"""Longest side in pixels of what is sent to the page."""


@dataclass(frozen=True)
class Look:
    """How a person looks at the image."""

    level: float
    """The value shown as middle grey."""
    width: float
    """From black to white."""
    invert: bool = False


def default_look(exam: Exam) -> Look:
    """Return the window of the file itself."""
    low, high = (exam.volume.low, exam.volume.high) if exam.volume else (0, 255)
    return Look((low + high) / 2, high - low)


def seen(exam: Exam, look: Look) -> Image.Image:
    """Return the image as it is looked at, RGB."""
    low, high = look.level - look.width / 2, look.level + look.width / 2
    if exam.volume is not None:
        return exam.volume.picture(exam.number, low, high, invert=look.invert)
    span = max(high - low, 1e-6)
    table = [min(max((value - low) / span, 0), 1) * 255 for value in range(256)]
    if look.invert:
        table = [255 - value for value in table]
    return exam.pictures[0].point([round(value) for value in table] * 3)


def viewer(exam: Exam | None, look: Look | None = None) -> str:
    """Return the image with its technical facts as HTML."""
    if exam is None:
        return str(template("viewer").render(picture=None))
    count = len(exam.volume.values) if exam.volume else 1
    place = f", slice {exam.number + 1} of {count}" if count > 1 else ""
    others = [data_url(picture) for picture in exam.pictures[1:]]
    picture = data_url(seen(exam, look or default_look(exam)), SIDE)
    shown = {"picture": picture, "others": others, "place": place, "facts": exam.facts}
    return str(template("viewer").render(shown))
