"""Metrics of one system on one set of cases, each with a 95 % bootstrap interval.

An answer that is missing is wrong; it is counted in `failures`. A metric that cannot be computed is
None, and `notes` says why. The bootstrap draws patients, or cases where no patient is known.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from specialists.calibrate import auc, balanced_accuracy, expected_calibration_error

Floats = NDArray[np.float64]
Interval = tuple[float, float]
ROW_VERSION = 1


@dataclass(frozen=True)
class Row:
    """How one system did."""

    task: str
    system: str
    n: int
    failures: int
    """Cases without an answer, counted as wrong."""
    accuracy: float
    accuracy_interval: Interval
    balanced_accuracy: float
    balanced_accuracy_interval: Interval
    macro_f1: float
    macro_f1_interval: Interval
    auc: float | None
    """Macro one-against-rest area under the ROC curve."""
    auc_interval: Interval | None
    ece: float | None
    """Expected calibration error, 15 bins."""
    ece_interval: Interval | None
    set_coverage: float | None
    """Share of prediction sets that hold the truth."""
    set_size: float | None
    """Mean number of labels in them."""
    review_share: float
    """Share of cases marked for a person."""
    balanced_accuracy_gain: float | None = None
    """Balanced accuracy minus that of `specialist`, on the same cases."""
    balanced_accuracy_gain_interval: Interval | None = None
    notes: tuple[str, ...] = ()
    version: int = ROW_VERSION


@dataclass(frozen=True)
class Answers:
    """What one system said of all cases, in arrays."""

    chosen: NDArray[np.int64]
    """(N,) class number, -1 for no answer; (N, C) zeros and ones for multi-label."""
    probabilities: Floats
    """(N, C); NaN rows where there is no answer."""
    sets: Sequence[tuple[str, ...] | None]
    review: NDArray[np.bool_]


def macro_f1(answers: NDArray[np.int64], targets: NDArray[np.int64]) -> float:
    """Return the unweighted mean F1 of the classes that occur."""
    # Plain numpy: the bootstrap asks a thousand times, and scikit-learn checks its input each time.
    if targets.ndim == 1:
        present = np.unique(targets)
        answers, targets = answers[:, None] == present, targets[:, None] == present
    both = np.logical_and(answers > 0, targets > 0).sum(axis=0)
    named = (answers > 0).sum(axis=0) + (targets > 0).sum(axis=0)
    return float(np.mean(2 * both / np.maximum(named, 1)))


def resamples(groups: Sequence[str], times: int, seed: int) -> list[NDArray[np.int64]]:
    """Return `times` bootstrap draws of row numbers, whole groups at a time."""
    _, number = np.unique(np.asarray(groups), return_inverse=True)
    members = np.split(np.argsort(number, kind="stable"), np.cumsum(np.bincount(number))[:-1])
    generator = np.random.default_rng(seed)
    draws = generator.integers(len(members), size=(times, len(members)))
    return [np.concatenate([members[i] for i in draw]) for draw in draws]


def interval(
    measure: Callable[[NDArray[np.int64]], float | None], draws: list[NDArray[np.int64]]
) -> Interval | None:
    """Return the 2.5 and 97.5 percentiles of a measure over the draws that allow it."""
    values = [v for rows in draws if (v := measure(rows)) is not None]
    if not values:
        return None
    low, high = np.percentile(values, (2.5, 97.5))
    return (float(low), float(high))


def measure(
    task: str,
    system: str,
    answers: Answers,
    targets: NDArray[np.int64],
    labels: Sequence[str],
    draws: list[NDArray[np.int64]],
    baseline: Answers | None = None,
) -> Row:
    """Measure one system; `baseline` is the system to subtract, on the same cases."""
    chosen, shown = _chosen(answers, targets), answers.probabilities
    before = None if baseline is None else _chosen(baseline, targets)
    notes: list[str] = []
    whole = np.arange(len(targets))
    complete: NDArray[np.bool_] = np.asarray(~np.isnan(shown).any(axis=1))

    def area(rows: NDArray[np.int64]) -> float | None:
        rows = rows[complete[rows]]
        return auc(shown[rows], targets[rows]) if len(rows) else None

    def error(rows: NDArray[np.int64]) -> float | None:
        rows = rows[complete[rows]]
        return expected_calibration_error(shown[rows], targets[rows]) if len(rows) else None

    def correct(rows: NDArray[np.int64]) -> float:
        return float(np.mean(chosen[rows] == targets[rows]))

    def balanced(rows: NDArray[np.int64]) -> float:
        return balanced_accuracy(chosen[rows], targets[rows])

    def f1(rows: NDArray[np.int64]) -> float:
        return macro_f1(chosen[rows], targets[rows])

    def gain(rows: NDArray[np.int64]) -> float | None:
        if before is None:
            return None
        return balanced(rows) - balanced_accuracy(before[rows], targets[rows])

    if area(whole) is None:
        notes.append("auc: a class is absent, or no case has probabilities")
    coverage, size = _sets(answers.sets, targets, labels)
    return Row(
        task=task,
        system=system,
        n=len(targets),
        failures=int((~complete).sum()),
        accuracy=correct(whole),
        accuracy_interval=_sure(interval(correct, draws)),
        balanced_accuracy=balanced(whole),
        balanced_accuracy_interval=_sure(interval(balanced, draws)),
        macro_f1=f1(whole),
        macro_f1_interval=_sure(interval(f1, draws)),
        auc=area(whole),
        auc_interval=interval(area, draws),
        ece=error(whole),
        ece_interval=interval(error, draws),
        set_coverage=coverage,
        set_size=size,
        review_share=float(answers.review.mean()),
        balanced_accuracy_gain=gain(whole),
        balanced_accuracy_gain_interval=interval(gain, draws),
        notes=tuple(notes),
    )


def _chosen(answers: Answers, targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the answers; one that is missing of a multi-label task is wrong about every label."""
    if targets.ndim == 1:
        return answers.chosen
    missing = np.asarray(np.isnan(answers.probabilities).any(axis=1))
    return np.where(missing[:, None], 1 - targets, answers.chosen)


def _sure(found: Interval | None) -> Interval:
    return found or (float("nan"), float("nan"))


def _sets(
    sets: Sequence[tuple[str, ...] | None], targets: NDArray[np.int64], labels: Sequence[str]
) -> tuple[float | None, float | None]:
    known = [
        (s, labels[t])
        for s, t in zip(sets, targets, strict=True)
        if s is not None and targets.ndim == 1
    ]
    if not known:
        return None, None
    held = float(np.mean([truth in s for s, truth in known]))
    return held, float(np.mean([len(s) for s, _ in known]))
