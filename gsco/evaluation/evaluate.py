"""Run systems over the same cases of a data set and measure them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from gsco.case import Case, Diagnosis, System
from gsco.errors import DataError
from gsco.evaluation.ledger import Answer, arrays
from gsco.evaluation.metrics import Answers, Row, measure, resamples
from gsco.evaluation.overlap import refuse_learnt
from gsco.progress import Progress
from gsco.workflow import READING_SYSTEMS

if TYPE_CHECKING:
    from gsco.agent import GSCo
    from gsco.datasets import Dataset, Record, Split
    from gsco.prompts import Style

T = TypeVar("T")
CHUNK = 64


def evaluate(
    agent: "GSCo",
    dataset: "Dataset",
    task: str,
    systems: Sequence[System],
    *,
    split: "Split" = "test",
    limit: int | None = None,
    allow_overlap: bool = False,
    style: "Style" = "calibrated",
    seed: int = 0,
    resampled: int = 1000,
    progress: Progress = lambda system, done, total: None,
) -> list[Row]:
    """Return one row a system, all on the same cases.

    Args:
        agent: the opened workspace.
        dataset: labelled cases.
        task: id in the workspace.
        systems: what to compare; `specialist` is the baseline of the paired gain.
        split: which part of the data.
        limit: at most so many cases, spread over the part; None for all.
        allow_overlap: whether test cases may be asked about that someone has learnt from; each row
            then says so.
        style: of the prompts.
        seed: of the bootstrap.
        resampled: bootstrap draws.
        progress: told how far each system is.

    Raises:
        DataError: the part is empty, its labels are not the task's, or the index or the generalist
            learnt from its cases.
    """
    from gsco.datasets import targets_of

    records = dataset.split(split)
    card = agent.tools(task).task
    if not records:
        raise DataError(f"{dataset.name!r} has no {split!r} cases. Choose another `--split`.")
    records = measured(records, card.texts, dataset.name, task, limit)
    flatters = ""
    if split == "test":
        asks = any(s in READING_SYSTEMS for s in systems)
        tools = agent.tools(task, "gsco" if asks else "stack")
        flatters = refuse_learnt(records, tools, allowed=allow_overlap)
    targets = targets_of(records, card)
    draws = resamples([r.patient or r.id for r in records], resampled, seed)
    answers: dict[System, Answers] = {}
    for system in systems:
        said: list[Diagnosis] = []
        for start in range(0, len(records), CHUNK):
            cases = [case_of(record, task) for record in records[start : start + CHUNK]]
            said += agent.diagnose_many(cases, system, style=style)
            progress(system, len(said), len(records))
        kept = (Answer.of(d, r.id, card.texts, 0.0) for d, r in zip(said, records, strict=True))
        ids = [record.id for record in records]
        if (found := arrays(kept, ids, card.texts, targets.ndim == 2)) is not None:
            answers[system] = found
    baseline = answers.get("specialist")
    rows = [
        measure(
            task,
            system,
            found,
            targets,
            card.texts,
            draws,
            baseline if system != "specialist" else None,
        )
        for system, found in answers.items()
    ]
    return [replace(row, notes=(*row.notes, flatters)) if flatters else row for row in rows]


def measured(
    records: "list[Record]", labels: Sequence[str], data: str, task: str, limit: int | None
) -> "list[Record]":
    """Return at most `limit` of the records, spread over all of them.

    Raises:
        DataError: they have labels that the task does not know.
    """
    if strange := {label for r in records for label in r.labels} - set(labels):
        raise DataError(
            f"Labels {sorted(strange)!r} of {data!r} are not in task {task!r}: "
            f"{', '.join(labels)}. Choose the task that these data belong to."
        )
    return spread(records, limit)


def spread(cases: Sequence[T], limit: int | None) -> list[T]:
    """Return at most `limit` cases, spread over all of them; all for None."""
    if limit is None or limit >= len(cases):
        return list(cases)
    return [cases[i] for i in np.linspace(0, len(cases) - 1, limit).astype(int)]


def case_of(record: "Record", task: str) -> Case:
    """Return a record as a case, without its label.

    Where there is a file it is handed on unopened: a damaged one is then a failure, not the end.
    """
    image = record.source if isinstance(record.source, Path) else record.open()
    return Case(images=(image,), task=task, id=record.id, patient=record.patient)
