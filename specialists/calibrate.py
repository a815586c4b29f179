"""Calibrate logits with one temperature, and measure how good probabilities are.

Temperature scaling: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
"""

import numpy as np
from numpy.typing import NDArray

from specialists.card import Quality

Floats = NDArray[np.float64]


def softmax(logits: Floats) -> Floats:
    """Return probabilities over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    out: Floats = shifted / shifted.sum(axis=-1, keepdims=True)
    return out


def fit_temperature(logits: Floats, targets: NDArray[np.int64]) -> float:
    """Return the temperature in [0.05, 20] of least log loss.

    Args:
        logits: (N, C); log probabilities do as well.
        targets: (N,) class numbers, or (N, C) zeros and ones for multi-label.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        if targets.ndim == 2:
            return float(np.mean(np.logaddexp(0, scaled) - targets * scaled))
        peak = scaled.max(axis=1)
        norm = peak + np.log(np.exp(scaled - peak[:, None]).sum(axis=1))
        return float(np.mean(norm - scaled[np.arange(len(targets)), targets]))

    # The bounds keep a perfect validation part from asking for certainty.
    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded")
    return float(np.exp(found.x))


def expected_calibration_error(
    probabilities: Floats, targets: NDArray[np.int64], bins: int = 15
) -> float:
    """Return the mean gap between confidence and accuracy over equal-width bins, in [0, 1].

    For (N, C) targets of a multi-label task every label counts as a case of its own.
    """
    if targets.ndim == 2:
        confidence = np.maximum(probabilities, 1 - probabilities).ravel()
        correct = ((probabilities > 0.5) == (targets > 0.5)).ravel()
    else:
        confidence = probabilities.max(axis=1)
        correct = probabilities.argmax(axis=1) == targets
    number = np.minimum((confidence * bins).astype(int), bins - 1)
    weight = np.bincount(number, minlength=bins)
    gap = np.bincount(number, weights=confidence - correct, minlength=bins)
    return float(np.abs(gap).sum() / max(weight.sum(), 1))


def auc(probabilities: Floats, targets: NDArray[np.int64]) -> float | None:
    """Return the macro one-against-rest area under the ROC curve; None if a class is absent.

    The area is the Mann-Whitney statistic of the ranks (Hanley and McNeil, Radiology 1982), all
    columns at once: a bootstrap asks for it a thousand times.
    """
    from scipy.stats import rankdata

    n_labels = probabilities.shape[1]
    truth = targets if targets.ndim == 2 else np.eye(n_labels, dtype=np.int64)[targets]
    positive = truth.sum(axis=0)
    negative = len(truth) - positive
    if (positive * negative == 0).any():
        return None
    if n_labels == 2 and targets.ndim == 1:
        # One area, of the second label: the other is the same.
        probabilities, truth = probabilities[:, 1:], truth[:, 1:]
        positive, negative = positive[1:], negative[1:]
    ranks = (rankdata(probabilities, axis=0) * truth).sum(axis=0)
    return float(((ranks - positive * (positive + 1) / 2) / (positive * negative)).mean())


def balanced_accuracy(answers: NDArray[np.int64], targets: NDArray[np.int64]) -> float:
    """Return the mean recall of the classes present; of both values a label if (N, C)."""
    if targets.ndim == 2:
        columns = zip(answers.T, targets.T, strict=True)
        return float(np.mean([balanced_accuracy(a, t) for a, t in columns]))
    return float(np.mean([(answers[targets == c] == c).mean() for c in np.unique(targets)]))


def quality(probabilities: Floats, targets: NDArray[np.int64]) -> Quality:
    """Measure (N, C) probabilities against (N,) classes or (N, C) labels."""
    single = targets.ndim == 1
    answers = probabilities.argmax(axis=1) if single else (probabilities > 0.5).astype(np.int64)
    return Quality(
        n=len(targets),
        accuracy=float((answers == targets).mean()),
        balanced_accuracy=balanced_accuracy(answers, targets),
        auc=auc(probabilities, targets),
        ece=expected_calibration_error(probabilities, targets),
    )
