"""The benchmark of words: the questions and reports of published sets, beside the diagnoses.

OUT/SET/words.json      what the set is, and its ledger
        asked.jsonl     id, patient or image (hashed), kind and true answer of each, in order
        generalist.KEY.jsonl    what was said
OUT/language.json       every figure, computed from the files above alone

Each answer is on disk as soon as a few are known; a run that was killed goes on where it was.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsco.case import Case
from gsco.errors import DataError, GscoError
from gsco.evaluation.bench import Scope, same_make, share, unanswered
from gsco.evaluation.engine import Engine, one_by_one, overlapping
from gsco.evaluation.evaluate import spread
from gsco.evaluation.language import Kind, Said, measure_language
from gsco.evaluation.ledger import Answer, Ledger
from gsco.evaluation.stored import as_text, damaged, gather, keep_lines, locked, stale
from gsco.progress import Progress
from gsco.prompts import wording
from gsco.workspace import write_text
from specialists import SpecialistError

if TYPE_CHECKING:
    from gsco.agent import GSCo
    from gsco.datasets import Question, Report
    from gsco.datasets.question import Cell

VERSION = 1
CHUNK = 32
"""Questions that are asked and stored together; in process one is read after the other."""
RESULTS = "language.json"
WORD_FILES = ("asked.jsonl", "words.json")
WHO = "generalist"


@dataclass(frozen=True)
class Asked:
    """One question, or the wish for one report."""

    id: str
    group: str
    kind: Kind
    expected: str
    shown: str
    """The question with its options, and which images: what an answer depends on."""
    ask: Callable[["GSCo", str | None], Answer]
    """From the agent and the task whose evidence is shown to what it said."""


@dataclass(frozen=True)
class WordSet:
    """The test part of a published set of questions or reports."""

    name: str
    fingerprint: str
    licence: str
    asked: tuple[Asked, ...]
    notes: tuple[str, ...] = ()


def word_sets(
    root: Path, names: Sequence[str] = (), *, reports: bool = True, forgive: bool = False
) -> tuple[list[WordSet], dict[str, str]]:
    """Return the sets of questions and reports under `root`, and why others are left out.

    Args:
        root: holds the folder of each set, named as in `gsco data list`, or with _ for -.
        names: sets to take; all that are there if none is given.
        reports: whether reports can be asked for.
        forgive: whether a set that is named may be damaged, and is then left out.

    Raises:
        DataError: a set that is named is damaged, and that is not forgiven.
    """
    from gsco.datasets.card import data_cards
    from gsco.datasets.known import place_of

    found, left = [], {}
    cards = {n: c for n, c in data_cards().items() if c.kind in ("vqa", "report")}
    for name, card in cards.items():
        if names and name not in names:
            continue
        folder = place_of(name, root)
        if folder is None:
            if names:
                left[name] = f"no {name!r} under {root.name!r}; `gsco data show {name}` says where"
        elif card.kind == "report" and not reports:
            left[name] = "reports need the evidence of a task; give --evidence TASK"
        else:
            try:
                made = _questions(name, folder) if card.kind == "vqa" else _reports(name, folder)
            except DataError as error:
                if names and not forgive:
                    raise
                # Nobody asked for it by name: the others must not suffer.
                left[name] = str(error)
                continue
            found.append(WordSet(name, _fingerprint(made[0]), card.licence, *made))
    return found, left


def is_word_set(name: str) -> bool:
    """Whether that is the name of a published set of questions or reports."""
    from gsco.datasets.card import data_cards

    return name in data_cards() and data_cards()[name].kind in ("vqa", "report")


def _questions(name: str, folder: Path) -> tuple[tuple[Asked, ...], tuple[str, ...]]:
    from gsco.datasets import read_questions

    read = read_questions(name, folder)
    asked = tuple(
        Asked(
            q.id,
            _hashed(q.patient or q.place),
            q.kind,
            q.answer,
            json.dumps([q.question, q.options, _image(q.image)]),
            _asking(q),
        )
        for q in read.split("test")
    )
    return asked, read.notes


def _reports(name: str, folder: Path) -> tuple[tuple[Asked, ...], tuple[str, ...]]:
    from gsco.datasets import read_reports

    read = read_reports(name, folder)
    asked = tuple(
        Asked(
            r.id,
            _hashed(r.patient or r.id),
            "report",
            r.report,
            json.dumps([_image(image) for image in r.images]),
            _reporting(r),
        )
        for r in read.split("test")
    )
    return asked, read.notes


def _asking(question: "Question") -> Callable[["GSCo", str | None], Answer]:
    # What can be chosen comes from the question alone; the true answer must not tell.
    def ask(agent: "GSCo", task: str | None) -> Answer:
        made = agent.ask(question.open(), question.question, options=question.options, task=task)
        failures = [f"{one.part}: {one.reason}" for one in made.failures]
        if made.composed:
            return _none(question.id, [*failures, f"{made.model} cannot write an answer"])
        chances = list(made.probabilities.values())
        return Answer(question.id, made.text, chances, None, False, failures, 0.0)

    return ask


def _reporting(report: "Report") -> Callable[["GSCo", str | None], Answer]:
    def ask(agent: "GSCo", task: str | None) -> Answer:
        made = agent.report(Case(report.open(), task or ""))
        failures = [f"{one.part}: {one.reason}" for one in made.failures]
        # A text that is put together from evidence is a report of a kind; the failure marks it.
        marks = [f"{made.model} cannot write: composed from evidence"] if made.composed else []
        return Answer(report.id, made.text, [], None, False, [*failures, *marks], 0.0)

    return ask


def _none(id: str, failures: Sequence[str]) -> Answer:
    return Answer(id, None, [], None, False, list(failures), 0.0)


def _image(image: "Path | Cell") -> list[object]:
    """Return what changes with an image: of a file its name and size."""
    if isinstance(image, Path):
        return [image.name, image.stat().st_size if image.is_file() else None]
    return [hashlib.sha256(image.content).hexdigest()]


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _fingerprint(asked: Sequence[Asked]) -> str:
    told = [(one.id, one.group, one.kind, one.expected, one.shown) for one in asked]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def run_words(
    agent: "GSCo",
    sets: Sequence[WordSet],
    out: Path,
    scope: Scope,
    task: str | None = None,
    progress: Progress = lambda step, done, total: None,
    engine: Engine = one_by_one,
) -> list[dict[str, Any]] | None:
    """Ask whatever is not in the ledgers yet, and write the results.

    Args:
        agent: whose generalist is asked.
        sets: what to ask.
        out: folder of the run.
        scope: which questions.
        task: whose specialists and similar cases are shown beside each question; None for none.
        progress: told how far each set is.
        engine: who asks.

    Returns:
        One mapping a set, or None while shards are missing.

    Raises:
        DataError: the folder holds other questions of a set, or a set has none.
        UsageError: another run writes to the folder.
    """
    with locked(out):
        for one in sets:
            _answer(agent, one, out / one.name, scope, task, progress, engine)
        return _finish(out)


def merge_words(out: Path, shards: Sequence[Path]) -> list[dict[str, Any]] | None:
    """Gather the answers of shards in one folder and write the results.

    Raises:
        DataError: shards of other questions, or of another make.
    """
    with locked(out):
        for file in (file for shard in shards for file in sorted(shard.glob("*/words.json"))):
            ledger = _stored(file.parent).ledger
            gather(file.parent, out / file.parent.name, WORD_FILES, {WHO: ledger})
        return _finish(out)


def _finish(out: Path) -> list[dict[str, Any]] | None:
    rows = word_results(out)
    if any(row["missing"] for row in rows):
        return None
    write_text(out / RESULTS, as_text(rows))
    return rows


def _answer(
    agent: "GSCo",
    one: WordSet,
    folder: Path,
    scope: Scope,
    task: str | None,
    progress: Progress,
    engine: Engine,
) -> None:
    if not one.asked:
        raise DataError(f"{one.name!r} has no test part. Leave it out.")
    asked = spread(one.asked, scope.limit)
    lines = [json.dumps([a.id, a.group, a.kind, a.expected]) for a in asked]
    keep_lines(folder / "asked.jsonl", lines, "questions")
    ledger = Ledger(folder, WHO, _key(agent, one.fingerprint, task))
    mine = share(asked, scope.shard)
    # In this process portions overlap, so that a server does not idle at the end of each.
    ask = overlapping if engine is one_by_one else engine
    left = unanswered(mine, CHUNK, ledger, scope.retry)
    done = len(mine) - sum(map(len, left))
    progress(one.name, done, len(mine))
    for _, answers in ask(agent, [Portion(ledger.key, task, part) for part in left]):
        ledger.add(answers)
        done += len(answers)
        progress(one.name, done, len(mine))
    about = {
        "version": VERSION,
        "name": one.name,
        "licence": one.licence,
        "notes": list(one.notes),
        "model": agent.generalist.name,
        "evidence": task,
        "seed": scope.seed,
        "ledger": ledger.path.name,
    }
    write_text(folder / "words.json", json.dumps(about, indent=1, ensure_ascii=False) + "\n")


def _key(agent: "GSCo", data: str, task: str | None) -> dict[str, object]:
    """Return everything that affects an answer."""
    return {
        "data": data,
        "generalist": agent.generalist.identity,
        "permutations": agent.settings.permutations,
        "neighbours": agent.settings.neighbours,
        "prompts": wording(),
        **({"task": task, **agent.tools(task).provenance} if task else {}),
    }


@dataclass(frozen=True)
class Portion:
    """Questions that are asked together: the work that engines do."""

    key: Mapping[str, object]
    """Of the ledger that the answers belong to."""
    task: str | None
    """Whose evidence is shown."""
    asked: Sequence[Asked]

    def __call__(self, agent: "GSCo") -> list[Answer]:
        """Ask.

        Raises:
            WorkspaceError: whoever does this has other models or settings than the ledger is of.
        """
        same_make(agent, _key(agent, str(self.key["data"]), self.task), self.key)
        with ThreadPoolExecutor(CHUNK) as pool:
            return list(pool.map(lambda one: _said(agent, one, self.task), self.asked))


def _said(agent: "GSCo", one: Asked, task: str | None) -> Answer:
    """Ask one question; whatever goes wrong is its own failure."""
    start = time.perf_counter()
    try:
        made = one.ask(agent, task)
    except (GscoError, SpecialistError) as error:
        made = _none(one.id, [str(error)])
    return Answer(**{**asdict(made), "seconds": round(time.perf_counter() - start, 6)})


def has_words(out: Path) -> bool:
    """Whether a run asked questions or for reports."""
    return any(out.glob("*/words.json"))


def word_results(out: Path) -> list[dict[str, Any]]:
    """Compute every figure from the stored answers; nothing where the run asked no questions."""
    return [_measured(path.parent) for path in sorted(out.glob("*/words.json"))]


@dataclass(frozen=True)
class Stored:
    """One set of a run, as its files tell."""

    kept: Mapping[str, Any]
    """What the results repeat."""
    asked: list[tuple[str, str, Kind, str]]
    """Id, group, kind and true answer of each."""
    ledger: Ledger
    seed: int


def _stored(folder: Path) -> Stored:
    try:
        about = json.loads((folder / "words.json").read_text(encoding="utf-8"))
        lines = (folder / "asked.jsonl").read_text(encoding="utf-8").splitlines()
        asked = [json.loads(line) for line in lines]
        ledger, seed = Ledger.at(folder / about["ledger"]), int(about["seed"])
        kept = {name: about[name] for name in ("name", "model", "evidence", "licence", "notes")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(folder, error) from error
    return Stored(kept, asked, ledger, seed)


def _measured(folder: Path) -> dict[str, Any]:
    stored = _stored(folder)
    told = {answer.case: answer for answer in stored.ledger.lines()}
    said = [
        Said(id, group, kind, expected, _text(told.get(id)))
        for id, group, kind, expected in stored.asked
    ]
    figures = {name: asdict(found) for name, found in measure_language(said, stored.seed).items()}
    missing = sum(one.id not in told for one in said)
    return {
        **{"set" if name == "name" else name: value for name, value in stored.kept.items()},
        "n": len(said),
        "missing": missing,
        "metrics": figures,
    }


def _text(answer: Answer | None) -> str | None:
    return answer.answer if answer and isinstance(answer.answer, str) else None


def verify_words(out: Path) -> list[str]:
    """Compute every figure anew from the stored answers; return what does not agree."""
    rows = word_results(out)
    problems = [
        f"{row['set']}: {row['missing']} of {row['n']} questions have no answer. Run it again."
        for row in rows
        if row["missing"]
    ]
    return problems + (stale(out / RESULTS, rows) if rows else [])
