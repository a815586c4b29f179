"""Means over seeds: of the same cases, with intervals that hold them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from benchmarks.suite import agreement, averaged
from gsco.case import SYSTEMS
from gsco.evaluation.metrics import Answers
from specialists.calibrate import balanced_accuracy


@dataclass
class Told:
    """As much of a stored set as means are made of; some systems are surer than others."""

    name: str
    seed: int
    n: int = 60

    def __post_init__(self) -> None:
        self.about = {"name": self.name, "seed": 0}
        self.cases = [str(i) for i in range(self.n)]
        self.groups = self.cases
        self.targets = np.arange(self.n) % 3

    def answers(self, system: str) -> Answers:
        place = SYSTEMS.index(system)
        generator = np.random.default_rng([self.seed, place, len(self.name)])
        wrong = generator.random(self.n) < 0.1 + 0.05 * place
        chosen = np.where(wrong, (self.targets + 1) % 3, self.targets)
        shown = np.full((self.n, 3), 0.1)
        shown[np.arange(self.n), chosen] = 0.8
        return Answers(chosen, shown, [None] * self.n, np.zeros(self.n, dtype=bool))


def runs(seeds: int = 3) -> list[list[Any]]:
    return [[Told("first", seed), Told("second set", seed)] for seed in range(seeds)]


def test_a_mean_is_that_of_the_seeds_and_lies_within_its_interval() -> None:
    made = runs()
    rows = averaged(made)
    assert len(rows) == 3 * len(SYSTEMS)
    for row in rows:
        assert row["balanced_accuracy"] == pytest.approx(np.mean(row["each"]))
        low, high = row["interval"]
        assert low <= row["balanced_accuracy"] <= high
    one = next(row for row in rows if (row["set"], row["system"]) == ("first", "stack"))
    each = [balanced_accuracy(sets[0].answers("stack").chosen, sets[0].targets) for sets in made]
    assert one["each"] == pytest.approx(each)
    best = next(row for row in rows if (row["set"], row["system"]) == ("mean", "specialist"))
    assert best["gain"] == 0 and best["gain_interval"] == [0, 0]
    assert best["n"] == 120
    pooled = next(row for row in rows if (row["set"], row["system"]) == ("mean", "stack"))
    assert pooled["over_stack"] == 0 and pooled["over_stack_interval"] == [0, 0]
    assert best["over_stack"] == pytest.approx(-pooled["gain"])
    assert best["over_stack_interval"] == pytest.approx([-x for x in pooled["gain_interval"][::-1]])


def test_seeds_that_were_asked_other_cases_are_not_averaged() -> None:
    made = runs()
    made[1][0].cases = made[1][0].cases[::-1]
    with pytest.raises(SystemExit, match="'first' do not match"):
        averaged(made)


def test_agreement_counts_answers_and_finds_the_farthest_probability() -> None:
    one, other, _ = runs()
    assert agreement(one, one)["stack"] == {"same_answer": 1.0, "largest": 0.0}
    found = agreement(one, other)["stack"]
    assert 0.3 < found["same_answer"] < 1
    assert found["largest"] == pytest.approx(0.7)
