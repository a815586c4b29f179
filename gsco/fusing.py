"""The last steps of construction: index, every voice on validation, and the fusion fitted."""

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gsco import fusion
from gsco.case import System
from gsco.datasets import Record, targets_of
from gsco.errors import FusionError
from gsco.fusion import GENERALIST, NEIGHBOURS, Fusion
from gsco.progress import Progress
from gsco.task import Task
from gsco.voices import (
    READ_SYSTEMS,
    RECALLED,
    embedder_named,
    embedder_of,
    hears,
    neighbour_vote,
    recalls,
    specialists_of,
    together,
)
from gsco.workspace import TaskFolder, write_bytes, write_text
from retrieval import CaseIndex, Entry, Neighbour, RetrievalError
from retrieval import guard as guard_of
from retrieval.guard import Fingerprint
from specialists import Opinion
from specialists.calibrate import auc, balanced_accuracy, fit_temperature

if TYPE_CHECKING:
    from gsco.generalist import Generalist
    from gsco.prompts import Prompt
    from retrieval import Embedder

Floats = NDArray[np.float64]
READ_AT_MOST = 100
"""Validation cases that the generalist reads with evidence, for its calibration."""
ALONE_AT_MOST = 400
"""Those of which it reads the image alone: by them it is weighed against all others."""
READ_AT_LEAST = 10
"""Readings that can be understood, without which a temperature would be noise."""


def index(
    folder: TaskFolder,
    training: Sequence[Record],
    entries: Mapping[str, Entry],
    index_with: str,
    progress: Progress,
) -> None:
    """Save the index of the training cases, unless the same one is there."""
    embedder = embedder_named(index_with, folder)
    try:
        current = CaseIndex.load(
            folder.index, embedder=embedder.name, embedder_hash=embedder.weights_hash
        )
        if set(current.entries) == {entries[record.id] for record in training}:
            return
    except RetrievalError:
        pass
    build_index(folder, embedder, training, entries, progress)


def build_index(
    folder: TaskFolder,
    embedder: "Embedder",
    training: Sequence[Record],
    entries: Mapping[str, Entry],
    progress: Progress,
) -> None:
    """Embed the training cases and save their index in the place of the one there."""
    built = CaseIndex.build(
        embed(embedder, training, folder.learnt_size, progress),
        [entries[record.id] for record in training],
        embedder=embedder.name,
        embedder_hash=embedder.weights_hash,
        centred=True,
    )
    built.save(folder.index)


def embed(
    embedder: "Embedder",
    records: Sequence[Record],
    size: tuple[int, int] | None,
    progress: Progress,
) -> NDArray[np.float32]:
    """Return the (N, D) vectors of the records' images, 64 at a time, none larger than `size`."""
    from specialists.images import reduced

    rows = []
    for start in range(0, len(records), 64):
        part = records[start : start + 64]
        rows.append(embedder.embed([reduced(record.open(), size) for record in part]))
        progress("embed cases", min(start + 64, len(records)), len(records))
    return np.concatenate(rows)


def fit(
    folder: TaskFolder,
    task: Task,
    training: Sequence[Record],
    validation: Sequence[Record],
    entries: Mapping[str, Entry],
    coverage: float,
    generalist: "Generalist | None",
    progress: Progress,
) -> Fusion:
    """Hear every voice on the validation cases and fit the fusion to them."""
    from specialists.images import reduced
    from specialists.registry import ordered

    size = folder.learnt_size
    targets = targets_of(validation, task)
    opinions: dict[str, list[Opinion]] = {}
    for name, specialist in specialists_of(folder).items():
        opinions[name] = []
        for start in range(0, len(validation), 64):
            images = [reduced(r.open(), size) for r in validation[start : start + 64]]
            opinions[name] += [ordered(o, task.texts) for o in specialist.predict(images)]
            progress(f"hear {name}", min(start + 64, len(validation)), len(validation))
    recalled, similarity = _recall(folder, validation, entries, progress)
    voices: dict[str, Floats] = {
        name: np.array([o.probabilities for o in said]) for name, said in opinions.items()
    }
    shares = [neighbour_vote(found, task.texts, task.labelling) for found in recalled]
    voices[NEIGHBOURS] = np.array(shares)
    prior = fusion.prior_of(targets_of(training, task), len(task.texts))
    made, crossed = _fit(task, voices, targets, prior, coverage, similarity)
    readings: dict[System, Floats] = {}
    if generalist:
        readings = _readings(task, validation, opinions, recalled, made, generalist, progress)
        made = _with_readings(made, crossed, voices, targets, readings, generalist.identity)
    _write_voices(folder, task, validation, voices, readings, targets)
    write_text(folder.path / "fusion.json", made.to_json())
    return made


def _recall(
    folder: TaskFolder,
    validation: Sequence[Record],
    entries: Mapping[str, Entry],
    progress: Progress,
) -> "tuple[list[tuple[Neighbour, ...]], Floats]":
    embedder = embedder_of(folder)
    cases = CaseIndex.load(
        folder.index, embedder=embedder.name, embedder_hash=embedder.weights_hash
    )
    guards = [_guard(entries[record.id]) for record in validation]
    vectors = embed(embedder, validation, folder.learnt_size, progress)
    results = cases.search(vectors, RECALLED, skip=guards)
    means = [float(np.mean([n.similarity for n in r.neighbours] or [-1.0])) for r in results]
    return [r.neighbours for r in results], np.array(means)


def _guard(entry: Entry) -> Callable[[Entry], bool]:
    prints = Fingerprint(entry.content_hash, entry.perceptual_hash)
    return guard_of(prints, entry.patient, own_id=entry.id)


def _readings(
    task: Task,
    validation: Sequence[Record],
    opinions: Mapping[str, Sequence[Opinion]],
    recalled: Sequence[tuple[Neighbour, ...]],
    fitted: Fusion,
    generalist: "Generalist",
    progress: Progress,
) -> dict[System, Floats]:
    """Return one matrix a system: NaN rows where the generalist was not asked or not understood."""
    from gsco.generalist.reading import read_all
    from gsco.prompts import build_prompt

    n = len(validation)
    chosen: dict[System, list[int]] = {}
    for system in READ_SYSTEMS:
        most = ALONE_AT_MOST if system == "generalist" else READ_AT_MOST
        chosen[system] = np.linspace(0, n - 1, min(most, n)).astype(int).tolist()

    def prompt(system: System, rows: Sequence[int], place: int, shown: int) -> "Prompt":
        i = rows[place]
        heard = {name: said[i] for name, said in opinions.items()} if hears(system) else {}
        neighbours = recalled[i][:shown]
        return build_prompt(
            task,
            images=[validation[i].open()],
            opinions=list(heard.values()),
            neighbours=neighbours,
            together=together(fitted, heard, neighbours),
            answer_form=generalist.answer_form,
        )

    done, total = 0, sum(map(len, chosen.values()))
    out: dict[System, Floats] = {s: np.full((n, len(task.texts)), np.nan) for s in READ_SYSTEMS}
    for system, asked in chosen.items():
        for start in range(0, len(asked), 25):
            rows = asked[start : start + 25]
            shown = [len(recalled[i]) if recalls(system) else 0 for i in rows]
            readings = read_all(generalist, partial(prompt, system, rows), shown)
            for row, reading in zip(rows, readings, strict=True):
                if reading.probabilities:
                    out[system][row] = [reading.probabilities[text] for text in task.texts]
            done += len(rows)
            progress("hear the generalist", done, total)
    return out


def _write_voices(
    folder: TaskFolder,
    task: Task,
    validation: Sequence[Record],
    voices: Mapping[str, Floats],
    readings: Mapping[System, Floats],
    targets: NDArray[np.int64],
) -> None:
    buffer = io.BytesIO()
    # Any: numpy's signature mixes the arrays with a flag.
    arrays: dict[str, Any] = {f"voice {k}": v.astype(np.float32) for k, v in voices.items()}
    arrays |= {f"reading {k}": v.astype(np.float32) for k, v in readings.items()}
    arrays |= {"targets": targets, "labels": np.array(task.texts), "n": len(validation)}
    np.savez_compressed(buffer, **arrays)
    write_bytes(folder.voices, buffer.getvalue())


def _fit(
    task: Task,
    voices: dict[str, Floats],
    targets: NDArray[np.int64],
    prior: tuple[float, ...],
    coverage: float,
    similarity: Floats,
) -> tuple[Fusion, Floats]:
    """Return the fusion of specialists and neighbours, and what it says, cross-fitted."""
    kind = task.labelling
    specialists = {k: v for k, v in voices.items() if k != NEIGHBOURS}
    best = max(specialists, key=lambda name: _worth(specialists[name], targets))
    crossed = fusion.cross_fitted(voices, targets, kind, best=best, prior=prior)
    answers: dict[System, Floats] = {
        "specialist": specialists[best],
        "vote": fusion.votes(list(specialists.values()), kind),
        "mean": fusion.mean(list(specialists.values())),
        "neighbours": voices[NEIGHBOURS],
        "stack": crossed,
    }
    thresholds: dict[str, float] = {}
    if kind == "single":
        thresholds = {s: fusion.threshold(p, targets, coverage) for s, p in answers.items()}
    made = Fusion(
        labels=task.texts,
        kind=kind,
        best=best,
        prior=prior,
        stack=fusion.fit_weights(voices, targets, kind, best=best, prior=prior),
        reliability=balanced_accuracy(said_of(crossed, targets), targets),
        fused={},
        temperatures={},
        thresholds=thresholds,
        coverage=coverage,
        familiar=float(np.quantile(similarity, 0.01)),
        n_validation=len(targets),
        generalist=None,
    )
    return made, crossed


def _with_readings(
    made: Fusion,
    without: Floats,
    voices: dict[str, Floats],
    targets: NDArray[np.int64],
    readings: Mapping[System, Floats],
    identity: str,
) -> Fusion:
    """Return the fusion with a generalist's readings calibrated, and itself as one more voice.

    It is heard if that is a gain over what the others say `without` it, cross-fitted.
    """
    temperatures: dict[str, float] = {}
    answers: dict[System, tuple[Floats, NDArray[np.int64]]] = {}
    fused: dict[str, float] = {}
    for system, reading in readings.items():
        known = np.flatnonzero(~np.isnan(reading).any(axis=1))
        if len(known) < READ_AT_LEAST:
            continue
        truth = targets[known]
        temperatures[system] = fit_temperature(fusion.log_of(reading[known], made.kind), truth)
        said = fusion.tempered(reading[known], temperatures[system], made.kind)
        answers[system] = said, truth
        if system == "generalist":
            best, prior = made.best, made.prior
            heard = {name: voice[known] for name, voice in voices.items()} | {GENERALIST: said}
            with_it = fusion.cross_fitted(heard, truth, made.kind, best=best, prior=prior)
            if fusion.gains(with_it, without[known], truth):
                fused = fusion.fit_weights(heard, truth, made.kind, best=best, prior=prior)
                answers["gsco-fused"] = with_it, truth
            else:
                fused = {**made.stack, GENERALIST: 0.0}
                answers["gsco-fused"] = without, targets
    thresholds = dict(made.thresholds)
    for system, (shown, truth) in answers.items() if made.kind == "single" else ():
        # The generalist is read on some cases only: too few for sets, perhaps.
        with suppress(FusionError):
            thresholds[system] = fusion.threshold(shown, truth, made.coverage)
    return replace(
        made,
        fused=fused,
        temperatures=temperatures,
        thresholds=thresholds,
        generalist=identity,
    )


def _worth(voice: Floats, targets: NDArray[np.int64]) -> float:
    """Rank specialists by AUC; by balanced accuracy where a class is absent."""
    area = auc(voice, targets)
    if area is not None:
        return area
    if not len(targets):
        raise FusionError("There are no validation cases. Add some.")
    return balanced_accuracy(said_of(voice, targets), targets)


def said_of(voice: Floats, targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return what a voice (N, C) answers, in the form of the targets."""
    return voice.argmax(axis=1) if targets.ndim == 1 else (voice > 0.5).astype(np.int64)
