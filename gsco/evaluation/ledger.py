"""The ledger: every answer on disk as soon as it is known, so that no call is paid for twice.

One file for each set and system, named by the hash of everything that affects an answer. Its first
line says what that is; each other line is the answer to one case. A run that is killed leaves at
most half a line, which is cut off. A case that stands twice counts as it stands last.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gsco.case import Diagnosis
from gsco.errors import DataError
from gsco.evaluation.metrics import Answers
from gsco.generalist.reading import CUT
from gsco.workspace import write_text, writing

VERSION = 1

STANDS = (f"text: {CUT}", "prompt: ")
"""How failures begin that leave an answer standing."""


@dataclass(frozen=True)
class Answer:
    """What a system said of one case."""

    case: str
    """Id of the case in its set."""
    answer: str | list[str] | None
    probabilities: list[float]
    """In the order of the task's labels; empty where there is no answer."""
    kept: list[str] | None
    """The prediction set; None where none was fitted."""
    review: bool
    failures: list[str]
    seconds: float
    """Wall time, an even share of its batch's."""
    tokens: float | None = None
    """Of the generalist, an even share of its batch's; None where nobody counted."""

    @classmethod
    def of(
        cls,
        made: Diagnosis,
        case: str,
        labels: Sequence[str],
        seconds: float,
        tokens: float | None = None,
    ) -> "Answer":
        """Keep of a diagnosis what is measured."""
        answer = list(made.answer) if isinstance(made.answer, tuple) else made.answer
        kept = None if made.prediction_set is None else list(made.prediction_set)
        shown = [made.probabilities[text] for text in labels] if made.probabilities else []
        failures = [f"{failure.part}: {failure.reason}" for failure in made.failures]
        return cls(case, answer, shown, kept, made.review, failures, round(seconds, 6), tokens)

    @property
    def has_failed(self) -> bool:
        """Whether there is no answer, and why is known.

        Free text that was cut, or had to do with fewer neighbours, would be so again.
        """
        told = (one for one in self.failures if not one.startswith(STANDS))
        return not self.probabilities and any(told)


class Ledger:
    """The answers of one system to the cases of one set."""

    def __init__(self, folder: Path, system: str, key: Mapping[str, object]) -> None:
        """Open it, or begin it; nothing is written before the first answer.

        Args:
            folder: of the set.
            system: whose answers they are.
            key: everything that affects an answer.
        """
        self.key = dict(key)
        self.path = folder / f"{system}.{key_hash(key)[:16]}.jsonl"

    @classmethod
    def at(cls, path: Path) -> "Ledger":
        """Open a ledger by its file.

        Raises:
            DataError: it is missing, damaged, or its name does not fit what it says.
        """
        try:
            with path.open(encoding="utf-8") as file:
                head = json.loads(file.readline())
            found = cls(path.parent, path.name.split(".")[0], head["key"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"Ledger {path.name!r} cannot be read ({error}). {_AGAIN}") from error
        if found.path != path:
            raise DataError(f"Ledger {path.name!r} says that it is {found.path.name!r}. {_AGAIN}")
        return found

    def known(self) -> dict[str, bool]:
        """Return case to whether it has failed."""
        return {answer.case: answer.has_failed for answer in self.lines()}

    def lines(self) -> Iterator[Answer]:
        """Read answer after answer; of those of one case the last counts.

        Raises:
            DataError: a line that is not the last cannot be read.
        """
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            file.readline()
            for number, line in enumerate(file, start=2):
                if not line.endswith(b"\n"):
                    return
                try:
                    yield Answer(**json.loads(line))
                except (ValueError, TypeError) as error:
                    raise DataError(
                        f"Line {number} of ledger {self.path.name!r} is damaged ({error}). {_AGAIN}"
                    ) from error

    def add(self, answers: Sequence[Answer]) -> None:
        """Append answers so that they are on disk when this returns.

        Raises:
            WorkspaceError: the disk is full; the answers before are unharmed.
        """
        with writing(self.path.name):
            if not self.path.is_file():
                head = {"version": VERSION, "key": self.key}
                write_text(self.path, json.dumps(head, sort_keys=True) + "\n")
            with self.path.open("r+b") as file:
                _cut_half_a_line(file.fileno(), self.path)
                file.seek(0, os.SEEK_END)
                end = file.tell()
                try:
                    file.write(b"".join(json.dumps(asdict(a)).encode() + b"\n" for a in answers))
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    os.ftruncate(file.fileno(), end)
                    raise


class Gathered(NamedTuple):
    """Answers as arrays, and how many are not there yet."""

    answers: Answers
    missing: int


def arrays(
    answers: Iterable[Answer], cases: Sequence[str], labels: Sequence[str], multi: bool
) -> Answers | None:
    """Return answers as the arrays that are measured; None if a case has none: see `gathered`."""
    found = gathered(answers, cases, labels, multi)
    return None if found.missing else found.answers


def gathered(
    answers: Iterable[Answer], cases: Sequence[str], labels: Sequence[str], multi: bool
) -> Gathered:
    """Return answers as the arrays that are measured; a case without one counts as missing.

    Args:
        answers: in any order; the last one of a case counts, other cases are left out.
        cases: ids in the order of the arrays.
        labels: the task's, in order.
        multi: whether several labels may hold.
    """
    places = {case: place for place, case in enumerate(cases)}
    numbers = {text: number for number, text in enumerate(labels)}
    shown = np.full((len(cases), len(labels)), np.nan)
    chosen = np.full(len(cases), -1, dtype=np.int64)
    sets: list[tuple[str, ...] | None] = [None] * len(cases)
    review = np.zeros(len(cases), dtype=np.bool_)
    missing = set(cases)
    # A hundred thousand cases share a few sets.
    same: dict[tuple[str, ...], tuple[str, ...]] = {}
    for answer in answers:
        if (place := places.get(answer.case)) is None:
            continue
        missing.discard(answer.case)
        shown[place] = answer.probabilities or np.nan
        chosen[place] = numbers.get(answer.answer, -1) if isinstance(answer.answer, str) else -1
        kept = None if answer.kept is None else tuple(answer.kept)
        sets[place] = None if kept is None else same.setdefault(kept, kept)
        review[place] = answer.review
    held = (np.nan_to_num(shown, nan=0.0) > 0.5).astype(np.int64)
    return Gathered(Answers(held if multi else chosen, shown, sets, review), len(missing))


_AGAIN = "Delete the file: the next run makes it anew."


def key_hash(key: Mapping[str, object]) -> str:
    """Return the SHA-256 of a key."""
    return hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()


def _cut_half_a_line(file: int, path: Path) -> None:
    """Cut off what a killed run left behind the last whole line."""
    with path.open("rb") as whole:
        size = whole.seek(0, os.SEEK_END)
        start = max(0, size - 2**20)
        whole.seek(start)
        tail = whole.read()
    os.ftruncate(file, start + tail.rfind(b"\n") + 1)
