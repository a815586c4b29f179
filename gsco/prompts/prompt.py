"""A Prompt: what the generalist reads of one case, and how it may answer."""

import hashlib
import json
import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from PIL import Image

from gsco.cleaned import cleaned
from gsco.errors import UsageError
from gsco.prompts.text import fill, quoted
from gsco.task import Kind

Form = Literal["letter", "label"]
YES_NO = ("yes", "no")


@dataclass(frozen=True)
class Prompt:
    """The slots of one prompt; `system`, `before`, `images` and `after` are how they are said."""

    role: str
    stem: str
    """The task sentence, with the modality."""
    options: tuple[str, ...]
    """The labels in the order shown; empty for an open question or a report."""
    evidence: tuple[str, ...]
    """The neighbours' and specialists' diagnoses as text; empty without evidence."""
    images: tuple[Image.Image, ...]
    question: str
    """The user's question, or nothing."""
    answer: str
    """The sentence that says what form the answer takes."""
    form: Form
    kind: Kind
    no_finding: str | None = None
    asked: str | None = None
    """The one label of `options` whose presence is asked, yes or no; None to ask for all."""
    yes_no: tuple[str, ...] = YES_NO
    """The answers when one label is asked, in the order shown."""

    @property
    def system(self) -> str:
        """The system message."""
        return self.role

    @property
    def head(self) -> str:
        """The text that the cases of a task share, in this order of options: task and options."""
        if not self.options:
            return fill("options_none", stem=self.stem)
        lettered = self.form == "letter" and self.asked is None
        shown = _lettered(self.options) if lettered else ", ".join(map(quoted, self.options))
        name = "options_letter" if lettered else "options_label"
        return fill(name, stem=self.stem, options=shown)

    @property
    def before(self) -> str:
        """The text before the images: the head and the evidence."""
        return "\n".join((self.head, *self.evidence)) + "\n"

    @property
    def after(self) -> str:
        """The text after the images: the question and the form of the answer."""
        answer = self.answer
        if self.asked is not None:
            shown = _lettered(self.yes_no) if self.form == "letter" else " or ".join(self.yes_no)
            answer = fill(f"present_{self.form}", label=quoted(self.asked), options=shown)
        return "\n" + "\n".join(filter(None, (self.question, answer)))

    @property
    def answers(self) -> tuple[str, ...]:
        """What can be answered, in the order shown: the options, or yes and no."""
        return self.options if self.asked is None else self.yes_no

    @property
    def choices(self) -> tuple[str, ...]:
        """The texts that the model may say, one for each of `answers`."""
        if self.form == "letter":
            return tuple(string.ascii_uppercase[: len(self.answers)])
        return tuple(map(cleaned, self.answers))

    @property
    def hash(self) -> str:
        """SHA-256 of everything but the pixels."""
        said = [self.system, self.before, len(self.images), self.after, self.choices]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    def permuted(self, order: Sequence[int]) -> "Prompt":
        """Return the same prompt with its answers in another order.

        Raises:
            UsageError: `order` does not hold every position once.
        """
        if sorted(order) != list(range(len(self.answers))):
            raise UsageError(
                f"Order {tuple(order)!r} does not hold each of the {len(self.answers)} positions "
                "once. Give a permutation."
            )
        shown = tuple(self.answers[i] for i in order)
        return replace(self, options=shown) if self.asked is None else replace(self, yes_no=shown)

    def asking(self, label: str) -> "Prompt":
        """Return the prompt that asks, yes or no, whether one label holds (multi-label tasks)."""
        return replace(self, asked=label)


def check_letters(count: int, form: Form) -> None:
    """Refuse more options than there are letters."""
    if form == "letter" and count > len(string.ascii_uppercase):
        raise UsageError(
            f"{count} options have no letters enough (26). Use answer_form='label' for this task."
        )


def _lettered(options: Sequence[str]) -> str:
    pairs = zip(string.ascii_uppercase, options, strict=False)
    return "\n".join(f"{letter}. {quoted(option)}" for letter, option in pairs)
