"""Asking: systems side by side on the same cases, in a folder that a run can leave and find.

OUT/SET/set.json       what the set and the systems are
        cases.jsonl    id, true labels and patient (hashed) of each case, in order
        SYSTEM.KEY.jsonl   the ledgers

Set after set is asked, in each the systems that ask no generalist first: they are cheap, and what
they find wrong with a set is found before anything is paid for. The cases of one system are asked
together, as their prompts begin alike: a server keeps such a beginning and reads it once. The order
changes no answer. Killed at any moment and called again, a run ends with the same results, byte for
byte; `stored` computes them.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from gsco.case import System
from gsco.errors import DataError, WorkspaceError
from gsco.evaluation.asking import Strand, ask
from gsco.evaluation.engine import Engine, one_by_one
from gsco.evaluation.evaluate import case_of, measured
from gsco.evaluation.ledger import Answer, Ledger
from gsco.evaluation.outlook import tokens_each
from gsco.evaluation.overlap import refuse_learnt
from gsco.evaluation.stored import VERSION, finish, keep_lines, locked
from gsco.progress import Progress, Say
from gsco.prompts import wording
from gsco.workflow import READING_SYSTEMS
from gsco.workspace import open_task, write_text

if TYPE_CHECKING:
    from gsco.agent import GSCo
    from gsco.datasets import Dataset, Record
    from gsco.prompts import Style

CHUNK = 64


class HasId(Protocol):
    """A case, a question or the wish for a report."""

    @property
    def id(self) -> str:
        """Its name within the set."""


T = TypeVar("T", bound=HasId)


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
    from gsco.datasets import read_dataset, read_known
    from gsco.datasets.known import is_published, place_of

    items, left = [], {}
    for name in names or agent.tasks:
        constructed = open_task(agent.workspace, name)
        task, facts = constructed.read_task(), constructed.read_json("data.json")
        folder = place_of(str(facts["name"]), root)
        if folder is None:
            left[name] = f"no {facts['name']!r} under {root.name!r}"
            continue
        label, split = _columns(facts)
        if facts["name"] == name and is_published(name, folder, (label, split)):
            dataset = read_known(name, folder)
        else:
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
    engine: Engine = one_by_one,
    say: Say = lambda sentence: None,
) -> list[dict[str, Any]] | None:
    """Ask the systems whatever is not yet in the ledgers, and write the results.

    Args:
        agent: the opened workspace.
        items: the sets.
        systems: what to compare.
        out: folder of the run; another run of the same sets and scope is gone on with.
        scope: which cases, and how.
        progress: told how far each set and system is.
        engine: who asks.
        say: told after each batch how much time is left, and what was asked of the generalist.

    Returns:
        One mapping a set and system, or None while shards are missing.

    Raises:
        DataError: the folder holds other cases, or a set has none.
        UsageError: another run writes to the folder.
    """
    with locked(out):
        plans = {item.name: _plan(agent, item, systems, out, scope) for item in items}
        strands = [strand for plan in plans.values() for strand in plan.strands]
        for name in ask(agent, strands, engine, READING_SYSTEMS, progress, say):
            about = _about(agent, plans[name], out / name, scope)
            write_text(out / name / "set.json", about)
        return finish(out)


@dataclass(frozen=True)
class Plan:
    """One set, and what is to be asked of it."""

    item: Item
    strands: Sequence[Strand]
    """One a system, in the order in which they are asked."""
    ledgers: Mapping[System, Ledger]
    """In the order in which the systems were named."""
    notes: Sequence[str]
    """What a reader of the results should know."""


def _plan(agent: "GSCo", item: Item, systems: Sequence[System], out: Path, scope: Scope) -> Plan:
    folder, labels = out / item.name, agent.tools(item.task).task.texts
    records = item.dataset.split("test")
    if not records:
        raise DataError(f"{item.name!r} has no test cases. Leave it out.")
    records = measured(records, labels, item.name, item.task, scope.limit)
    flatters = _overlap(agent, item, systems, records, scope)
    _keep_cases(folder, records)
    mine = share(records, scope.shard)
    data = item.dataset.fingerprint
    ledgers = {s: Ledger(folder, s, _key(agent, data, item.task, s, scope.style)) for s in systems}

    def strand(system: System) -> Strand:
        ledger, step = ledgers[system], f"{item.name} {system}"
        left = unanswered(mine, CHUNK, ledger, scope.retry)
        works = [Portion(system, scope.style, ledger.key, labels, part) for part in left]
        return Strand(item.name, system, step, ledger, works, sum(map(len, left)), len(mine))

    notes = [*item.dataset.notes, *filter(None, [flatters])]
    return Plan(item, list(map(strand, cheap_first(systems))), ledgers, notes)


def cheap_first(systems: Sequence[System]) -> list[System]:
    """Return each system once, those that ask the generalist last."""
    return sorted(dict.fromkeys(systems), key=lambda system: system in READING_SYSTEMS)


def share(cases: Sequence[T], shard: tuple[int, int]) -> Sequence[T]:
    """Return every n-th case: the part that a shard asks."""
    part, parts = shard
    return cases[part - 1 :: parts]


def unanswered(cases: Sequence[T], chunk: int, ledger: Ledger, retry: bool) -> list[list[T]]:
    """Return, chunk by chunk, what the ledger does not know; on `retry` also what failed.

    Chunks begin where they always begin: the last digits of an answer may hang on its batch.
    """
    known = ledger.known()
    chunks = (cases[start : start + chunk] for start in range(0, len(cases), chunk))
    left = ([c for c in one if c.id not in known or (retry and known[c.id])] for one in chunks)
    return [one for one in left if one]


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


def _former(folder: Path, ledgers: Sequence[Ledger]) -> dict[str, str]:
    """Return the ledgers of an earlier run of other systems of the very same make."""
    path = folder / "set.json"
    names = json.loads(path.read_text(encoding="utf-8"))["ledgers"] if path.is_file() else {}
    # A ledger that was deleted, as one that is damaged must be, is made anew.
    former = {
        system: (name, Ledger.at(folder / name))
        for system, name in names.items()
        if (folder / name).is_file()
    }
    return {
        system: name
        for system, (name, old) in former.items()
        if all(_is_alike(old.key, new.key) for new in ledgers)
    }


def _is_alike(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    """Whether two systems may stand in one table; only some of them read prompts."""
    worded = one.get("prompts"), other.get("prompts")
    if None not in worded and worded[0] != worded[1]:
        return False
    own = ("system", "generalist", "prompts")
    made = [{k: v for k, v in key.items() if k not in own} for key in (one, other)]
    return made[0] == made[1]


def _keep_cases(folder: Path, records: "Sequence[Record]") -> None:
    lines = [json.dumps([r.id, list(r.labels), _group(r)]) for r in records]
    keep_lines(folder / "cases.jsonl", lines, "cases")


def _group(record: "Record") -> str:
    """Return what stands for the patient; a pseudonym may itself tell too much."""
    return hashlib.sha256((record.patient or record.id).encode()).hexdigest()[:16]


def _key(agent: "GSCo", data: str, task: str, system: System, style: "Style") -> dict[str, object]:
    """Return everything that affects an answer."""
    tools = agent.tools(task, system, style)
    return {
        "data": data,
        "task": task,
        "system": system,
        "style": style,
        "neighbours": tools.neighbours,
        "permutations": tools.permutations,
        "generalist": tools.generalist.identity if tools.generalist else None,
        "prompts": wording() if tools.generalist else None,
        **tools.provenance,
    }


@dataclass(frozen=True)
class Portion:
    """Cases that a system is asked together: the work that engines do."""

    system: System
    style: "Style"
    key: Mapping[str, object]
    """Of the ledger that the answers belong to."""
    labels: Sequence[str]
    records: "Sequence[Record]"

    def __call__(self, agent: "GSCo") -> list[Answer]:
        """Ask.

        Raises:
            WorkspaceError: whoever does this has other models or settings than the ledger is of.
        """
        start = time.perf_counter()
        data, task = str(self.key["data"]), str(self.key["task"])
        same_make(agent, _key(agent, data, task, self.system, self.style), self.key)
        generalist = agent.tools(task, self.system, self.style).generalist
        if generalist:
            generalist.spent()  # what was spent before is not this work's
        cases = [case_of(record, task) for record in self.records]
        made = agent.diagnose_many(cases, self.system, style=self.style)
        each = (time.perf_counter() - start) / len(cases)
        tokens = tokens_each(generalist, len(cases))
        pairs = zip(made, self.records, strict=True)
        return [Answer.of(diagnosis, r.id, self.labels, each, tokens) for diagnosis, r in pairs]


def same_make(agent: "GSCo", found: Mapping[str, object], key: Mapping[str, object]) -> None:
    """Refuse to answer with other models than those that the ledger is of.

    Raises:
        WorkspaceError: they are others.
    """
    if found != key:
        raise WorkspaceError(
            f"Workspace {agent.workspace.name!r} is not the one that the run began with. Let "
            "every machine see the same workspace and generalist, and run it again."
        )


def _about(agent: "GSCo", plan: Plan, folder: Path, scope: Scope) -> str:
    item, task = plan.item, agent.tools(plan.item.task).task
    ledgers = _former(folder, list(plan.ledgers.values()))
    ledgers |= {system: ledger.path.name for system, ledger in plan.ledgers.items()}
    about = {
        "version": VERSION,
        "name": item.name,
        "task": item.task,
        "kind": task.kind,
        "labels": list(task.texts),
        "data": item.dataset.name,
        "licence": item.dataset.licence,
        "credit": item.dataset.credit,
        "notes": list(plan.notes),
        "style": scope.style,
        "seed": scope.seed,
        "ledgers": ledgers,
    }
    return json.dumps(about, indent=1, ensure_ascii=False) + "\n"
