"""Metrics: as scikit-learn has them, with intervals that hold the truth."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    roc_auc_score,
)

from gsco.agent import GSCo
from gsco.datasets import Dataset
from gsco.errors import DataError
from gsco.evaluation.evaluate import evaluate
from gsco.evaluation.metrics import Answers, interval, macro_f1, measure, resamples
from gsco.evaluation.overlap import refuse_learnt
from gsco.generalist.seen import seen_in, write_seen
from retrieval import fingerprint
from specialists import torchvision_cure

LABELS = ("a", "b", "c")


def answers_of(
    shown: NDArray[np.float64], sets: list[tuple[str, ...] | None] | None = None
) -> Answers:
    missing = np.isnan(shown).any(axis=1)
    chosen = np.where(missing, -1, np.nan_to_num(shown, nan=0).argmax(axis=1))
    return Answers(
        chosen.astype(np.int64), shown, sets or [None] * len(shown), np.zeros(len(shown), bool)
    )


@pytest.fixture
def said() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    generator = np.random.default_rng(0)
    targets = generator.integers(3, size=120)
    scores = generator.normal(size=(120, 3)) + 1.2 * np.eye(3)[targets]
    shown = np.exp(scores)
    return shown / shown.sum(axis=1, keepdims=True), targets


def test_the_metrics_are_those_of_scikit_learn(
    said: tuple[NDArray[np.float64], NDArray[np.int64]],
) -> None:
    shown, targets = said
    row = measure("t", "stack", answers_of(shown), targets, LABELS, [np.arange(120)])
    chosen = shown.argmax(axis=1)
    assert row.accuracy == pytest.approx(accuracy_score(targets, chosen))
    assert row.balanced_accuracy == pytest.approx(balanced_accuracy_score(targets, chosen))
    assert row.macro_f1 == pytest.approx(f1_score(targets, chosen, average="macro"))
    area = roc_auc_score(targets, shown, multi_class="ovr", average="macro")
    assert row.auc == pytest.approx(area)
    assert (row.n, row.failures, row.notes) == (120, 0, ())


def test_a_missing_answer_is_wrong_and_counted(
    said: tuple[NDArray[np.float64], NDArray[np.int64]],
) -> None:
    shown, targets = said
    right = (shown.argmax(axis=1) == targets).sum()
    lost = int(np.flatnonzero(shown.argmax(axis=1) == targets)[0])
    shown[lost] = np.nan
    row = measure("t", "gsco", answers_of(shown), targets, LABELS, [np.arange(120)])
    assert row.failures == 1
    assert row.accuracy == pytest.approx((right - 1) / 120)
    assert row.auc is not None


def test_a_missing_answer_to_a_multi_label_case_is_wrong_about_every_label() -> None:
    targets = np.array([[0, 0], [1, 0]])
    shown = np.array([[np.nan, np.nan], [0.9, 0.1]])
    found = Answers(np.array([[0, 0], [1, 0]]), shown, [None, None], np.zeros(2, bool))
    row = measure("t", "gsco", found, targets, ("a", "b"), [np.arange(2)])
    assert row.accuracy == 0.5
    assert row.failures == 1


def test_an_area_that_cannot_be_had_is_none_and_says_why() -> None:
    shown = np.array([[0.6, 0.4], [0.7, 0.3]])
    row = measure("t", "stack", answers_of(shown), np.array([0, 0]), ("a", "b"), [np.arange(2)])
    assert row.auc is None
    assert row.auc_interval is None
    assert row.notes == ("auc: a class is absent, or no case has probabilities",)


def test_an_interval_in_which_a_rare_label_is_often_missing_says_so() -> None:
    targets = np.array([0] * 20 + [1])
    shown = np.tile([0.9, 0.1], (21, 1))
    draws = resamples([str(i) for i in range(21)], 200, 0)
    row = measure("t", "stack", answers_of(shown), targets, ("a", "b"), draws)
    # Half of the labels are told; without the other one, all.
    assert row.balanced_accuracy == 0.5
    assert row.balanced_accuracy_interval == (0.5, 1.0)
    (note,) = [note for note in row.notes if note.startswith("balanced accuracy")]
    assert "'b' (1 of 21 cases)" in note


def test_sets_are_measured_by_coverage_and_size() -> None:
    shown = np.array([[0.6, 0.4], [0.7, 0.3], [0.2, 0.8]])
    found = answers_of(shown, [("a",), ("a", "b"), ("a",)])
    row = measure("t", "stack", found, np.array([0, 1, 1]), ("a", "b"), [np.arange(3)])
    assert row.set_coverage == pytest.approx(2 / 3)
    assert row.set_size == pytest.approx(4 / 3)


def test_the_gain_is_paired_with_the_baseline(
    said: tuple[NDArray[np.float64], NDArray[np.int64]],
) -> None:
    shown, targets = said
    draws = resamples([str(i) for i in range(120)], 200, 0)
    same = measure("t", "x", answers_of(shown), targets, LABELS, draws, answers_of(shown))
    assert same.balanced_accuracy_gain == 0
    assert same.balanced_accuracy_gain_interval == (0, 0)


def test_bootstrap_intervals_hold_the_truth_about_as_often_as_they_should() -> None:
    held = 0
    for seed in range(200):
        right = np.random.default_rng(seed).random(80) < 0.7
        draws = resamples([str(i) for i in range(80)], 300, seed)
        low, high = interval(lambda rows, right=right: float(right[rows].mean()), draws) or (1, 0)
        held += low <= 0.7 <= high
    assert 0.89 <= held / 200 <= 0.985


def test_the_bootstrap_draws_all_images_of_a_patient_together() -> None:
    groups = ["p", "q", "p", "r", "q", "p"]
    for rows in resamples(groups, 50, 0):
        counts = np.bincount(rows, minlength=6)
        assert counts[0] == counts[2] == counts[5]
        assert counts[1] == counts[4]
        assert counts[0] + counts[1] + counts[3] == 3


def test_draws_are_made_anew_and_alike_each_time_and_are_those_of_one_table() -> None:
    groups = [f"patient {i * 7 % 30}" for i in range(101)]
    _, number = np.unique(groups, return_inverse=True)
    table = np.random.default_rng(3).integers(30, size=(40, 30))
    draws = resamples(groups, 40, 3)
    assert len(draws) == 40
    for _ in range(2):
        for rows, drawn in zip(draws, table, strict=True):
            expected = [row for group in drawn for row in np.flatnonzero(number == group)]
            assert rows.tolist() == expected


def test_patients_of_many_images_make_the_interval_wider() -> None:
    right = np.repeat(np.random.default_rng(0).random(20) < 0.7, 10)
    alone = resamples([str(i) for i in range(200)], 500, 0)
    together = resamples([str(i // 10) for i in range(200)], 500, 0)
    widths = []
    for draws in (alone, together):
        low, high = interval(lambda rows: float(right[rows].mean()), draws) or (0, 0)
        widths.append(high - low)
    assert widths[1] > 2 * widths[0]


def test_f1_leaves_out_classes_that_do_not_occur() -> None:
    assert macro_f1(np.array([0, 2]), np.array([0, 0])) == pytest.approx(2 / 3)


def test_evaluation_gives_one_row_a_system_on_the_same_cases(agent: GSCo, dataset: Dataset) -> None:
    systems = ("specialist", "neighbours", "gsco-fused")
    rows = evaluate(agent, dataset, "spots", systems, resampled=50)
    assert [row.system for row in rows] == list(systems)
    assert {row.n for row in rows} == {20}
    assert [row.balanced_accuracy_gain is None for row in rows] == [True, False, False]
    for row in rows:
        low, high = row.accuracy_interval
        assert low <= row.accuracy <= high
    few = evaluate(agent, dataset, "spots", ["neighbours"], limit=5, resampled=5)
    assert few[0].n == 5


def test_data_of_other_labels_are_refused(agent: GSCo, dataset: Dataset) -> None:
    strange = replace(
        dataset, records=tuple(replace(r, label="green spot") for r in dataset.records)
    )
    with pytest.raises(DataError, match=r"'green spot'.* are not in task 'spots'"):
        evaluate(agent, strange, "spots", ["stack"])
    with pytest.raises(DataError, match="has no 'test' cases"):
        evaluate(agent, replace(dataset, records=()), "spots", ["stack"])


def test_cases_that_the_index_learnt_from_are_refused_or_marked(
    agent: GSCo, dataset: Dataset
) -> None:
    learnt = replace(dataset.split("train")[3], id="again.png", split="test")
    mixed = replace(dataset, records=(*dataset.records, learnt))
    said = (
        r"1 of 21 cases were learnt from.*\n  again.png: indexed as train-03.png\n.*--allow-overlap"
    )
    with pytest.raises(DataError, match=said):
        evaluate(agent, mixed, "spots", ["stack"])
    (row,) = evaluate(agent, mixed, "spots", ["stack"], allow_overlap=True, resampled=5)
    assert "1 of 21 cases were learnt from: the figures flatter." in row.notes
    (row,) = evaluate(agent, dataset, "spots", ["stack"], resampled=5)
    assert not any("flatter" in note for note in row.notes)


def test_cases_that_the_generalist_learnt_from_are_refused_where_it_is_asked(
    agent: GSCo, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = dataset.split("test")[0]
    write_seen(tmp_path, [fingerprint(first.open()).content_hash])
    monkeypatch.setattr(agent.generalist, "seen", seen_in(tmp_path))
    with pytest.raises(DataError, match=f"{first.id}: learnt by the generalist"):
        evaluate(agent, dataset, "spots", ["stack", "gsco"])
    assert evaluate(agent, dataset, "spots", ["stack"], resampled=5)


def test_a_damaged_image_hinders_no_search_for_what_was_learnt(
    agent: GSCo, dataset: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "damaged.png").write_bytes(b"no image")
    damaged = replace(dataset.split("test")[0], id="damaged", source=tmp_path / "damaged.png")
    assert refuse_learnt([damaged], agent.tools("spots")) == ""


def test_f1_of_several_labels_is_that_of_scikit_learn() -> None:
    generator = np.random.default_rng(3)
    answers, targets = (generator.integers(2, size=(40, 4)) for _ in range(2))
    targets[:, 3] = answers[:, 3] = 0
    expected = f1_score(targets, answers, average="macro", zero_division=0)
    assert macro_f1(answers, targets) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("kind", "labels"), [("binary-class", 2), ("multi-class", 5), ("multi-label, binary-class", 6)]
)
def test_accuracy_and_auc_are_those_of_medmnist(kind: str, labels: int) -> None:
    torchvision_cure.apply()
    from medmnist.evaluator import getACC, getAUC

    generator = np.random.default_rng(labels)
    shown = generator.random((90, labels))
    if kind.startswith("multi-label"):
        targets = generator.integers(2, size=(90, labels))
        chosen = (shown > 0.5).astype(np.int64)
    else:
        shown /= shown.sum(axis=1, keepdims=True)
        targets = generator.integers(labels, size=90)
        chosen = shown.argmax(axis=1)
    answers = Answers(chosen, shown, [None] * 90, np.zeros(90, bool))
    names = [str(i) for i in range(labels)]
    draws = resamples(list(map(str, range(90))), 5, seed=0)
    row = measure("t", "stack", answers, targets, names, draws)
    asked = shown[:, 1] if kind == "binary-class" else shown
    assert row.accuracy == pytest.approx(getACC(targets, asked, kind), abs=1e-12)
    assert row.auc == pytest.approx(getAUC(targets, asked, kind), abs=1e-12)
