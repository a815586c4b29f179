"""The benchmark: systems side by side on the same cases, in a folder that a run can leave and find.

OUT/SET/set.json       what the set and the systems are
        cases.jsonl    id, true labels and patient (hashed) of each case, in order
        SYSTEM.KEY.jsonl   the ledgers
OUT/results.json       every figure, computed from the files above alone

A set and a system are asked together, so that prompts share their beginnings. Killed at any moment
and called again, a run ends with the same results, byte for byte.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gsco.case import SYSTEMS, System
from gsco.errors import DataError, UsageError
from gsco.evaluation.evaluate import case_of, measured
from gsco.evaluation.ledger import Answer, Ledger, arrays
from gsco.evaluation.metrics import Answers, Row, measure, resamples
from gsco.evaluation.overlap import refuse_learnt
from gsco.evaluation.paired import detectable, holm, mcnemar
from gsco.progress import Progress
from gsco.workflow import READING_SYSTEMS
from gsco.workspace import open_task, write_text

if TYPE_CHECKING:
    from gsco.agent import GSCo
    from gsco.datasets import Dataset, Record
    from gsco.prompts import Style

VERSION = 1
CHUNK = 64
RESAMPLED = 1000
BASELINE: System = "specialist"
RESULTS = "results.json"


@dataclass(frozen=True)
class Item:
    """One set, and the task of the workspace that it is asked of."""

    name: str
    """Names the folder of its answers."""
    task: str
    dataset: "Dataset"


@dataclass(frozen=True)
class Scope:
    """Which cases, and how they are asked."""

    limit: int | None = None
    """At most so many cases of a set, spread over its test part."""
    shard: tuple[int, int] = (1, 1)
    """Part and number of parts: this run asks every n-th case only."""
    style: "Style" = "calibrated"
    seed: int = 0
    """Of the bootstrap."""
    retry: bool = False
    """Whether cases that failed are asked again."""
    allow_overlap: bool = False
    """Whether cases may be asked about that the generalist learnt from; the set's notes say so."""


def local_items(
    agent: "GSCo", root: Path, names: Sequence[str] = ()
) -> tuple[list[Item], dict[str, str]]:
    """Return the constructed tasks whose data lie under `root`, and why others are left out.

    Args:
        agent: the opened workspace.
        root: holds the folder of each data set under the name that it had in construction.
        names: tasks to take; all if none is given.

    Raises:
        DataError: the data of a task are no longer those it was constructed from: a case that it
            learnt from might stand in the test part.
    """
    from gsco.datasets import read_dataset

    items, left = [], {}
    for name in names or agent.tasks:
        constructed = open_task(agent.workspace, name)
        task, facts = constructed.read_task(), constructed.read_json("data.json")
        folder = root / str(facts["name"])
        if not folder.exists():
            left[name] = f"no {facts['name']!r} under {root.name!r}"
            continue
        label, split = _columns(facts)
        dataset = read_dataset(folder, task, label_column=label, split_column=split)
        if dataset.fingerprint != facts["fingerprint"]:
            raise DataError(
                f"{facts['name']!r} is no longer what task {name!r} was constructed from: test "
                f"cases may have been learnt. Run `gsco construct {name}` again, or leave it out."
            )
        items.append(Item(name, name, dataset))
    return items, left


def _columns(facts: Mapping[str, object]) -> tuple[str, str]:
    columns = facts.get("columns")
    label, split = columns if isinstance(columns, list) else ("label", "split")
    return str(label), str(split)


def run(
    agent: "GSCo",
    items: Sequence[Item],
    systems: Sequence[System],
    out: Path,
    scope: Scope = Scope(),
    progress: Progress = lambda step, done, total: None,
) -> list[dict[str, Any]] | None:
    """Ask the systems whatever is not yet in the ledgers, and write the results.

    Args:
        agent: the opened workspace.
        items: the sets.
        systems: what to compare.
        out: folder of the run; another run of the same sets and scope is gone on with.
        scope: which cases, and how.
        progress: told how far each set and system is.

    Returns:
        One mapping a set and system, or None while shards are missing.

    Raises:
        DataError: the folder holds other cases, or a set has none.
        UsageError: another run writes to the folder.
    """
    with locked(out):
        for item in items:
            _answer(agent, item, systems, out, scope, progress)
        return finish(out)


def _answer(
    agent: "GSCo",
    item: Item,
    systems: Sequence[System],
    out: Path,
    scope: Scope,
    progress: Progress,
) -> None:
    folder, labels = out / item.name, agent.tools(item.task).task.texts
    records = item.dataset.split("test")
    if not records:
        raise DataError(f"{item.name!r} has no test cases. Leave it out.")
    records = measured(records, labels, item.name, item.task, scope.limit)
    flatters = _overlap(agent, item, systems, records, scope)
    _keep_cases(folder, records)
    part, parts = scope.shard
    mine = records[part - 1 :: parts]
    ledgers = {s: Ledger(folder, s, _key(agent, item, s, scope.style)) for s in systems}
    for system, ledger in ledgers.items():
        known = ledger.known()
        asked = [r for r in mine if r.id not in known or (scope.retry and known[r.id])]
        step, done = f"{item.name} {system}", len(mine) - len(asked)
        progress(step, done, len(mine))
        for start in range(0, len(asked), CHUNK):
            chunk = asked[start : start + CHUNK]
            ledger.add(_answers(agent, item.task, system, chunk, labels, scope.style))
            progress(step, done + start + len(chunk), len(mine))
    named = _former(folder, next(iter(ledgers.values())))
    named |= {system: ledger.path.name for system, ledger in ledgers.items()}
    notes = [*item.dataset.notes, *filter(None, [flatters])]
    write_text(folder / "set.json", _about(agent, item, named, scope, notes))


def _overlap(
    agent: "GSCo",
    item: Item,
    systems: Sequence[System],
    records: "Sequence[Record]",
    scope: Scope,
) -> str:
    """Refuse, or tell of, cases that the generalist learnt from.

    A task's own data keep the index apart from the test part already.
    """
    if not any(system in READING_SYSTEMS for system in systems):
        return ""
    tools = agent.tools(item.task, "gsco")
    if tools.generalist is None or not tools.generalist.seen:
        return ""
    return refuse_learnt(records, tools, allowed=scope.allow_overlap)


def _former(folder: Path, ledger: Ledger) -> dict[str, str]:
    """Return the ledgers of an earlier run of other systems of the very same make."""
    path = folder / "set.json"
    names = json.loads(path.read_text(encoding="utf-8"))["ledgers"] if path.is_file() else {}

    def make(one: Ledger) -> dict[str, object]:
        return {k: v for k, v in one.key.items() if k not in ("system", "generalist")}

    return {s: n for s, n in names.items() if make(Ledger.at(folder / n)) == make(ledger)}


def _keep_cases(folder: Path, records: "Sequence[Record]") -> None:
    lines = [json.dumps([r.id, list(r.labels), _group(r)]) for r in records]
    keep_lines(folder / "cases.jsonl", lines, "cases")


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


def _group(record: "Record") -> str:
    """Return what stands for the patient; a pseudonym may itself tell too much."""
    return hashlib.sha256((record.patient or record.id).encode()).hexdigest()[:16]


def _key(agent: "GSCo", item: Item, system: System, style: "Style") -> dict[str, object]:
    """Return everything that affects an answer."""
    tools = agent.tools(item.task, system, style)
    return {
        "data": item.dataset.fingerprint,
        "task": item.task,
        "system": system,
        "style": style,
        "neighbours": tools.neighbours,
        "permutations": tools.permutations,
        "generalist": tools.generalist.identity if tools.generalist else None,
        **tools.provenance,
    }


def _answers(
    agent: "GSCo",
    task: str,
    system: System,
    records: "Sequence[Record]",
    labels: Sequence[str],
    style: "Style",
) -> list[Answer]:
    start = time.perf_counter()
    cases = [case_of(record, task) for record in records]
    made = agent.diagnose_many(cases, system, style=style)
    each = (time.perf_counter() - start) / len(records)
    return [Answer.of(d, r.id, labels, each) for d, r in zip(made, records, strict=True)]


def _about(
    agent: "GSCo", item: Item, ledgers: Mapping[str, str], scope: Scope, notes: Sequence[str]
) -> str:
    task = agent.tools(item.task).task
    about = {
        "version": VERSION,
        "name": item.name,
        "task": item.task,
        "kind": task.kind,
        "labels": list(task.texts),
        "data": item.dataset.name,
        "licence": item.dataset.licence,
        "notes": list(notes),
        "style": scope.style,
        "seed": scope.seed,
        "ledgers": dict(ledgers),
    }
    return json.dumps(about, indent=1, ensure_ascii=False) + "\n"


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep a folder for one run.

    Raises:
        UsageError: another run has it.
    """
    from filelock import FileLock, Timeout

    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise UsageError(
            f"Another run writes to {out.name!r}. Wait for it, or choose another `--out`."
        ) from error


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

    def answers(self, system: str) -> Answers | None:
        """Return a system's answers in the order of the cases; None while some are missing."""
        multi = self.targets.ndim == 2
        return arrays(self.ledgers[system].lines(), self.cases, self.labels, multi)


def sets_of(out: Path) -> list[Stored]:
    """Return the sets of a run, by name.

    Raises:
        DataError: the folder holds no run, or a file is damaged.
    """
    found = sorted(out.glob("*/set.json"))
    if not found:
        raise DataError(f"{out.name!r} holds no run. Make one with `gsco bench run --out`.")
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
    rows: list[dict[str, Any]] = []
    for stored in sets_of(out):
        found = _rows(stored)
        if found is None:
            return None
        rows += found
    tested = [row for row in rows if row["mcnemar_p"] is not None]
    for row, corrected in zip(tested, holm([r["mcnemar_p"] for r in tested]), strict=True):
        row["mcnemar_p_holm"] = corrected
    return rows


def _rows(stored: Stored) -> list[dict[str, Any]] | None:
    draws = resamples(stored.groups, RESAMPLED, stored.about["seed"])
    said: dict[str, Answers] = {}
    for system in (s for s in SYSTEMS if s in stored.ledgers):
        answers = stored.answers(system)
        if answers is None:
            return None
        said[system] = answers
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
    problems = []
    for stored in sets_of(out):
        for system, ledger in stored.ledgers.items():
            missing = set(stored.cases) - ledger.known().keys()
            if missing:
                problems.append(
                    f"{stored.about['name']} {system}: {len(missing)} of {len(stored.cases)} cases "
                    "have no answer. Run it again."
                )
    return problems + stale(out / RESULTS, results(out))


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
                _gather(stored, shard / stored.about["name"], out / stored.about["name"])
        return finish(out)


def _gather(stored: Stored, source: Path, folder: Path) -> None:
    for name in ("cases.jsonl", "set.json"):
        text = (source / name).read_text(encoding="utf-8")
        there = folder / name
        if there.is_file() and there.read_text(encoding="utf-8") != text:
            raise DataError(
                f"{source.parent.name!r} and {folder.parent.name!r} differ in {name!r} of "
                f"{folder.name!r}: they are no shards of one run. Run them alike."
            )
        write_text(there, text)
    for system, ledger in stored.ledgers.items():
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
