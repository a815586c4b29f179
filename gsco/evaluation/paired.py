"""Two systems on the same cases: is one better, and could these cases show it?"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gsco.evaluation.metrics import Interval


def mcnemar(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> float:
    """Return the two-sided p of McNemar's exact test.

    Args:
        ours: (N,) whether one system is right.
        theirs: (N,) whether the other is, on the same cases.
    """
    from scipy.stats import binomtest

    gained, lost = int((ours & ~theirs).sum()), int((~ours & theirs).sum())
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def holm(values: Sequence[float]) -> list[float]:
    """Return p values corrected for how many there are (Holm 1979), in the order given."""
    order = np.argsort(values, kind="stable")
    factors = len(values) - np.arange(len(values))
    stepped = np.maximum.accumulate(np.asarray(values, dtype=np.float64)[order] * factors)
    out = np.empty(len(values))
    out[order] = stepped.clip(max=1.0)
    return [float(value) for value in out]


def detectable(interval: Interval) -> float:
    """Return the smallest true difference that four of five such sets would show at the 5 % level.

    It is 2.8 standard errors (1.96 and 0.84), and a 95 % interval is 3.92 of them wide.
    """
    return (interval[1] - interval[0]) * 2.8 / 3.92
