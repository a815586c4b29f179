"""Measuring: the folder of a run, and every figure that follows from its files alone.

OUT/results.json       every figure of every set and system

Nothing here asks a model: what is stored can be measured, checked, gathered and compared anywhere.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gsco.case import SYSTEMS, System
from gsco.errors import DataError, UsageError
from gsco.evaluation.ledger import Gathered, Ledger, arrays, gathered
from gsco.evaluation.metrics import Answers, Row, measure, resamples
from gsco.evaluation.paired import detectable, holm, mcnemar
from gsco.workspace import write_text

VERSION = 1
RESAMPLED = 1000
BASELINE: System = "specialist"
RESULTS = "results.json"
CASE_FILES = ("cases.jsonl", "set.json")


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep a folder for one run.

    Raises:
        UsageError: another run has it, or it cannot be made.
    """
    from filelock import FileLock, Timeout

    make_folder(out)
    try:
        with FileLock(out / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise UsageError(
            f"Another run writes to {out.name!r}. Wait for it, or choose another `--out`."
        ) from error


def make_folder(out: Path) -> None:
    """Make the folder of a run, unless it is there.

    Raises:
        UsageError: it cannot be made, or not be written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".lock").touch()
    except OSError as error:
        raise UsageError(
            f"The folder {str(out)!r} cannot be made or written to: {error.strerror}. "
            "Choose another `--out`."
        ) from error


def keep_lines(path: Path, lines: Sequence[str], what: str) -> None:
    """Write what a set is asked; a run that is gone on with must ask the same.

    Raises:
        DataError: other lines are there.
    """
    text = "\n".join(lines) + "\n"
    folder = path.parent
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise DataError(
            f"{folder.parent.name!r} holds answers to other {what} of {folder.name!r}. Choose "
            "another `--out`, or repeat that run's `--limit` on unchanged data."
        )
    write_text(path, text)


@dataclass(frozen=True)
class Stored:
    """One set of a run, as its files tell."""

    about: Mapping[str, Any]
    cases: list[str]
    groups: list[str]
    targets: NDArray[np.int64]
    """(N,) class numbers, or (N, C) zeros and ones."""
    ledgers: Mapping[str, Ledger]

    @property
    def labels(self) -> list[str]:
        """The task's labels in order."""
        return list(self.about["labels"])

    def gathered(self, system: str) -> Gathered:
        """Return a system's answers in the order of the cases, and how many are missing."""
        multi = self.targets.ndim == 2
        return gathered(self.ledgers[system].lines(), self.cases, self.labels, multi)

    def answers(self, system: str) -> Answers | None:
        """Return a system's answers in the order of the cases; None while some are missing."""
        found = self.gathered(system)
        return None if found.missing else found.answers


def sets_of(out: Path) -> list[Stored]:
    """Return the sets of a run, by name.

    Raises:
        DataError: the folder holds no run, or a file is damaged.
    """
    found = sorted(out.glob("*/set.json"))
    if not found and (out / ".lock").exists():
        raise DataError(
            f"The run in {str(out)!r} was stopped before its first set was done. Call the same "
            "`gsco bench run` again: it goes on."
        )
    if not found:
        raise DataError(f"{str(out)!r} holds no run. Make one with `gsco bench run --out`.")
    return [_stored(path.parent) for path in found]


def _stored(folder: Path) -> Stored:
    try:
        about = json.loads((folder / "set.json").read_text(encoding="utf-8"))
        lines = (folder / "cases.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        labels = about["labels"]
        if about["kind"] == "multi":
            targets = np.array([[text in said for text in labels] for _, said, _ in rows])
        else:
            targets = np.array([labels.index(said[0]) for _, said, _ in rows])
        names = about["ledgers"].items()
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise damaged(folder, error) from error
    return Stored(
        about=about,
        cases=[row[0] for row in rows],
        groups=[row[2] for row in rows],
        targets=targets.astype(np.int64),
        ledgers={system: Ledger.at(folder / name) for system, name in names},
    )


def damaged(folder: Path, error: Exception) -> DataError:
    """Return what to say of a set whose files cannot be read."""
    return DataError(
        f"The files of set {folder.name!r} are damaged ({error}). Run it again: answers that "
        "are whole are not asked for twice."
    )


def has_sets(out: Path) -> bool:
    """Whether a run asked for diagnoses."""
    return any(out.glob("*/set.json"))


def finish(out: Path) -> list[dict[str, Any]] | None:
    """Write the results, if every case is answered; return them."""
    rows = results(out)
    if rows is not None:
        write_text(out / RESULTS, as_text(rows))
    return rows


def as_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return results as they are stored."""
    return json.dumps({"version": VERSION, "rows": rows}, indent=1, ensure_ascii=False) + "\n"


def results(out: Path) -> list[dict[str, Any]] | None:
    """Compute every figure from the stored answers; None while some are missing."""
    found = _computed(out)
    return None if found.missing else found.rows


class Computed(NamedTuple):
    """The figures of a run, and which answers they lack."""

    rows: list[dict[str, Any]]
    """None of them count where something is missing."""
    missing: list[str]
    """A sentence for each set and system that lacks answers."""


def _computed(out: Path) -> Computed:
    """Read each ledger once, and compute what can be computed."""
    rows: list[dict[str, Any]] = []
    missing: list[str] = []
    for stored in sets_of(out):
        said: dict[str, Answers] = {}
        for system in (s for s in SYSTEMS if s in stored.ledgers):
            said[system], lacking = stored.gathered(system)
            if lacking:
                missing.append(
                    f"{stored.about['name']} {system}: {lacking} of {len(stored.cases)} cases "
                    "have no answer. Run it again."
                )
        # Of a run that is not finished nothing is measured.
        rows += [] if missing else _rows(stored, said)
    tested = [row for row in rows if row["mcnemar_p"] is not None]
    for row, corrected in zip(tested, holm([r["mcnemar_p"] for r in tested]), strict=True):
        row["mcnemar_p_holm"] = corrected
    return Computed(rows, missing)


def _rows(stored: Stored, said: Mapping[str, Answers]) -> list[dict[str, Any]]:
    draws = resamples(stored.groups, RESAMPLED, stored.about["seed"])
    baseline = said.get(BASELINE)
    rows = []
    for name, shown in said.items():
        other = baseline if name != BASELINE else None
        row = measure(
            stored.about["task"], name, shown, stored.targets, stored.labels, draws, other
        )
        rows.append(
            {"set": stored.about["name"], **asdict(row), **_tested(row, shown, other, stored)}
        )
    return rows


def _tested(row: Row, ours: Answers, theirs: Answers | None, stored: Stored) -> dict[str, Any]:
    gain = row.balanced_accuracy_gain_interval
    p = None
    if theirs is not None:
        p = mcnemar(right(ours, stored.targets), right(theirs, stored.targets))
    least = None if gain is None else detectable(gain)
    return {"mcnemar_p": p, "mcnemar_p_holm": None, "detectable": least}


def right(said: Answers, targets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return (N,) whether each answer is right; in multi-label tasks, whether all labels are."""
    same = said.chosen == targets
    out: NDArray[np.bool_] = same if same.ndim == 1 else same.all(axis=1)
    return out


def verify(out: Path) -> list[str]:
    """Compute every figure anew from the stored answers; return what does not agree."""
    rows, missing = _computed(out)
    return missing + stale(out / RESULTS, None if missing else rows)


def stale(path: Path, rows: Sequence[Mapping[str, Any]] | None) -> list[str]:
    """Return what is wrong with stored results, beside those that the answers give, if all do."""
    if not path.is_file():
        return [f"There is no {path.name}. Run it again."]
    if rows is not None and path.read_text(encoding="utf-8") != as_text(rows):
        return [f"{path.name} does not hold what the stored answers give."]
    return []


def merge(out: Path, shards: Sequence[Path]) -> list[dict[str, Any]] | None:
    """Gather the answers of shards in one folder and write the results.

    Raises:
        DataError: shards of other cases or of other systems' makes.
    """
    with locked(out):
        for shard in shards:
            for stored in sets_of(shard):
                name = stored.about["name"]
                gather(shard / name, out / name, CASE_FILES, stored.ledgers)
        return finish(out)


def gather(source: Path, folder: Path, files: Sequence[str], ledgers: Mapping[str, Ledger]) -> None:
    """Add the answers of one set of a shard to those of the whole.

    Raises:
        DataError: a file that says what is asked is another in the whole.
    """
    for name in files:
        text = (source / name).read_text(encoding="utf-8")
        there = folder / name
        if there.is_file() and there.read_text(encoding="utf-8") != text:
            raise DataError(
                f"{source.parent.name!r} and {folder.parent.name!r} differ in {name!r} of "
                f"{folder.name!r}: they are no shards of one run. Run them alike."
            )
        write_text(there, text)
    for system, ledger in ledgers.items():
        target = Ledger(folder, system, ledger.key)
        known = target.known()
        target.add([a for a in ledger.lines() if known.get(a.case) in (None, True)])


def compare(one: Path, other: Path) -> list[dict[str, Any]]:
    """Return, for each set and system that two runs share, how the first differs.

    Only cases that both answered count.
    """
    rows = []
    ours = {s.about["name"]: s for s in sets_of(one)}
    theirs = {s.about["name"]: s for s in sets_of(other)}
    for name in sorted(ours.keys() & theirs.keys()):
        for system in sorted(ours[name].ledgers.keys() & theirs[name].ledgers.keys()):
            rows += _compared(name, system, ours[name], theirs[name])
    if not rows:
        raise DataError(f"{one.name!r} and {other.name!r} share no set and system.")
    return rows


def _compared(name: str, system: str, one: Stored, other: Stored) -> list[dict[str, Any]]:
    if one.labels != other.labels:
        raise DataError(f"The runs have other labels of {name!r}. They cannot be compared.")
    ours, theirs = one.ledgers[system], other.ledgers[system]
    both = ours.known().keys() & theirs.known().keys()
    rows = [i for i, case in enumerate(one.cases) if case in both]
    cases, targets = [one.cases[i] for i in rows], one.targets[rows]
    said = arrays(ours.lines(), cases, one.labels, targets.ndim == 2)
    before = arrays(theirs.lines(), cases, one.labels, targets.ndim == 2)
    if not rows or said is None or before is None:
        return []
    draws = resamples([one.groups[i] for i in rows], RESAMPLED, one.about["seed"])
    row = measure(one.about["task"], system, said, targets, one.labels, draws, before)
    gain = row.balanced_accuracy_gain
    return [
        {
            "set": name,
            "system": system,
            "n": len(rows),
            "balanced_accuracy": row.balanced_accuracy,
            "gain": gain,
            "gain_interval": row.balanced_accuracy_gain_interval,
            "mcnemar_p": mcnemar(right(said, targets), right(before, targets)),
        }
    ]
