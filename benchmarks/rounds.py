"""Ratios over rounds: arms measured side by side, on a machine that is never quite still."""

import math
import statistics
from collections.abc import Sequence
from typing import Any

from scipy import stats


def ratio_of(above: Sequence[float], below: Sequence[float]) -> dict[str, Any]:
    """Return the geometric mean of a ratio over rounds, and its interval of 95 % (t, of logs)."""
    logs = [math.log(a / b) for a, b in zip(above, below, strict=True)]
    middle = statistics.fmean(logs)
    found: dict[str, Any] = {"ratio": math.exp(middle), "rounds": [math.exp(one) for one in logs]}
    if len(logs) > 1:
        reach = float(stats.t.ppf(0.975, len(logs) - 1)) * statistics.stdev(logs)
        half = reach / math.sqrt(len(logs))
        found["interval"] = (math.exp(middle - half), math.exp(middle + half))
    return found
