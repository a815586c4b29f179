import random

import pytest

from gsco.generalist.tiny.evidence import draw_evidence, draw_opinions
from gsco.task import task_named

TASK = task_named("brain-mri")


def test_a_specialist_is_right_about_as_often_as_it_states() -> None:
    draw = random.Random(0)
    drawn = [o for _ in range(3000) for o in draw_opinions(TASK, 2, draw)]
    for low in (0.4, 0.6, 0.8):
        inside = [o for o in drawn if o.reliability and low <= o.reliability < low + 0.15]
        right = sum(o.answer == TASK.texts[2] for o in inside) / len(inside)
        assert right == pytest.approx(low + 0.075, abs=0.05)


def test_an_opinion_is_a_distribution_over_the_labels_of_the_task() -> None:
    draw = random.Random(1)
    for opinion in (o for _ in range(200) for o in draw_opinions(TASK, 0, draw)):
        assert opinion.labels == TASK.texts
        assert sum(opinion.probabilities) == pytest.approx(1)
        assert min(opinion.probabilities) >= 0


def test_wrong_evidence_never_names_the_truth() -> None:
    draw = random.Random(2)
    for _ in range(200):
        evidence = draw_evidence(TASK, 1, draw, moed=True, rad=True, wrong=True)
        assert all(o.answer != TASK.texts[1] for o in evidence.opinions)
        assert all(n.labels != (TASK.texts[1],) for n in evidence.neighbours)


def test_neighbours_come_nearest_first() -> None:
    evidence = draw_evidence(TASK, 1, random.Random(3), moed=False, rad=True)
    similarities = [neighbour.similarity for neighbour in evidence.neighbours]
    assert similarities == sorted(similarities, reverse=True)
    assert evidence.opinions == ()
