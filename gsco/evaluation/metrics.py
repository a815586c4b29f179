"""Metrics of one system on one set of cases, each with a 95 % bootstrap interval.

An answer that is missing is wrong; it is counted in `failures`. A metric that cannot be computed is
None, and `notes` says why. The bootstrap draws patients, or cases where no patient is known.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from specialists.calibrate import auc, balanced_accuracy, expected_calibration_error

Floats = NDArray[np.float64]
Interval = tuple[float, float]
ROW_VERSION = 2


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
    average_precision: float | None
    """Macro area under the precision-recall curve."""
    brier: float | None
    """Mean squared distance of the probabilities from the truth, summed over single-label classes,
    averaged over labels in multi-label tasks."""
    aurc: float | None
    """Area under the risk-coverage curve: mean error among the surest cases, over all shares."""
    recalls: Mapping[str, float]
    """Label to the share of its cases that were told; labels without cases are absent."""
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


@dataclass(frozen=True)
class Draws:
    """Bootstrap draws of row numbers, whole groups at a time.

    Made anew, and alike, whenever they are gone through: a thousand draws of a hundred thousand
    cases would fill 800 MB.
    """

    rows: NDArray[np.int64]
    """(N,) row numbers, group after group."""
    sizes: NDArray[np.int64]
    """How many rows each group has."""
    times: int
    seed: int

    def __len__(self) -> int:
        return self.times

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        generator = np.random.default_rng(self.seed)
        starts = np.cumsum(self.sizes) - self.sizes
        for _ in range(self.times):
            drawn = generator.integers(len(self.sizes), size=len(self.sizes))
            sizes = self.sizes[drawn]
            # Where each drawn group begins in `rows`, less where it begins in the draw.
            shift = starts[drawn] - (np.cumsum(sizes) - sizes)
            yield self.rows[np.repeat(shift, sizes) + np.arange(sizes.sum())]


def resamples(groups: Sequence[str], times: int, seed: int) -> Draws:
    """Return `times` bootstrap draws of row numbers, whole groups at a time."""
    _, number = np.unique(np.asarray(groups), return_inverse=True)
    return Draws(np.argsort(number, kind="stable"), np.bincount(number), times, seed)


def interval(
    measure: Callable[[NDArray[np.int64]], float | None], draws: Iterable[NDArray[np.int64]]
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
    draws: Draws | Sequence[NDArray[np.int64]],
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
    notes += _rare(targets, labels)
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
        average_precision=average_precision(shown[complete], targets[complete]),
        brier=brier(shown[complete], targets[complete]),
        aurc=aurc(shown, chosen, targets),
        recalls=_recalls(chosen, targets, labels),
        set_coverage=coverage,
        set_size=size,
        review_share=float(answers.review.mean()),
        balanced_accuracy_gain=gain(whole),
        balanced_accuracy_gain_interval=interval(gain, draws),
        notes=tuple(notes),
    )


def _rare(targets: NDArray[np.int64], labels: Sequence[str]) -> list[str]:
    """Return a note on each label that one draw in twenty or more holds no case of."""
    counts = np.bincount(targets).tolist() if targets.ndim == 1 else []
    if sum(count > 0 for count in counts) < 2:
        return []
    return [
        f"balanced accuracy: draws without {labels[place]!r} ({count} of {len(targets)} cases) are "
        "measured on the other labels, so the interval is that of fewer labels in part"
        for place, count in enumerate(counts)
        # A draw misses n cases with a chance of exp(-n).
        if 0 < count <= 3
    ]


def average_precision(shown: Floats, targets: NDArray[np.int64]) -> float | None:
    """Return the macro average precision of the labels that occur; None if there is none."""
    from sklearn.metrics import average_precision_score

    truth = _one_hot(shown, targets)
    present = truth.any(axis=0)
    if not len(truth) or not present.any():
        return None
    return float(average_precision_score(truth[:, present], shown[:, present], average="macro"))


def brier(shown: Floats, targets: NDArray[np.int64]) -> float | None:
    """Return the Brier score (Brier 1950); None without probabilities."""
    if not len(shown):
        return None
    squared = (shown - _one_hot(shown, targets)) ** 2
    return float((squared.sum(axis=1) if targets.ndim == 1 else squared.mean(axis=1)).mean())


def aurc(shown: Floats, chosen: NDArray[np.int64], targets: NDArray[np.int64]) -> float | None:
    """Return the area under the risk-coverage curve (Geifman and El-Yaniv 2017).

    Cases without an answer come last. None for multi-label tasks, whose answers have no one
    confidence.
    """
    risks = risk_coverage(shown, chosen, targets)
    return None if risks is None else float(risks.mean())


def risk_coverage(
    shown: Floats, chosen: NDArray[np.int64], targets: NDArray[np.int64]
) -> Floats | None:
    """Return (N,) the error among the 1, 2, ... N surest cases; None for multi-label tasks."""
    if targets.ndim == 2:
        return None
    order = np.argsort(-np.nan_to_num(shown, nan=-1.0).max(axis=1), kind="stable")
    wrong = (chosen != targets)[order]
    out: Floats = wrong.cumsum() / np.arange(1, len(wrong) + 1)
    return out


def _one_hot(shown: Floats, targets: NDArray[np.int64]) -> NDArray[np.int64]:
    return targets if targets.ndim == 2 else np.eye(shown.shape[1], dtype=np.int64)[targets]


def _recalls(
    chosen: NDArray[np.int64], targets: NDArray[np.int64], labels: Sequence[str]
) -> dict[str, float]:
    told = chosen[:, None] == np.arange(len(labels)) if targets.ndim == 1 else chosen > 0
    truth = targets[:, None] == np.arange(len(labels)) if targets.ndim == 1 else targets > 0
    counts = truth.sum(axis=0)
    return {
        text: float((told & truth)[:, i].sum() / counts[i])
        for i, text in enumerate(labels)
        if counts[i]
    }


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
