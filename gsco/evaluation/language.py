"""Metrics of what was said in words: answers to questions, and reports.

An answer that is missing is wrong, or worth nothing; `answered` counts the others. Intervals are of
95 %, from a bootstrap over patients or images. Questions are scored as in SQuAD (Rajpurkar et al.
2016): lower case, without articles and punctuation. Reports are split into lower-case words without
punctuation, so that BLEU (Papineni et al. 2002), ROUGE-L (Lin 2004), METEOR (Banerjee and Lavie
2005) and CIDEr-D (Vedantam et al. 2015) compare words only. METEOR matches words and stems but no
synonyms, for which WordNet would have to be downloaded: it is a little lower than others'.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from gsco.errors import UsageError
from gsco.evaluation.findings import FINDINGS, findings_of
from gsco.evaluation.metrics import Draws, interval, resamples

Kind = Literal["closed", "open", "report"]
Rows = NDArray[np.int64]
DRAWS = 1000
_ORDERS = (1, 2, 3, 4)


@dataclass(frozen=True)
class Said:
    """One answer beside its truth."""

    id: str
    group: str
    """Patient or image: what the bootstrap draws."""
    kind: Kind
    expected: str
    answer: str | None
    """None if there was none, or it could not be read."""


@dataclass(frozen=True)
class Measure:
    """One metric."""

    value: float | None
    """In [0, 1], but CIDEr-D in [0, 10]; None if it cannot be computed, and `note` says why."""
    interval: tuple[float, float] | None
    n: int
    note: str = ""


Metric = Callable[[Rows], float | None]
"""From row numbers, which may come twice, to the metric on those rows."""


def measure_language(said: Sequence[Said], seed: int = 0) -> dict[str, Measure]:
    """Return the metrics of every kind of answer that is there, by name.

    Closed questions: `closed_accuracy`. Open ones: `open_exact_match`, `open_token_f1`. Reports:
    `bleu_1` to `bleu_4`, `rouge_l`, `meteor`, `cider`, and over the CheXpert findings as
    `findings_of` reads them `clinical_f1` of all together and `clinical_f1_macro`, the mean of the
    findings that somebody names. Of each kind also the share that was answered, `closed_answered`.

    Raises:
        UsageError: there are reports, and the packages that compare them are not installed.
    """
    found: dict[str, Measure] = {}
    makers: dict[Kind, Callable[[Sequence[Said]], Mapping[str, Metric | str]]] = {
        "closed": _closed,
        "open": _open,
        "report": _report,
    }
    for kind in get_args(Kind):
        some = [one for one in said if one.kind == kind]
        if not some:
            continue
        draws = resamples([one.group for one in some], DRAWS, seed)
        answered = _mean([float(one.answer is not None) for one in some])
        for name, metric in {f"{kind}_answered": answered, **makers[kind](some)}.items():
            found[name] = _measured(metric, len(some), draws)
    return found


def _measured(metric: Metric | str, n: int, draws: Draws) -> Measure:
    if isinstance(metric, str):
        return Measure(None, None, n, metric)
    return Measure(metric(np.arange(n)), interval(metric, draws), n)


def _mean(values: Sequence[float]) -> Metric:
    array = np.array(values, dtype=np.float64)
    return lambda rows: float(array[rows].mean())


def _closed(said: Sequence[Said]) -> Mapping[str, Metric | str]:
    return {"closed_accuracy": _mean([_exact(one) for one in said])}


def _open(said: Sequence[Said]) -> Mapping[str, Metric | str]:
    return {
        "open_exact_match": _mean([_exact(one) for one in said]),
        "open_token_f1": _mean(
            [0.0 if one.answer is None else token_f1(one.expected, one.answer) for one in said]
        ),
    }


def _exact(one: Said) -> float:
    return float(one.answer is not None and plain(one.answer) == plain(one.expected))


def plain(text: str) -> str:
    """Return the text in lower case, without punctuation, articles and doubled blanks."""
    bare = re.sub(r"[^\w\s]", " ", text.lower())
    return " ".join(word for word in bare.split() if word not in ("a", "an", "the"))


def token_f1(expected: str, answer: str) -> float:
    """Return the F1 of the words that both texts hold; 1 if neither holds any."""
    wanted, given = Counter(plain(expected).split()), Counter(plain(answer).split())
    if not wanted or not given:
        return float(wanted == given)
    shared = (wanted & given).total()
    return 2 * shared / (wanted.total() + given.total())


def _report(said: Sequence[Said]) -> Mapping[str, Metric | str]:
    pairs = [(words(one.expected), words(one.answer or "")) for one in said]
    bleu = _bleu(pairs)
    scores: dict[str, Metric | str] = {f"bleu_{order}": bleu(order) for order in _ORDERS}
    scores["rouge_l"] = _mean(_rouge(pairs))
    scores["meteor"] = _mean(_meteor(pairs))
    cider = cider_d(pairs)
    alone = "CIDEr-D weighs words by how rare they are: it needs two reports or more."
    scores["cider"] = alone if cider is None else _mean(cider)
    told = _told([(one.expected, one.answer or "") for one in said])
    unmentioned = "No report, true or given, has a finding."
    for name, metric in (("clinical_f1", _micro(told)), ("clinical_f1_macro", _macro(told))):
        scores[name] = unmentioned if metric(np.arange(len(said))) is None else metric
    return scores


def words(text: str) -> list[str]:
    """Return the lower-case words of a report, without punctuation."""
    return re.findall(r"[^\W_]+(?:['-][^\W_]+)*", text.lower())


# Any: the packages have no types, and may be missing.
def _imported(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise UsageError(
            'Comparing reports needs NLTK and rouge-score. Run `pip install "gsco[bench]"`.'
        ) from error


Pair = tuple[list[str], list[str]]
"""Words that were expected, and words that were said."""


def _bleu(pairs: Sequence[Pair]) -> Callable[[int], Metric]:
    """Return BLEU by order: of all rows together, from counts that add up."""
    bleu = _imported("nltk.translate.bleu_score")
    found = [
        [bleu.modified_precision([true], said, order) for order in _ORDERS] for true, said in pairs
    ]
    hits = np.array([[p.numerator for p in row] for row in found])
    most = np.array([[p.denominator for p in row] for row in found])
    lengths = np.array([[len(true), len(said)] for true, said in pairs])

    def of_order(order: int) -> Metric:
        def metric(rows: Rows) -> float:
            right, possible = hits[rows, :order].sum(0), most[rows, :order].sum(0)
            true, said = lengths[rows].sum(0)
            if not right.all():
                return 0.0
            brevity = 1.0 if said > true else np.exp(1 - true / said)
            return float(brevity * np.exp(np.log(right / possible).mean()))

        return metric

    return of_order


def _rouge(pairs: Sequence[Pair]) -> list[float]:
    scorer = _imported("rouge_score.rouge_scorer").RougeScorer(["rougeL"])
    texts = [(" ".join(true), " ".join(said)) for true, said in pairs]
    return [float(scorer.score(true, said)["rougeL"].fmeasure) for true, said in texts]


class _NoSynonyms:
    """Stands where METEOR looks up synonyms."""

    def synsets(self, word: str) -> tuple[()]:
        """Return none."""
        return ()


def _meteor(pairs: Sequence[Pair]) -> list[float]:
    meteor = _imported("nltk.translate.meteor_score")
    return [
        float(meteor.single_meteor_score(true, said, wordnet=_NoSynonyms())) if said else 0.0
        for true, said in pairs
    ]


def cider_d(pairs: Sequence[Pair]) -> list[float] | None:
    """Return CIDEr-D of each report, in [0, 10]; None for fewer than two.

    The cosine of n-gram counts weighted by rarity among the true reports, clipped so that repeating
    a phrase gains nothing, times a Gaussian of the difference in length (sigma 6), averaged over
    n-grams of one to four words (Vedantam et al. 2015, equations 3 to 5). Rarity is that among all
    reports given, also where a bootstrap draws some of them.
    """
    if len(pairs) < 2:
        return None
    scores = np.zeros(len(pairs))
    for order in _ORDERS:
        counts = [(_grams(true, order), _grams(said, order)) for true, said in pairs]
        holding = Counter(gram for true, _ in counts for gram in true)
        rarity = {gram: float(np.log(len(pairs) / count)) for gram, count in holding.items()}
        # What no true report holds is as rare as can be.
        most = float(np.log(len(pairs)))
        for row, (true, said) in enumerate(counts):
            one, other = (
                {gram: count * rarity.get(gram, most) for gram, count in grams.items()}
                for grams in (true, said)
            )
            length = np.sqrt(sum(v * v for v in one.values()) * sum(v * v for v in other.values()))
            shared = sum(min(other[gram], one[gram]) * one[gram] for gram in other if gram in one)
            scores[row] += shared / length if length else 0.0
    apart = np.array([len(true) - len(said) for true, said in pairs])
    kept: list[float] = (10 * scores / len(_ORDERS) * np.exp(-(apart**2) / 72)).tolist()
    return kept


def _grams(tokens: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(tokens[start:] for start in range(order)), strict=False))


class _Told(NamedTuple):
    """Findings of reports, counted."""

    hits: Rows
    """(N, F) ones where both texts of a pair state a finding."""
    named: Rows
    """(N, F) how many of the two state it."""


def _told(pairs: Sequence[tuple[str, str]]) -> _Told:
    names = sorted(FINDINGS)

    def told(text: str) -> list[int]:
        found = findings_of(text)
        return [int(name in found) for name in names]

    true = np.array([told(expected) for expected, _ in pairs], dtype=np.int64)
    said = np.array([told(answer) for _, answer in pairs], dtype=np.int64)
    return _Told(true & said, true + said)


def _micro(told: _Told) -> Metric:
    """Return the F1 over all findings together; None for rows in which nobody names any."""
    hits, named = told.hits.sum(1), told.named.sum(1)

    def metric(rows: Rows) -> float | None:
        total = int(named[rows].sum())
        return 2 * float(hits[rows].sum()) / total if total else None

    return metric


def _macro(told: _Told) -> Metric:
    """Return the mean F1 of the findings that are named; None for rows in which none is.

    A finding that nobody names has no F1: it is left out, neither 0 nor 1.
    """

    def metric(rows: Rows) -> float | None:
        hits, named = told.hits[rows].sum(0), told.named[rows].sum(0)
        there = named > 0
        return float((2 * hits[there] / named[there]).mean()) if there.any() else None

    return metric
