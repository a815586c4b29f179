"""The load benchmark: a short run of it with a real service."""

import pytest

from benchmarks import load


@pytest.mark.slow
def test_users_who_ask_at_once_get_what_each_gets_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "PICTURES", 8)
    monkeypatch.setattr(load, "BETWEEN", 0.2)
    found = load.measure(users=3, seconds=2)
    statuses, memory = found["statuses"], found["resident_mib"]
    assert isinstance(statuses, dict)
    assert isinstance(memory, dict)
    assert (found["differing"], found["failures"]) == (0, 0)
    assert set(statuses) <= {"200", "422"}
    assert found["n"] == sum(statuses.values()) >= 3
    assert memory["start"] < memory["warm"] <= memory["peak"]
    assert memory["each"]


def test_the_cases_differ_and_some_cannot_be_read() -> None:
    made = load.cases()
    assert len({(one.data, one.task) for one in made}) == len(made)
    assert len({one.system for one in made}) == len(load.SYSTEMS)
    assert load.cases() == made
