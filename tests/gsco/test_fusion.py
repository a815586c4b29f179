"""Fusion: pooling voices, weighing them, and prediction sets that keep their promise."""

import numpy as np
import pytest
from numpy.typing import NDArray

from gsco import fusion
from gsco.errors import FusionError
from gsco.fusion import Fusion, fusion_from_json

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]


def simulated(n: int, sharpness: float, seed: int, n_labels: int = 3) -> tuple[Floats, Numbers]:
    """Return probabilities that know the truth as far as `sharpness` says, and the truth."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(n_labels, size=n)
    scores = generator.normal(size=(n, n_labels))
    scores[np.arange(n), targets] += sharpness
    shown = np.exp(scores)
    return shown / shown.sum(axis=1, keepdims=True), targets


def learnt(**changes: object) -> Fusion:
    values: dict[str, object] = {
        "labels": ("a", "b", "c"),
        "kind": "single",
        "best": "one",
        "prior": (0.5, 0.3, 0.2),
        "stack": {"one": 1.0, "two": 0.5, "neighbours": 0.2},
        "reliability": 0.8,
        "fused": {"one": 0.5, "two": 0.3, "neighbours": 0.2, "generalist": 2.0},
        "temperatures": {"gsco": 2.0},
        "thresholds": {"stack": 0.6},
        "coverage": 0.9,
        "familiar": 0.4,
        "n_validation": 30,
        "generalist": "tiny",
    }
    return Fusion(**{**values, **changes})  # type: ignore[arg-type]


def test_prediction_sets_hold_the_truth_about_as_often_as_promised() -> None:
    held = []
    for seed in range(200):
        shown, targets = simulated(160, 1.0, seed)
        bound = fusion.threshold(shown[:60], targets[:60], 0.9)
        sets = [fusion.prediction_set(row, ("a", "b", "c"), bound) for row in shown[60:]]
        held.append(np.mean(["abc"[t] in kept for t, kept in zip(targets[60:], sets, strict=True)]))
    # The expectation is 55/61 = 0.902; the mean of 200 runs scatters by about 0.004.
    assert 0.885 < np.mean(held) < 0.92


@pytest.mark.parametrize(
    ("coverage", "need"), [(0.9, 9), (0.95, 19), (0.8, 4), (0.5, 1), (0.99, 99)]
)
def test_a_coverage_that_the_cases_cannot_support_is_refused_with_the_arithmetic(
    coverage: float, need: int
) -> None:
    shown, targets = simulated(need, 1.0, 0)
    assert np.isfinite(fusion.threshold(shown, targets, coverage))
    with pytest.raises(FusionError, match=f"{coverage} need at least {need} .* {need - 1}\\."):
        fusion.threshold(shown[:-1], targets[:-1], coverage)


@pytest.mark.parametrize("coverage", [0.0, 1.0, 1.5, -1.0])
def test_a_coverage_that_is_no_share_is_refused(coverage: float) -> None:
    with pytest.raises(FusionError, match="not between 0 and 1"):
        fusion.check_coverage(100, coverage)


def test_a_prediction_set_lists_the_most_probable_label_first() -> None:
    row = np.array([0.2, 0.7, 0.1])
    assert fusion.prediction_set(row, ("a", "b", "c"), 0.8) == ("b", "a")
    assert fusion.prediction_set(row, ("a", "b", "c"), 0.1) == ()


def test_a_pool_of_one_voice_with_weight_one_is_that_voice() -> None:
    shown, _ = simulated(20, 1.0, 1)
    assert fusion.pool({"a": shown}, {"a": 1.0}) == pytest.approx(shown, abs=1e-3)


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_pooled_probabilities_are_probabilities_even_of_certain_voices(kind: str) -> None:
    sure = np.array([[1.0, 0.0], [0.0, 1.0]])
    pooled = fusion.pool({"a": sure, "b": sure[::-1]}, {"a": 3.0, "b": 3.0}, kind)
    assert pooled == pytest.approx(0.5)
    alone = fusion.pool({"a": sure}, {"a": 3.0}, kind)
    assert np.isfinite(alone).all()
    assert ((alone >= 0) & (alone <= 1)).all()


def test_the_order_of_the_voices_does_not_matter() -> None:
    voices = {name: simulated(10, 1.0, i)[0] for i, name in enumerate("abc")}
    weights = {"a": 0.2, "b": 1.0, "c": 0.5}
    turned = {name: voices[name] for name in "cab"}
    assert fusion.pool(voices, weights) == pytest.approx(fusion.pool(turned, weights))


def test_a_missing_voice_leaves_its_weight_to_the_others() -> None:
    shown, _ = simulated(10, 1.0, 2)
    weights = {"a": 0.5, "gone": 0.5}
    assert fusion.pool({"a": shown}, weights) == pytest.approx(
        fusion.pool({"a": shown}, {"a": 1.0})
    )


def test_voices_without_weight_still_speak_where_those_with_weight_are_gone() -> None:
    shown, _ = simulated(10, 2.0, 3)
    pooled = fusion.pool({"a": shown}, {"a": 0.0, "gone": 1.0})
    assert (pooled.argmax(axis=1) == shown.argmax(axis=1)).all()


def test_nobody_to_pool_is_an_error() -> None:
    with pytest.raises(FusionError, match="No voice to pool"):
        fusion.pool({}, {"a": 1.0})


def test_votes_follow_the_majority_and_sum_to_one() -> None:
    ayes, noes = np.array([[0.6, 0.4]]), np.array([[0.01, 0.99]])
    shares = fusion.votes([ayes, ayes, noes])
    assert shares.argmax() == 0
    assert shares.sum() == pytest.approx(1)
    assert fusion.mean([ayes, ayes, noes]).argmax() == 1
    assert (fusion.votes([ayes, ayes]) > 0).all()


def test_a_tied_vote_goes_to_the_greater_mean() -> None:
    shares = fusion.votes([np.array([[0.55, 0.45]]), np.array([[0.1, 0.9]])])
    assert shares.argmax() == 1


def test_votes_of_several_labels_count_each_by_itself() -> None:
    shares = fusion.votes([np.array([[0.9, 0.8]]), np.array([[0.9, 0.1]])], "multi")
    assert shares[0, 0] == pytest.approx((2 + 0.9) / 3)
    assert shares[0, 1] == pytest.approx((1 + 0.45) / 3)


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_the_weights_prefer_the_voice_that_knows(kind: str) -> None:
    knows, targets = simulated(200, 2.5, 4)
    guesses, _ = simulated(200, 0.0, 5)
    truth = targets if kind == "single" else np.eye(3, dtype=np.int64)[targets]
    weights = fusion.fit_weights({"knows": knows, "guesses": guesses}, truth, kind)
    assert weights["knows"] > 5 * max(weights["guesses"], 0.02)
    pooled = fusion.pool({"knows": knows, "guesses": guesses}, weights, kind)
    even = fusion.pool({"knows": knows, "guesses": guesses}, dict.fromkeys(weights, 0.5), kind)
    assert fusion.log_loss(pooled, truth) < fusion.log_loss(even, truth)


def test_the_weights_of_few_cases_stay_near_the_best_specialist_alone() -> None:
    knows, targets = simulated(200, 2.5, 4)
    guesses, _ = simulated(200, 0.0, 5)
    voices = {"knows": knows, "guesses": guesses}
    few = {name: voice[:4] for name, voice in voices.items()}
    weights = fusion.fit_weights(few, targets[:4], best="guesses")
    assert weights["guesses"] > 0.6
    many = fusion.fit_weights(voices, targets, best="guesses")
    assert many["guesses"] < 0.3
    assert many["knows"] > 0.5
    assert all(0 <= weight <= 3 for weight in weights.values())


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_what_all_voices_know_of_the_classes_counts_once(kind: str) -> None:
    prior = (0.8, 0.15, 0.05)
    voices = dict.fromkeys("abc", np.array([prior]))
    weights = dict.fromkeys("abc", 1.0)
    assert fusion.pool(voices, weights, kind, prior)[0] == pytest.approx(prior)
    assert fusion.pool(voices, weights, kind)[0, 0] > 0.95
    silent = dict.fromkeys("abc", 0.0)
    assert fusion.pool(voices, silent, kind, prior)[0] == pytest.approx(prior)


def test_a_generalist_that_knows_nothing_moves_nothing() -> None:
    prior = (0.8, 0.15, 0.05)
    voices = {"one": np.array([[0.6, 0.3, 0.1]]), "generalist": np.full((1, 3), 1 / 3)}
    heard = fusion.pool(voices, {"one": 1.0, "generalist": 0.5}, "single", prior)
    assert heard[0] == pytest.approx((0.6, 0.3, 0.1))


@pytest.mark.parametrize(
    ("fitted", "asked", "same"),
    [
        ("tiny@1a", "tiny@1a", True),
        ("tiny@1a", "tiny@2b", False),
        ("tiny@1a", "tiny", True),
        ("tiny", "tiny@2b", True),
        ("tiny", "other", False),
        (None, "tiny", False),
    ],
)
def test_calibration_belongs_to_one_generalist(fitted: str | None, asked: str, same: bool) -> None:
    assert learnt(generalist=fitted).fits(asked) is same


def test_the_prior_is_the_share_of_each_label_and_never_nothing() -> None:
    assert fusion.prior_of(np.array([0, 0, 0, 1]), 3) == pytest.approx((4 / 7, 2 / 7, 1 / 7))
    several = np.array([[1, 0], [1, 0]])
    assert fusion.prior_of(several, 2) == pytest.approx((0.75, 0.25))


def test_cross_fitting_never_lets_a_row_weigh_its_own_voices() -> None:
    knows, targets = simulated(50, 1.0, 6)
    other, _ = simulated(50, 1.0, 7)
    voices = {"a": knows, "b": other}
    before = fusion.cross_fitted(voices, targets)
    changed = targets.copy()
    changed[0] = (changed[0] + 1) % 3
    after = fusion.cross_fitted(voices, changed)
    same_fold = np.arange(50) % 5 == 0
    assert (before[same_fold] == after[same_fold]).all()
    assert (before[~same_fold] != after[~same_fold]).any()
    assert before.sum(axis=1) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_a_voice_more_is_a_gain_only_beyond_one_standard_error(kind: str) -> None:
    knows, numbers = simulated(100, 2.0, 8)
    targets = numbers if kind == "single" else np.eye(3, dtype=np.int64)[numbers]
    guesses, _ = simulated(100, 0.0, 9)
    assert fusion.gains(knows, guesses, targets)
    assert not fusion.gains(guesses, knows, targets)
    assert not fusion.gains(knows, knows, targets)
    # Better by a hair on half of the cases and worse on the others: no difference to be seen.
    shaken = knows.copy()
    rows = np.arange(100)
    shaken[rows, numbers] *= np.where(rows % 2, 1.101, 0.909)
    assert fusion.log_loss(shaken, targets) != fusion.log_loss(knows, targets)
    assert not fusion.gains(shaken, knows, targets)
    assert not fusion.gains(knows, shaken, targets)


def test_tempering_keeps_the_order_and_changes_the_certainty() -> None:
    shown = np.array([[0.7, 0.2, 0.1]])
    soft, sharp = fusion.tempered(shown, 2.0), fusion.tempered(shown, 0.5)
    assert soft.max() < 0.7 < sharp.max()
    assert fusion.tempered(shown, 1.0) == pytest.approx(shown)
    assert (soft.argsort() == shown.argsort()).all()


def test_each_system_listens_to_its_own_voices() -> None:
    names = ("one", "two", "neighbours", "generalist")
    voices = {name: simulated(5, 1.0, i)[0] for i, name in enumerate(names)}
    reading, made = simulated(5, 1.0, 9)[0], learnt()
    plain = {k: v for k, v in voices.items() if k != "generalist"}
    answers = {
        "specialist": voices["one"],
        "neighbours": voices["neighbours"],
        "mean": (voices["one"] + voices["two"]) / 2,
        "vote": fusion.votes([voices["one"], voices["two"]]),
        "stack": fusion.pool(voices, made.stack, "single", made.prior),
        "gsco-fused": fusion.pool(voices, made.fused, "single", made.prior),
        "gsco": fusion.tempered(reading, 2.0),
        "rad": fusion.tempered(reading, 1.0),
    }
    for system, expected in answers.items():
        said = fusion.answer_of(system, voices, reading, made)  # type: ignore[arg-type]
        assert said == pytest.approx(expected), system
    fallen = fusion.answer_of("gsco-fused", plain, None, made)
    assert fallen == pytest.approx(fusion.pool(plain, made.stack, "single", made.prior))


@pytest.mark.parametrize(
    ("system", "words"),
    [
        ("vote", "No specialist"),
        ("neighbours", "No similar case"),
        ("stack", "No voice"),
        ("gsco", "gave no reading"),
    ],
)
def test_a_system_without_its_voices_says_so(system: str, words: str) -> None:
    with pytest.raises(FusionError, match=words):
        fusion.answer_of(system, {}, None, learnt())  # type: ignore[arg-type]


def test_a_fusion_comes_back_from_its_file_unchanged() -> None:
    made = learnt()
    assert fusion_from_json(made.to_json()) == made
    assert made.specialists == ("one", "two")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2}', '{"version": 99}'])
def test_a_damaged_or_foreign_fusion_is_refused(text: str) -> None:
    with pytest.raises(FusionError, match=r"[Cc]onstruct"):
        fusion_from_json(text)


def test_one_validation_case_is_too_few_to_cross_fit() -> None:
    shown, targets = simulated(1, 1.0, 0)
    with pytest.raises(FusionError, match="One validation case"):
        fusion.cross_fitted({"a": shown}, targets)
