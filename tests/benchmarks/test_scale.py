"""The scale benchmark runs; a run killed in it ends with the same results."""

from pathlib import Path

import pytest

from benchmarks.scale import GOALS, measure, summary


@pytest.mark.slow
def test_two_hundred_cases_are_asked_and_killed_and_gone_on_with(tmp_path: Path) -> None:
    found = measure(200, tmp_path)
    assert (found["n"], found["failures"]) == (200, 0)
    assert 100 < found["killed_after"] <= 200
    assert found["resumed_results_same"]
    assert found["resume_seconds"] > 0
    told = summary([found, {**found, "n": 400, "peak_mib": 2 * found["peak_mib"]}])
    assert told["n"] == 600
    assert told["memory_ratio"] == 2
    assert told["goals"] == GOALS
