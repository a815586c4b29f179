"""Metrics of words: as the reference packages have them, and as one counts by hand."""

import math
from collections.abc import Sequence

import nltk.translate.bleu_score
import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from gsco.errors import UsageError
from gsco.evaluation.findings import FINDINGS, findings_of
from gsco.evaluation.language import Kind, Said, cider_d, measure_language, plain, token_f1, words
from specialists import torchvision_cure

TRUE = (
    "The heart is enlarged. No pleural effusion or pneumothorax.",
    "Clear lungs. The heart size is normal.",
    "Right lower lobe opacity, which may be pneumonia. Small left effusion.",
)
GIVEN = (
    "The heart is enlarged. There is a pleural effusion.",
    "Clear lungs. The heart size is normal.",
    "Left lower lobe opacity. No effusion.",
)


def said(kind: Kind, *pairs: tuple[str, str | None]) -> list[Said]:
    return [Said(str(n), f"p{n}", kind, *pair) for n, pair in enumerate(pairs)]


@pytest.mark.parametrize(
    ("expected", "answer", "score"),
    [
        ("the left lung", "Left lung.", 1.0),
        ("left lung", "lung", 2 / 3),
        ("left lung", "liver", 0.0),
        ("lung lung", "lung", 2 / 3),
        ("the", "a", 1.0),
        ("lung", "", 0.0),
    ],
)
def test_words_that_both_hold_make_the_f1(expected: str, answer: str, score: float) -> None:
    assert token_f1(expected, answer) == pytest.approx(score)


def test_case_articles_and_punctuation_do_not_count() -> None:
    assert plain(" The  LEFT lung, a lobe. ") == "left lung lobe"


def test_questions_are_scored_by_kind_and_missing_answers_are_wrong() -> None:
    asked = said("closed", ("yes", "Yes."), ("no", "yes"), ("yes", None), ("no", "no"))
    asked += said("open", ("left lung", "lung"), ("chest", None))
    found = measure_language(asked)
    assert list(found) == [
        "closed_answered", "closed_accuracy",
        "open_answered", "open_exact_match", "open_token_f1",
    ]  # fmt: skip
    assert (found["closed_accuracy"].value, found["closed_answered"].value) == (0.5, 0.75)
    assert found["closed_accuracy"].n == 4
    assert found["open_exact_match"].value == 0
    assert found["open_token_f1"].value == pytest.approx(1 / 3)
    low, high = found["closed_accuracy"].interval or (1, 0)
    assert 0 <= low < 0.5 < high <= 1


def test_a_missing_answer_is_worth_nothing_even_where_the_truth_has_no_words() -> None:
    found = measure_language(said("open", ("the", None), ("?", None)))
    assert found["open_token_f1"].value == 0


def test_questions_of_one_image_are_drawn_together() -> None:
    pairs = [("yes", "yes")] * 10 + [("yes", "no")] * 10
    alone = said("closed", *pairs)
    together = [Said(s.id, str(n // 10), s.kind, s.expected, s.answer) for n, s in enumerate(alone)]
    assert measure_language(together)["closed_accuracy"].interval == (0.0, 1.0)
    low, high = measure_language(alone)["closed_accuracy"].interval or (0, 1)
    assert 0.2 < low < high < 0.8


def test_nothing_said_is_nothing_measured() -> None:
    assert measure_language([]) == {}


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_bleu_is_that_of_nltk_over_the_whole_corpus(order: int) -> None:
    found = measure_language(said("report", *zip(TRUE, GIVEN, strict=True)))
    expected = nltk.translate.bleu_score.corpus_bleu(
        [[words(text)] for text in TRUE],
        [words(text) for text in GIVEN],
        weights=[1 / order] * order,
    )
    assert found[f"bleu_{order}"].value == pytest.approx(expected)


def test_bleu_is_that_of_torchmetrics() -> None:
    torchvision_cure.apply()
    from torchmetrics.text import BLEUScore

    found = measure_language(said("report", *zip(TRUE, GIVEN, strict=True)))
    true = [[" ".join(words(text))] for text in TRUE]
    score = BLEUScore(n_gram=4)([" ".join(words(text)) for text in GIVEN], true)
    assert found["bleu_4"].value == pytest.approx(float(score), abs=1e-6)


def test_equal_reports_have_the_highest_scores_and_missing_ones_the_lowest() -> None:
    same = measure_language(said("report", *zip(TRUE, TRUE, strict=True)))
    none = measure_language(said("report", *((text, None) for text in TRUE)))
    for name in ("bleu_1", "bleu_4", "rouge_l", "clinical_f1", "clinical_f1_macro"):
        assert same[name].value == pytest.approx(1)
        assert none[name].value == 0
    assert (same["meteor"].value or 0) > 0.99
    assert same["cider"].value == pytest.approx(10)
    assert (none["meteor"].value, none["cider"].value, none["report_answered"].value) == (0, 0, 0)


def test_rouge_counts_the_longest_common_subsequence() -> None:
    # Three of four words in order, three of three.
    found = measure_language(said("report", ("clear lungs both sides", "clear both sides")))
    assert found["rouge_l"].value == pytest.approx(2 * 1 * 0.75 / 1.75)


def test_cider_is_as_counted_by_hand() -> None:
    pairs = [(["clear"], ["clear"]), (["mass", "seen"], ["mass"])]
    # One-word n-grams: cosine 1 and log 2 squared by log 2 times log 2 root 2; two words: only the
    # second truth has one, which nobody said. Lengths differ by 0 and 1.
    first = 10 * (1 + 0 + 0 + 0) / 4
    second = 10 * (1 / math.sqrt(2)) / 4 * math.exp(-1 / 72)
    assert cider_d(pairs) == pytest.approx([first, second])


def test_repeating_a_phrase_gains_nothing_in_cider() -> None:
    true = [["mass"], ["clear", "lungs"]]
    once, often = (cider_d([(true[0], ["mass"] * n), (true[1], true[1])]) for n in (1, 3))
    assert once and often
    assert often[0] < once[0]


def test_one_report_alone_has_no_cider_and_says_why() -> None:
    found = measure_language(said("report", ("No change.", "No change.")))
    assert found["cider"].value is None
    assert "two reports" in found["cider"].note
    for name in ("clinical_f1", "clinical_f1_macro"):
        assert found[name].value is None
        assert "finding" in found[name].note


def test_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "nltk.translate.bleu_score", None)
    with pytest.raises(UsageError, match=r"gsco\[bench\]"):
        measure_language(said("report", ("Clear.", "Clear.")))
    assert measure_language(said("closed", ("yes", "yes")))


@pytest.mark.parametrize(
    ("report", "found"),
    [
        ("Cardiomegaly with a small left effusion.", {"cardiomegaly", "pleural_effusion"}),
        ("No pleural effusion or pneumothorax.", set()),
        ("Without focal consolidation, effusion, or edema.", set()),
        ("No effusion, but a nodule in the left lung.", {"lung_lesion"}),
        ("There is no pneumothorax. Bibasilar atelectasis.", {"atelectasis"}),
        ("Pneumonia is not seen.", set()),
        ("The pleural effusion has resolved.", set()),
        ("Opacity that may be pneumonia.", {"lung_opacity", "pneumonia"}),
        ("No significant change in the right effusion.", {"pleural_effusion"}),
        ("Nodule of 3.5 cm, not a fracture.", {"lung_lesion"}),
        ("An endotracheal tube is in place.", {"support_devices"}),
        ("Massive improvement: lungs clear.", set()),
        ("", set()),
        # A wrapped line ends no denial, a part with a verb of its own does.
        ("No evidence of pneumothorax or\npleural effusion.", set()),
        ("No effusion\n\nCardiomegaly", {"cardiomegaly"}),
        ("No effusion, and there is a nodule.", {"lung_lesion"}),
        ("No pneumothorax, cardiomegaly is present.", {"cardiomegaly"}),
        ("Atelectasis is present and effusion is not seen.", {"atelectasis"}),
        ("No consolidation, effusion, or edema is seen.", set()),
        # What is not excluded is possible.
        ("Cannot rule out pneumonia.", {"pneumonia"}),
        ("Pneumonia is not ruled out.", {"pneumonia"}),
        ("Nodules are not excluded.", {"lung_lesion"}),
        ("Pneumonia cannot be entirely excluded.", {"pneumonia"}),
        ("Pneumonia has been ruled out.", set()),
        ("The heart is mildly enlarged.", {"cardiomegaly"}),
    ],
)
def test_what_a_report_states_and_denies(report: str, found: set[str]) -> None:
    assert findings_of(report) == found


def told(texts: Sequence[str]) -> list[list[bool]]:
    return [[name in findings_of(text) for name in FINDINGS] for text in texts]


def test_the_clinical_f1_is_that_of_scikit_learn() -> None:
    found = measure_language(said("report", *zip(TRUE, GIVEN, strict=True)))
    true, given = told(TRUE), told(GIVEN)
    assert found["clinical_f1"].value == pytest.approx(f1_score(true, given, average="micro"))
    # Findings that nobody names are left out.
    macro = f1_score(true, given, average="macro", zero_division=np.nan)
    assert found["clinical_f1_macro"].value == pytest.approx(macro)
    assert macro < f1_score(true, given, average="macro", zero_division=1)


def test_the_clinical_f1_is_that_of_torchmetrics() -> None:
    torchvision_cure.apply()
    from torchmetrics.classification import MultilabelF1Score

    found = measure_language(said("report", *zip(TRUE, GIVEN, strict=True)))
    true, given = torch.tensor(told(TRUE)).int(), torch.tensor(told(GIVEN)).int()
    named = (true + given).any(0)
    for name, average in (("clinical_f1", "micro"), ("clinical_f1_macro", "macro")):
        score = MultilabelF1Score(int(named.sum()), average=average)
        expected = float(score(given[:, named], true[:, named]))
        assert found[name].value == pytest.approx(expected, abs=1e-6)
