"""Neighbours become probabilities."""

import math

import pytest

from retrieval import Neighbour, RetrievalError, vote, vote_multi

LABELS = ("normal", "benign", "malignant")


def near(similarity: float, *labels: str) -> Neighbour:
    return Neighbour(f"case {similarity}", labels, similarity)


def test_one_neighbour_counts_once_beside_the_imagined_ones() -> None:
    assert vote([near(0.9, "benign")], LABELS) == pytest.approx((0.2, 0.6, 0.2))


def test_probabilities_sum_to_one_and_none_is_zero_or_one() -> None:
    probabilities = vote([near(1.0, "normal")] * 1000, LABELS)
    assert sum(probabilities) == pytest.approx(1.0)
    assert min(probabilities) > 0.0
    assert max(probabilities) < 1.0


def test_equally_similar_neighbours_count_equally() -> None:
    normal, benign, malignant = vote(
        [near(0.8, "normal"), near(0.8, "normal"), near(0.8, "benign")], LABELS
    )
    assert (normal, benign, malignant) == pytest.approx((2.5 / 4.5, 1.5 / 4.5, 0.5 / 4.5))


def test_a_neighbour_nearer_by_one_temperature_weighs_e_times_more() -> None:
    first, second = vote(
        [near(0.9, "a"), near(0.7, "b")], ("a", "b"), temperature=0.2, smoothing=1e-9
    )
    assert first / second == pytest.approx(math.e)


def test_the_order_of_neighbours_does_not_matter_and_that_of_labels_is_kept() -> None:
    neighbours = [near(0.9, "benign"), near(0.5, "normal")]
    assert vote(neighbours, LABELS) == pytest.approx(vote(neighbours[::-1], LABELS))
    assert vote(neighbours, LABELS[::-1]) == pytest.approx(vote(neighbours, LABELS)[::-1])


def test_a_neighbour_with_two_labels_shares_its_weight_in_a_single_label_vote() -> None:
    assert vote([near(0.9, "normal", "benign")], LABELS) == pytest.approx((0.4, 0.4, 0.2))


def test_a_multi_label_vote_gives_the_share_of_holders_of_each_label() -> None:
    neighbours = [near(0.9, "a", "b"), near(0.9, "a"), near(0.9)]
    expected = (2.5 / 4, 1.5 / 4, 0.5 / 4)
    assert vote_multi(neighbours, ("a", "b", "c")) == pytest.approx(expected)


def test_very_low_temperatures_do_not_overflow() -> None:
    first, second = vote([near(1.0, "a"), near(-1.0, "b")], ("a", "b"), temperature=1e-4)
    assert first == pytest.approx(2.5 / 3)
    assert second == pytest.approx(0.5 / 3)


@pytest.mark.parametrize("count", [vote, vote_multi])
def test_no_neighbours_is_an_error_and_not_an_opinion(count: type) -> None:
    with pytest.raises(RetrievalError, match="got 0 neighbours"):
        count([], LABELS)


@pytest.mark.parametrize("count", [vote, vote_multi])
def test_a_label_of_another_task_is_refused_by_name(count: type) -> None:
    with pytest.raises(RetrievalError, match="'glioma'"):
        count([near(0.9, "glioma")], LABELS)


def test_a_neighbour_without_a_label_cannot_vote_on_a_single_label() -> None:
    with pytest.raises(RetrievalError, match=r"has the labels \(\)"):
        vote([near(0.9)], LABELS)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(RetrievalError, match="temperature 0"):
        vote([near(0.9, "normal")], LABELS, temperature=0)
    with pytest.raises(RetrievalError, match="each once"):
        vote([near(0.9, "a")], ("a", "a"))
