"""Temperatures and measures, against values by hand and other libraries."""

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from specialists import calibrate, torchvision_cure
from specialists.calibrate import expected_calibration_error, fit_temperature, quality, softmax


def sampled(classes: int = 3, n: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and targets drawn from their very probabilities."""
    chance = np.random.default_rng(seed)
    logits = chance.normal(0, 2, (n, classes))
    steps = softmax(logits).cumsum(axis=1)
    return logits, (chance.random((n, 1)) > steps[:, :-1]).sum(axis=1)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_a_known_temperature_is_recovered(temperature: float) -> None:
    logits, targets = sampled()
    assert fit_temperature(logits * temperature, targets) == pytest.approx(temperature, rel=0.08)


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_a_known_temperature_is_recovered_for_several_labels(temperature: float) -> None:
    chance = np.random.default_rng(1)
    logits = chance.normal(0, 2, (3000, 4))
    targets = (chance.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.int64)
    assert fit_temperature(logits * temperature, targets) == pytest.approx(temperature, rel=0.08)


def test_log_probabilities_have_the_temperature_of_their_logits() -> None:
    logits, targets = sampled(n=500)
    logs = np.log(softmax(logits * 2))
    assert fit_temperature(logs, targets) == pytest.approx(
        fit_temperature(logits * 2, targets), rel=1e-3
    )


def test_the_temperature_stays_in_its_range_without_any_error_or_any_signal() -> None:
    targets = np.array([0, 1] * 20)
    right = np.eye(2)[targets] * 5
    assert 0.05 <= fit_temperature(right, targets) < 0.2
    assert 10 < fit_temperature(-right, targets) <= 20
    assert 0.05 <= fit_temperature(np.zeros((40, 2)), targets) <= 20


def test_softmax_sums_to_one_even_for_huge_logits() -> None:
    found = softmax(np.array([[1e5, 1e5, 0.0], [-1e5, 0.0, 0.0]]))
    assert found == pytest.approx(np.array([[0.5, 0.5, 0], [0, 0.5, 0.5]]))


def test_the_calibration_error_of_four_cases_by_hand() -> None:
    # Confidence 0.8 three times, right twice; 0.6 once, wrong: (|2.4 - 2| + |0.6 - 0|) / 4.
    probabilities = np.array([[0.8, 0.2], [0.2, 0.8], [0.8, 0.2], [0.4, 0.6]])
    targets = np.array([0, 1, 1, 0])
    assert expected_calibration_error(probabilities, targets) == pytest.approx(0.25)


def test_the_calibration_error_counts_each_label_of_a_multi_label_task() -> None:
    # Confidences 0.9, 0.9 (right) and 0.6, 0.6 (one right): (0.2 + |1.2 - 1|) / 4.
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4]])
    targets = np.array([[1, 0], [1, 1]])
    assert expected_calibration_error(probabilities, targets) == pytest.approx(0.1)


def test_the_calibration_error_is_that_of_torchmetrics() -> None:
    torchvision_cure.apply()
    from torchmetrics.functional.classification import multiclass_calibration_error

    logits, targets = sampled(n=700)
    probabilities = softmax(logits * 1.7)
    theirs = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(targets), num_classes=3, n_bins=15
    )
    assert expected_calibration_error(probabilities, targets) == pytest.approx(
        float(theirs), abs=1e-5
    )


def test_measures_are_those_of_sklearn() -> None:
    logits, targets = sampled(n=300)
    probabilities = softmax(logits)
    answers = probabilities.argmax(axis=1)
    found = quality(probabilities, targets)
    assert found.n == 300
    assert found.accuracy == pytest.approx((answers == targets).mean())
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(targets, answers))
    assert found.auc == pytest.approx(roc_auc_score(targets, probabilities, multi_class="ovr"))


def test_the_auc_of_two_classes_by_hand() -> None:
    # Of four pairs (sick, well) three are in order.
    probabilities = np.array([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4], [0.1, 0.9]])
    assert calibrate.auc(probabilities, np.array([0, 0, 1, 1])) == pytest.approx(0.75)


def test_the_auc_of_several_labels_is_their_mean() -> None:
    probabilities = np.array([[0.9, 0.2], [0.8, 0.6], [0.1, 0.4], [0.2, 0.3]])
    targets = np.array([[1, 0], [1, 1], [0, 1], [0, 0]])
    assert calibrate.auc(probabilities, targets) == pytest.approx((1.0 + 1.0) / 2)
    targets[3, 1], targets[2, 1] = 1, 0
    assert calibrate.auc(probabilities, targets) == pytest.approx((1.0 + 0.75) / 2)


def test_without_a_class_there_is_no_auc_but_the_rest() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.5, 0.4, 0.1]])
    found = quality(probabilities, np.array([0, 1, 1]))
    assert found.auc is None
    assert found.balanced_accuracy == pytest.approx((1 + 0.5) / 2)
    several = quality(np.array([[0.7, 0.2], [0.3, 0.6]]), np.array([[1, 0], [0, 0]]))
    assert several.auc is None


def test_balanced_accuracy_of_several_labels_by_hand() -> None:
    answers = np.array([[1, 0], [1, 0], [0, 0], [0, 0]])
    targets = np.array([[1, 0], [0, 1], [0, 0], [0, 0]])
    # First label: both values' recalls are 1 and 2/3; second: 0 and 1.
    expected = ((1 + 2 / 3) / 2 + 0.5) / 2
    assert calibrate.balanced_accuracy(answers, targets) == pytest.approx(expected)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("multi", [False, True])
def test_the_area_is_that_of_scikit_learn_with_ties_too(classes: int, multi: bool) -> None:
    generator = np.random.default_rng(classes)
    for _ in range(20):
        shown = np.round(generator.dirichlet(np.ones(classes), 60), 1)
        targets = (
            generator.integers(0, 2, (60, classes)) if multi else generator.integers(0, classes, 60)
        )
        truth = targets if multi else np.eye(classes)[targets]
        if classes == 2 and not multi:
            wanted = roc_auc_score(targets, shown[:, 1])
        else:
            wanted = roc_auc_score(truth, shown, average="macro")
        assert calibrate.auc(shown, targets) == pytest.approx(wanted, abs=1e-12)
    assert calibrate.auc(shown, np.zeros(60, dtype=np.int64)) is None
