"""The benchmark of words: the questions and reports of published sets, beside the diagnoses.

OUT/SET/words.json      what the set is, and its ledger
        asked.jsonl     id, patient or image (hashed), kind and true answer of each, in order
        generalist.KEY.jsonl    what was said
OUT/language.json       every figure, computed from the files above alone

Each answer is on disk as soon as a few are known; a run that was killed goes on where it was.
"""

import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsco.errors import DataError, GscoError
from gsco.evaluation.asking import Strand, ask
from gsco.evaluation.bench import Scope, same_make, share, unanswered
from gsco.evaluation.engine import Engine, one_by_one, overlapping
from gsco.evaluation.evaluate import spread
from gsco.evaluation.language import Kind, Said, measure_language
from gsco.evaluation.ledger import Answer, Ledger
from gsco.evaluation.outlook import tokens_each
from gsco.evaluation.stored import as_text, damaged, gather, keep_lines, locked, stale
from gsco.evaluation.wordsets import Asked, WordSet, no_answer
from gsco.progress import Progress, Say
from gsco.prompts import wording
from gsco.workspace import write_text
from specialists import SpecialistError

if TYPE_CHECKING:
    from gsco.agent import GSCo

VERSION = 1
CHUNK = 32
"""Questions that are asked and stored together; in process one is read after the other."""
RESULTS = "language.json"
WORD_FILES = ("asked.jsonl", "words.json")
WHO = "generalist"


def run_words(
    agent: "GSCo",
    sets: Sequence[WordSet],
    out: Path,
    scope: Scope,
    task: str | None = None,
    progress: Progress = lambda step, done, total: None,
    engine: Engine = one_by_one,
    say: Say = lambda sentence: None,
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
        say: told after each batch how much time is left, and what was asked of the generalist.

    Returns:
        One mapping a set, or None while shards are missing.

    Raises:
        DataError: the folder holds other questions of a set, or a set has none.
        UsageError: another run writes to the folder.
    """
    with locked(out):
        strands = [_strand(agent, one, out / one.name, scope, task) for one in sets]
        ledgers = {strand.name: strand.ledger for strand in strands}
        whole = {one.name: one for one in sets}
        # In this process portions overlap, so that a server does not idle at the end of each.
        engine = overlapping if engine is one_by_one else engine
        agent.generalist.spent()
        for name in ask(agent, strands, engine, whole, progress, say):
            about = _about(agent, whole[name], ledgers[name], scope, task)
            write_text(out / name / "words.json", about)
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


def _strand(agent: "GSCo", one: WordSet, folder: Path, scope: Scope, task: str | None) -> Strand:
    if not one.asked:
        raise DataError(f"{one.name!r} has no test part. Leave it out.")
    asked = spread(one.asked, scope.limit)
    lines = [json.dumps([a.id, a.group, a.kind, a.expected]) for a in asked]
    keep_lines(folder / "asked.jsonl", lines, "questions")
    ledger = Ledger(folder, WHO, _key(agent, one.fingerprint, task))
    mine = share(asked, scope.shard)
    left = unanswered(mine, CHUNK, ledger, scope.retry)
    works = [WordPortion(ledger.key, task, part) for part in left]
    # Questions of one set cost about the same.
    return Strand(one.name, one.name, one.name, ledger, works, sum(map(len, left)), len(mine))


def _about(agent: "GSCo", one: WordSet, ledger: Ledger, scope: Scope, task: str | None) -> str:
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
    return json.dumps(about, indent=1, ensure_ascii=False) + "\n"


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
class WordPortion:
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
            made = list(pool.map(lambda one: _said(agent, one, self.task), self.asked))
        # Portions overlap: of what was spent each gets what fell due since the last one ended.
        each = tokens_each(agent.generalist, len(made))
        return [replace(one, tokens=each) for one in made]


def _said(agent: "GSCo", one: Asked, task: str | None) -> Answer:
    """Ask one question; whatever goes wrong is its own failure."""
    start = time.perf_counter()
    try:
        made = one.ask(agent, task)
    except (GscoError, SpecialistError) as error:
        made = no_answer(one.id, [str(error)])
    return replace(made, seconds=round(time.perf_counter() - start, 6))


def has_words(out: Path) -> bool:
    """Whether a run asked questions or for reports."""
    return any(out.glob("*/words.json"))


def word_results(out: Path) -> list[dict[str, Any]]:
    """Compute every figure from the stored answers; nothing where the run asked no questions."""
    return [_measured(path.parent) for path in sorted(out.glob("*/words.json"))]


@dataclass(frozen=True)
class StoredWords:
    """One set of a run, as its files tell."""

    kept: Mapping[str, Any]
    """What the results repeat."""
    asked: list[tuple[str, str, Kind, str]]
    """Id, group, kind and true answer of each."""
    ledger: Ledger
    seed: int


def _stored(folder: Path) -> StoredWords:
    try:
        about = json.loads((folder / "words.json").read_text(encoding="utf-8"))
        lines = (folder / "asked.jsonl").read_text(encoding="utf-8").splitlines()
        asked = [json.loads(line) for line in lines]
        ledger, seed = Ledger.at(folder / about["ledger"]), int(about["seed"])
        kept = {name: about[name] for name in ("name", "model", "evidence", "licence", "notes")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(folder, error) from error
    return StoredWords(kept, asked, ledger, seed)


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
