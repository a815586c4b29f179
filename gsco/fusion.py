"""Fusion: calibrated voices become one distribution, a prediction set, and a reason to stop.

A voice is a matrix (N, C) of probabilities: a specialist's, the neighbours' vote, the generalist's.
`stack` is a log opinion pool (Genest and Zidek, Statistical Science 1986), which is multinomial
logistic stacking over log-probabilities with one weight a voice: so few numbers that a small
validation part supports them. What is weighed is how far each voice moves from the shares of the
classes in training: specialists and neighbours know those, and they must count once, not once a
voice.
Prediction sets are split conformal (Vovk et al. 2005) with the least-ambiguous score of Sadinle et
al. (JASA 2019), on cross-fitted probabilities.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gsco.case import System
from gsco.errors import FusionError
from specialists.calibrate import softmax

Floats = NDArray[np.float64]
Voices = Mapping[str, Floats]

NEIGHBOURS, GENERALIST = "neighbours", "generalist"
VERSION = 3
_FLOOR = 1e-4


@dataclass(frozen=True)
class Fusion:
    """What validation taught about combining the voices of one task."""

    labels: tuple[str, ...]
    kind: Literal["single", "multi"]
    best: str
    """The specialist that was best on validation."""
    prior: tuple[float, ...]
    """Shares of the labels in training, in their order."""
    stack: Mapping[str, float]
    """Voice to weight, specialists and neighbours."""
    reliability: float
    """Balanced accuracy of their pool on validation, cross-fitted."""
    fused: Mapping[str, float]
    """Voice to weight, the generalist's own reading included; empty if none was read.

    Its weight is 0, and the others' are those of `stack`, where hearing it showed no gain.
    """
    temperatures: Mapping[str, float]
    """System to temperature, for the readings that are answers of their own."""
    thresholds: Mapping[str, float]
    """System to the largest score 1 - p a label of the prediction set may have."""
    coverage: float
    """What the prediction sets were built for."""
    familiar: float
    """Mean similarity to the neighbours below which an image is out of domain."""
    n_validation: int
    generalist: str | None
    """Identity of the model whose readings were calibrated; None if there were none."""

    @property
    def specialists(self) -> tuple[str, ...]:
        """The specialists whose voices were fitted."""
        return tuple(name for name in self.stack if name != NEIGHBOURS)

    def fits(self, identity: str) -> bool:
        """Whether these readings' calibration is that of a generalist.

        A server tells its name only, without a hash of its weights: then names must agree.
        """
        (name, _, weights), (other, _, others) = (
            one.partition("@") for one in (self.generalist or "", identity)
        )
        return bool(name) and name == other and (weights == others or not (weights and others))

    def to_json(self) -> str:
        """Return the fusion as JSON with a version."""
        return json.dumps({"version": VERSION, **asdict(self)}, indent=1, sort_keys=True)


def fusion_from_json(text: str) -> Fusion:
    """Read a fusion.

    Raises:
        FusionError: it is of another version, or incomplete.
    """
    try:
        data = json.loads(text)
        version = data.pop("version")
        if version == VERSION:
            tuples = {key: tuple(data[key]) for key in ("labels", "prior")}
            return Fusion(**{**data, **tuples})
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise FusionError(
            f"The fusion file cannot be read ({error}). Run `gsco construct` again."
        ) from error
    raise FusionError(f"The fusion has version {version!r}, not {VERSION}. Construct it again.")


def pool(
    voices: Voices,
    weights: Mapping[str, float],
    kind: str = "single",
    prior: Sequence[float] | None = None,
) -> Floats:
    """Return the log opinion pool (N, C) of the voices that have a weight.

    A voice that is missing is left out, and the others keep their weights' sum; they share it
    evenly where they had no weight of their own.

    Args:
        voices: name to (N, C) probabilities.
        weights: name to weight.
        kind: `single` or `multi`.
        prior: (C,) shares of the labels in training; even ones if None.
    """
    present = {name: weight for name, weight in weights.items() if name in voices}
    if not present:
        raise FusionError("No voice to pool: every specialist failed. See the failures listed.")
    if len(present) < len(weights) and sum(present.values()) < 1e-6:
        present = dict.fromkeys(present, 1.0)
    share = sum(weights.values()) / max(sum(present.values()), 1e-9)
    base = _base(prior, next(iter(voices.values())).shape[1], kind)
    moved = sum(
        weight * share * _move(name, voices[name], base, kind) for name, weight in present.items()
    )
    return probabilities_of(base + np.asarray(moved), kind)


def _move(name: str, voice: Floats, base: Floats, kind: str) -> Floats:
    """Return how far a voice moves from what it knows beforehand.

    Specialists and neighbours know the shares of the training labels; a generalist does not.
    """
    scores = log_of(voice, kind)
    return scores if name == GENERALIST else scores - base


def _base(prior: Sequence[float] | None, n_labels: int, kind: str) -> Floats:
    """Return the (1, C) scores of the prior, from which the voices move."""
    if prior is None:
        return np.zeros((1, n_labels))
    return log_of(np.array([prior], dtype=np.float64), kind)


def prior_of(targets: NDArray[np.int64], n_labels: int) -> tuple[float, ...]:
    """Return the shares of the labels among (N,) class numbers or (N, C) zeros and ones.

    One imagined case a label keeps shares off 0.
    """
    if targets.ndim == 2:
        shares = (targets.sum(axis=0) + 1) / (len(targets) + 2)
    else:
        shares = (np.bincount(targets, minlength=n_labels) + 1) / (len(targets) + n_labels)
    return tuple(shares.tolist())


def log_of(voice: Floats, kind: str) -> Floats:
    """Return log probabilities, or log odds if `kind` is `multi`; finite for 0 and 1."""
    clipped = voice.clip(_FLOOR, 1 - _FLOOR)
    out: Floats = np.log(clipped) if kind == "single" else np.log(clipped) - np.log1p(-clipped)
    return out


def probabilities_of(scores: Floats, kind: str) -> Floats:
    """Return the probabilities (N, C) of logits: over the labels, or one by one if `multi`."""
    return 1 / (1 + np.exp(-scores)) if kind == "multi" else softmax(scores)


def mean(voices: Sequence[Floats]) -> Floats:
    """Return the mean of the voices' probabilities."""
    out: Floats = np.mean(voices, axis=0)
    return out


def votes(voices: Sequence[Floats], kind: str = "single") -> Floats:
    """Return the share of voices for each label; the mean probability breaks ties.

    The mean counts as one vote more, so no label has probability 0.
    """
    n_labels = voices[0].shape[1]
    if kind == "single":
        ballots = [np.eye(n_labels)[voice.argmax(axis=1)] for voice in voices]
    else:
        ballots = [(voice > 0.5).astype(np.float64) for voice in voices]
    out: Floats = (np.sum(ballots, axis=0) + mean(voices)) / (len(voices) + 1)
    return out


PULL = 3
"""Cases that must speak for other voices before the best specialist is not heard alone."""


def fit_weights(
    voices: Voices,
    targets: NDArray[np.int64],
    kind: str = "single",
    *,
    best: str | None = None,
    prior: Sequence[float] | None = None,
) -> dict[str, float]:
    """Return one weight in [0, 3] a voice that gives the pool the least log loss.

    A pull towards the best specialist alone, with the strength of `PULL` cases, keeps small parts
    honest: others are heard as far as validation shows that they help.

    Args:
        voices: name to (N, C) probabilities on validation.
        targets: (N,) class numbers, or (N, C) zeros and ones.
        kind: `single` or `multi`.
        best: who is heard where nothing is known; all alike if None.
        prior: see `pool`.
    """
    from scipy.optimize import minimize

    names = list(voices)
    base = _base(prior, next(iter(voices.values())).shape[1], kind)
    moves = np.stack([_move(name, voices[name], base, kind) for name in names])
    start = np.array([float(name == best) if best else 1 / len(names) for name in names])

    def loss(weights: Floats) -> float:
        pull = PULL / len(targets) * float(((weights - start) ** 2).sum())
        pooled = probabilities_of(base + np.tensordot(weights, moves, 1), kind)
        return log_loss(pooled, targets) + pull

    found = minimize(loss, start, bounds=[(0, 3)] * len(names), method="L-BFGS-B")
    return {name: float(weight) for name, weight in zip(names, found.x, strict=True)}


def log_loss(probabilities: Floats, targets: NDArray[np.int64]) -> float:
    """Return the mean negative log probability of the truth."""
    return float(_losses(probabilities, targets).mean())


def _losses(probabilities: Floats, targets: NDArray[np.int64]) -> Floats:
    """Return the (N,) negative log probabilities of the truth; of several labels their mean."""
    if targets.ndim == 2:
        clipped = probabilities.clip(1e-9, 1 - 1e-9)
        loss = targets * np.log(clipped) + (1 - targets) * np.log1p(-clipped)
        return np.asarray(-loss.mean(axis=1))
    true = probabilities[np.arange(len(targets)), targets]
    return np.asarray(-np.log(true.clip(1e-9)))


def gains(more: Floats, less: Floats, targets: NDArray[np.int64]) -> bool:
    """Return whether `more` has the smaller log loss by above one standard error of the difference.

    The rule of one standard error (Breiman et al., Classification and Regression Trees, 1984):
    of two answers that validation cannot tell apart, take that which hangs on fewer voices.

    Args:
        more: (N, C) probabilities with one voice more, cross-fitted.
        less: (N, C) those without it.
        targets: (N,) class numbers, or (N, C) zeros and ones.
    """
    gain = _losses(less, targets) - _losses(more, targets)
    return bool(gain.mean() > gain.std(ddof=1) / math.sqrt(len(gain)))


def cross_fitted(
    voices: Voices,
    targets: NDArray[np.int64],
    kind: str = "single",
    *,
    best: str | None = None,
    prior: Sequence[float] | None = None,
    folds: int = 5,
) -> Floats:
    """Return pooled probabilities (N, C), each row by weights that did not see it.

    Raises:
        FusionError: there is one case only.
    """
    if len(targets) < 2:
        raise FusionError(
            "One validation case cannot make weights and try them, too. Add validation cases."
        )
    fold = np.arange(len(targets)) % folds
    out = np.zeros_like(next(iter(voices.values())))
    for number in range(folds):
        inside, outside = fold == number, fold != number
        if inside.any():
            seen = {name: voice[outside] for name, voice in voices.items()}
            weights = fit_weights(seen, targets[outside], kind, best=best, prior=prior)
            out[inside] = pool({n: v[inside] for n, v in voices.items()}, weights, kind, prior)
    return out


def check_coverage(n: int, coverage: float) -> None:
    """Check that `n` validation cases support prediction sets at a coverage.

    Raises:
        FusionError: they do not: a finite bound needs n >= coverage / (1 - coverage).
    """
    if not 0 < coverage < 1:
        raise FusionError(f"Coverage {coverage!r} is not between 0 and 1. Ask for 0.9, say.")
    if _rank(n, coverage) > n:
        need = math.ceil(coverage / (1 - coverage) - 1e-9)
        raise FusionError(
            f"Prediction sets at coverage {coverage!r} need at least {need} validation cases; "
            f"there are {n}. Ask for less with `--coverage`, or add validation cases."
        )


def _rank(n: int, coverage: float) -> int:
    return math.ceil((n + 1) * coverage - 1e-9)


def threshold(probabilities: Floats, targets: NDArray[np.int64], coverage: float) -> float:
    """Return the split-conformal bound on 1 - p that holds the truth with `coverage`.

    Args:
        probabilities: (n, C) of cases that took no part in fitting them.
        targets: (n,) class numbers.
        coverage: wanted share in (0, 1).

    Raises:
        FusionError: n is too small, see `check_coverage`.
    """
    n = len(targets)
    check_coverage(n, coverage)
    scores = np.sort(1 - probabilities[np.arange(n), targets])
    return float(scores[_rank(n, coverage) - 1])


def prediction_set(row: Floats, labels: Sequence[str], bound: float) -> tuple[str, ...]:
    """Return the labels whose score 1 - p is within the bound, most probable first."""
    order = np.argsort(-row, kind="stable")
    return tuple(labels[i] for i in order if 1 - row[i] <= bound + 1e-12)


def answer_of(system: System, voices: Voices, reading: Floats | None, fusion: Fusion) -> Floats:
    """Return the system's calibrated probabilities (N, C).

    Args:
        system: the dial.
        voices: specialists, `neighbours`, the plain reading, as far as consulted.
        reading: the reading with the system's evidence, where the answer is the reading.
        fusion: what validation taught.
    """
    specialists = [v for name, v in voices.items() if name not in (NEIGHBOURS, GENERALIST)]
    if system == "specialist" and fusion.best in voices:
        return voices[fusion.best]
    if system in ("specialist", "vote", "mean") and not specialists:
        raise FusionError("No specialist could give an opinion. See the failures listed.")
    if system == "vote":
        return votes(specialists, fusion.kind)
    if system in ("specialist", "mean"):
        return mean(specialists)
    if system == "neighbours":
        if NEIGHBOURS not in voices:
            raise FusionError("No similar case could be recalled. See the failures listed.")
        return voices[NEIGHBOURS]
    if system == "stack":
        return pool(voices, fusion.stack, fusion.kind, fusion.prior)
    if system == "gsco-fused":
        heard = GENERALIST in voices and GENERALIST in fusion.fused
        weights = fusion.fused if heard else fusion.stack
        return pool(voices, weights, fusion.kind, fusion.prior)
    if reading is None:
        raise FusionError("The generalist gave no reading. See the failures listed.")
    return tempered(reading, fusion.temperatures.get(system, 1.0), fusion.kind)


def tempered(voice: Floats, temperature: float, kind: str = "single") -> Floats:
    """Return the voice sharpened (below 1) or softened (above 1)."""
    return probabilities_of(log_of(voice, kind) / temperature, kind)
