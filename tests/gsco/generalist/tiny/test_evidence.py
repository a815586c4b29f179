import random

import numpy as np
import pytest

from gsco.generalist.tiny.evidence import Evidence, draw_evidence
from gsco.task import task_named

TASK = task_named("brain-mri")


def drawn(n: int, *, moed: bool = True, rad: bool = True) -> list[tuple[int, Evidence]]:
    draw = random.Random(0)
    targets = [draw.randrange(len(TASK.texts)) for _ in range(n)]
    return [(t, draw_evidence(TASK, t, draw, moed=moed, rad=rad)) for t in targets]


def test_a_specialist_is_right_about_as_often_as_it_states() -> None:
    pairs = [(o, t) for t, evidence in drawn(2500) for o in evidence.opinions]
    for low in (0.4, 0.6, 0.8):
        inside = [(o, t) for o, t in pairs if o.reliability and low <= o.reliability < low + 0.15]
        right = np.mean([o.answer == TASK.texts[t] for o, t in inside])
        stated = np.mean([o.reliability for o, _ in inside])
        assert right == pytest.approx(stated, abs=0.05)


def test_what_should_be_answered_is_right_as_often_as_it_says() -> None:
    for moed, rad in ((True, False), (False, True), (True, True)):
        found = drawn(2000, moed=moed, rad=rad)
        sure = np.array([max(e.chances) for _, e in found])
        right = np.array([int(np.argmax(e.chances)) == t for t, e in found])
        for low, high in ((0.25, 0.6), (0.6, 0.9), (0.9, 1.01)):
            inside = (sure >= low) & (sure < high)
            assert right[inside].mean() == pytest.approx(sure[inside].mean(), abs=0.06)


def test_all_of_it_together_is_right_more_often_than_one_specialist() -> None:
    found = [(e, TASK.texts[t]) for t, e in drawn(2000) if e.together and len(e.opinions) > 1]
    together = np.mean([e.together.answer == t for e, t in found if e.together])
    first = np.mean([e.opinions[0].answer == t for e, t in found])
    assert together > first + 0.05


def test_an_opinion_is_a_distribution_over_the_labels_of_the_task() -> None:
    for _, evidence in drawn(100):
        for opinion in filter(None, (*evidence.opinions, evidence.together)):
            assert opinion.labels == TASK.texts
            assert sum(opinion.probabilities) == pytest.approx(1)
            assert min(opinion.probabilities) >= 0


def test_without_evidence_every_label_is_as_likely() -> None:
    ((_, evidence),) = drawn(1, moed=False, rad=False)
    assert evidence == Evidence((0.25,) * 4)


def test_neighbours_come_nearest_first() -> None:
    for _, evidence in drawn(20, moed=False):
        similarities = [neighbour.similarity for neighbour in evidence.neighbours]
        assert similarities == sorted(similarities, reverse=True)
        assert evidence.opinions == ()


def test_specialists_err_where_all_who_see_the_case_do() -> None:
    draw = random.Random(0)
    doubt = (-2.0, 2.0, 0.0, 0.0)
    wrong = [
        opinion.answer
        for _ in range(400)
        for opinion in draw_evidence(TASK, 0, draw, moed=True, rad=False, doubt=doubt).opinions
        if opinion.answer != TASK.texts[0]
    ]
    assert wrong.count(TASK.texts[1]) > 0.7 * len(wrong) > 100
