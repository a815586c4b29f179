"""Sets that are answered in words: questions and reports, as published, ready to be asked."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gsco.case import Case
from gsco.errors import DataError
from gsco.evaluation.language import Kind
from gsco.evaluation.ledger import Answer

if TYPE_CHECKING:
    from gsco.agent import GSCo
    from gsco.datasets import Question, Report
    from gsco.datasets.card import DataCard
    from gsco.datasets.question import Cell


@dataclass(frozen=True)
class Asked:
    """One question, or the wish for one report."""

    id: str
    group: str
    kind: Kind
    expected: str
    shown: str
    """The question with its options, and which images: what an answer depends on."""
    ask: Callable[["GSCo", str | None], Answer]
    """From the agent and the task whose evidence is shown to what it said."""


@dataclass(frozen=True)
class WordSet:
    """The test part of a published set of questions or reports."""

    name: str
    fingerprint: str
    licence: str
    asked: tuple[Asked, ...]
    notes: tuple[str, ...] = ()


def word_sets(
    root: Path, names: Sequence[str] = (), *, reports: bool = True, forgive: bool = False
) -> tuple[list[WordSet], dict[str, str]]:
    """Return the sets of questions and reports under `root`, and why others are left out.

    Args:
        root: holds the folder of each set, named as in `gsco data list`, or with _ for -.
        names: sets to take; all that are there if none is given.
        reports: whether reports can be asked for.
        forgive: whether a set that is named may be damaged, and is then left out.

    Raises:
        DataError: a set that is named is damaged, and that is not forgiven.
    """
    from gsco.datasets.card import data_cards
    from gsco.datasets.known import place_of

    found, left = [], {}
    cards = {n: c for n, c in data_cards().items() if c.kind in ("vqa", "report")}
    for name, card in cards.items():
        if names and name not in names:
            continue
        folder = place_of(name, root)
        if folder is None:
            if names:
                left[name] = f"no {name!r} under {root.name!r}; `gsco data show {name}` says where"
        elif card.kind == "report" and not reports:
            left[name] = "reports need the evidence of a task; give --evidence TASK"
        else:
            try:
                found.append(_word_set(card, folder))
            except DataError as error:
                if names and not forgive:
                    raise
                # Nobody asked for it by name: the others must not suffer.
                left[name] = str(error)
    return found, left


def is_word_set(name: str) -> bool:
    """Whether that is the name of a published set of questions or reports."""
    from gsco.datasets.card import data_cards

    return name in data_cards() and data_cards()[name].kind in ("vqa", "report")


def _word_set(card: "DataCard", folder: Path) -> WordSet:
    from gsco.datasets import read_questions, read_reports

    if card.kind == "vqa":
        questions = read_questions(card.name, folder)
        asked, notes = tuple(map(_question, questions.split("test"))), questions.notes
    else:
        reports = read_reports(card.name, folder)
        asked, notes = tuple(map(_report, reports.split("test"))), reports.notes
    return WordSet(card.name, fingerprint_of(asked), card.licence, asked, notes)


def _question(one: "Question") -> Asked:
    shown = json.dumps([one.question, one.options, _image(one.image)])
    group = _hashed(one.patient or one.place)
    return Asked(one.id, group, one.kind, one.answer, shown, _asking(one))


def _report(one: "Report") -> Asked:
    shown = json.dumps([_image(image) for image in one.images])
    group = _hashed(one.patient or one.id)
    return Asked(one.id, group, "report", one.report, shown, _reporting(one))


def _asking(question: "Question") -> Callable[["GSCo", str | None], Answer]:
    # What can be chosen comes from the question alone; the true answer must not tell.
    def ask(agent: "GSCo", task: str | None) -> Answer:
        made = agent.ask(question.open(), question.question, options=question.options, task=task)
        failures = [f"{one.part}: {one.reason}" for one in made.failures]
        if made.composed:
            return no_answer(question.id, [*failures, f"{made.model} cannot write an answer"])
        chances = list(made.probabilities.values())
        return Answer(question.id, made.text, chances, None, False, failures, 0.0)

    return ask


def _reporting(report: "Report") -> Callable[["GSCo", str | None], Answer]:
    def ask(agent: "GSCo", task: str | None) -> Answer:
        made = agent.report(Case(report.open(), task or ""))
        failures = [f"{one.part}: {one.reason}" for one in made.failures]
        # A text that is put together from evidence is a report of a kind; the failure marks it.
        marks = [f"{made.model} cannot write: composed from evidence"] if made.composed else []
        return Answer(report.id, made.text, [], None, False, [*failures, *marks], 0.0)

    return ask


def no_answer(id: str, failures: Sequence[str]) -> Answer:
    """Return what stands in the ledger where nothing was said, with the reasons."""
    return Answer(id, None, [], None, False, list(failures), 0.0)


def _image(image: "Path | Cell") -> list[object]:
    """Return what changes with an image: of a file its name and size."""
    if isinstance(image, Path):
        return [image.name, image.stat().st_size if image.is_file() else None]
    return [hashlib.sha256(image.content).hexdigest()]


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fingerprint_of(asked: Sequence[Asked]) -> str:
    """Return the hash of all that is asked and of what is expected."""
    told = [(one.id, one.group, one.kind, one.expected, one.shown) for one in asked]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()
