"""What a person sees in the terminal: a diagnosis, tables, progress. No decision is made here."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from gsco.case import NOTICE, Answer, Diagnosis, Report

if TYPE_CHECKING:
    from gsco.datasets.card import DataCard
    from gsco.datasets.check import Checked
    from gsco.doctor import Check
    from gsco.evaluation.metrics import Row

WIDE = 120
"""Columns of what is written to a file or another program, which no screen limits."""
console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)
errors = Console(stderr=True, highlight=False)


def diagnosis(made: Diagnosis, title: str = "", *, explained: bool = False) -> None:
    """Print the answer, what says so, and what disagreed.

    If `explained`, also say so where leaving evidence out would change nothing.
    """
    answer = made.answer if isinstance(made.answer, str) else ", ".join(made.answer or ("none",))
    console.print(f"[bold]{escape(title or made.case[:16])}[/]  {made.task}, {made.system}")
    console.print(f"  answer: [bold]{escape(answer)}[/]")
    _probabilities(made.probabilities)
    if made.prediction_set is not None:
        kept = ", ".join(made.prediction_set) or "(empty)"
        console.print(f"  cannot be excluded at {made.coverage:.0%}: {escape(kept)}")
    if made.explanation:
        console.print(f"  {escape(made.explanation)}")
    for opinion in made.opinions:
        said = ", ".join(opinion.answers) or "no finding"
        sure = f"{max(opinion.probabilities):.0%}"
        reliability = "" if opinion.reliability is None else f", reliable {opinion.reliability:.0%}"
        console.print(f"  specialist {opinion.specialist}: {escape(said)} ({sure}{reliability})")
    if made.neighbours:
        said = ", ".join(f"{'/'.join(n.labels)} {n.similarity:.2f}" for n in made.neighbours[:5])
        console.print(f"  neighbours: {escape(said)}")
    if made.dropped_neighbours:
        cases = "neighbour" if made.dropped_neighbours == 1 else "neighbours"
        console.print(f"  {made.dropped_neighbours} {cases} dropped by the leakage guard")
    if made.reading:
        console.print(f"  generalist {made.reading.model}: {escape(str(made.reading.answer))}")
    for part, other in made.changed_by.items():
        console.print(f"  without {escape(part)} the answer would be {escape(other)}")
    if explained and not made.changed_by:
        console.print("  without any one of these the answer would be the same")
    for reason in made.review_reasons:
        console.print(f"  [yellow]a person must look:[/] {escape(reason)}")
    for failure in made.failures:
        console.print(f"  [red]{escape(failure.part)}:[/] {escape(failure.reason)}")
    total = sum(made.seconds.values())
    console.print(f"  {total:.2f} s. [dim]{NOTICE}[/]\n")


def _probabilities(of: Mapping[str, float]) -> None:
    for label, p in sorted(of.items(), key=lambda pair: -pair[1]):
        console.print(f"    {escape(label):<32} {p:6.1%} {'█' * round(p * 24)}")


def piece(text: str) -> None:
    """Print a piece of a text that is being written; nothing in it steers the terminal."""
    shown = "".join(c for c in text if c.isprintable() or c in "\n\t")
    console.out(shown, end="", highlight=False)


def ending(made: Answer | Report) -> None:
    """Print what belongs below a text whose pieces are there: probabilities, what failed."""
    console.print()
    if isinstance(made, Answer):
        _probabilities(made.probabilities)
        if made.caution:
            console.print(f"  [yellow]caution:[/] {escape(made.caution)}")
    for failure in made.failures:
        console.print(f"  [red]{escape(failure.part)}:[/] {escape(failure.reason)}")
    console.print(f"  generalist {escape(made.model)}. [dim]{NOTICE}[/]\n")


def rows(found: "Sequence[Row]") -> None:
    """Print one line a system."""
    if not found:
        return
    head = f"{found[0].task}: {found[0].n} cases"
    table = Table(title=head, caption=f"95 % bootstrap intervals. {NOTICE}")
    table.add_column("system", no_wrap=True)
    for name in ("accuracy", "balanced", "macro-F1", "AUC", "ECE", "gain", "failed"):
        # On a narrow screen a figure is broken rather than cut.
        table.add_column(name, justify="right", overflow="fold")
    for row in found:
        table.add_row(
            row.system,
            _with(row.accuracy, row.accuracy_interval),
            _with(row.balanced_accuracy, row.balanced_accuracy_interval),
            _with(row.macro_f1, row.macro_f1_interval),
            _with(row.auc, row.auc_interval),
            _with(row.ece, row.ece_interval),
            _with(row.balanced_accuracy_gain, row.balanced_accuracy_gain_interval),
            str(row.failures),
        )
    console.print(table)
    for note in dict.fromkeys(note for row in found for note in row.notes):
        console.print(f"  note: {escape(note)}", soft_wrap=True)


def specialists(found: Sequence[Mapping[str, Any]]) -> None:
    """Print one line a trained specialist; licences and hashes stand in the JSON."""
    table = Table(caption="On the validation cases that also calibrated it, so they flatter.")
    for name in ("task", "specialist"):
        table.add_column(name, no_wrap=True)
    for name in ("cases", "balanced", "AUC", "ECE"):
        table.add_column(name, justify="right")
    table.add_column("data", overflow="fold")
    for row in found:
        figures = (row[name] for name in ("balanced_accuracy", "auc", "ece"))
        table.add_row(
            row["task"],
            row["name"],
            str(row["n"]),
            *("–" if one is None else _short(one, 3) for one in figures),
            row["data"],
        )
    console.print(table)


def left_out(found: Mapping[str, str]) -> None:
    """Say on the error stream which sets or tasks are not asked, and why."""
    for name, why in found.items():
        errors.print(f"{name} is left out: {why}.", soft_wrap=True)


def benchmark(found: Sequence[Mapping[str, Any]]) -> None:
    """Print balanced accuracies, one line a system and one column a set."""
    sets = list(dict.fromkeys(row["set"] for row in found))
    table = Table(title="balanced accuracy", caption=f"▼ ▲: significant. {NOTICE}")
    table.add_column("system", no_wrap=True)
    for name in sets:
        table.add_column(name, justify="right")
    for system in dict.fromkeys(row["system"] for row in found):
        each = {row["set"]: row for row in found if row["system"] == system}
        table.add_row(system, *(_marked(each[name]) if name in each else "–" for name in sets))
    console.print(table)


def words(found: Sequence[Mapping[str, Any]]) -> None:
    """Print how questions and reports were answered, one table a set."""
    for one in found:
        table = Table(title=f"{one['set']}: {one['model']}", caption=NOTICE)
        table.add_column("metric", no_wrap=True)
        for name in ("value", "95 %", "n"):
            table.add_column(name, justify="right")
        for name, metric in one["metrics"].items():
            known = metric["interval"] is not None
            span = "–".join(f"{bound:.3f}" for bound in metric["interval"]) if known else "–"
            value = metric["note"] if metric["value"] is None else f"{metric['value']:.3f}"
            table.add_row(name, value, span, str(metric["n"]))
        console.print(table)


def _marked(row: Mapping[str, Any]) -> str:
    gain = row["balanced_accuracy_gain_interval"]
    mark = "" if gain is None or gain[0] <= 0 <= gain[1] else "▲" if gain[0] > 0 else "▼"
    return f"{_short(row['balanced_accuracy'], 3)}{mark}"


def comparison(found: Sequence[Mapping[str, Any]]) -> None:
    """Print how one run differs from another."""
    table = Table(title="first run minus second", caption=f"95 % intervals. {NOTICE}")
    for name in ("set", "system", "n", "balanced", "difference", "McNemar p"):
        table.add_column(name, justify="left" if name in ("set", "system") else "right")
    for row in found:
        table.add_row(
            row["set"],
            row["system"],
            str(row["n"]),
            _short(row["balanced_accuracy"], 3),
            _with(row["gain"], row["gain_interval"]),
            f"{row['mcnemar_p']:.3f}",
        )
    console.print(table)


def checks(found: "Sequence[Check]") -> None:
    """Print one line a check, and below each that failed what to do."""
    for check in found:
        mark = "[green]ok[/]    " if check.ok else "[red]failed[/]"
        console.print(f"{mark}  [bold]{escape(check.name)}[/]: {escape(check.found)}")
        if check.remedy:
            console.print(f"        {escape(check.remedy)}")


def data_cards(found: "Sequence[DataCard]") -> None:
    """Print one line a data set."""
    table = Table(
        caption="in, out: whether the published generalist was trained on the source; "
        "cross: a target of its cross-domain tests"
    )
    table.add_column("name", no_wrap=True)
    for name in ("kind", "modality", "tier", "domain"):
        table.add_column(name)
    table.add_column("test", justify="right")
    for card in found:
        table.add_row(
            card.name,
            card.kind,
            card.modality,
            card.tier,
            card.domain,
            _number(card.splits["test"]),
        )
    console.print(table)


def data_card(card: "DataCard") -> None:
    """Print all that a card says."""
    console.print(f"[bold]{escape(card.title)}[/]  {card.name}, {card.kind}, {card.modality}")
    counts = ", ".join(f"{split} {_number(n)}" for split, n in card.splits.items())
    note = f" ({card.split_note})" if card.split_note else ""
    for name, text in (
        ("cases", counts + note),
        ("labels", ", ".join(label.text for label in card.labels)),
        ("metric", card.metric),
        ("domain", card.domain),
        ("access", f"{card.tier}: {card.url}"),
        ("licence", card.licence),
        ("citation", card.citation),
    ):
        if text:
            console.print(f"  {name}: {escape(text)}", soft_wrap=True)
    for name, texts in (("put into the folder", card.place), ("beware", card.traps)):
        console.print(f"  {name}:")
        for text in texts:
            console.print(f"    - {escape(text)}", soft_wrap=True)


def checked(found: "Checked", most: int = 20) -> None:
    """Print the counts and what is wrong; at most `most` problems."""
    counts = (
        f"{split} {_number(n)} of {_number(found.expected[split])}"
        for split, n in found.counts.items()
    )
    console.print(f"[bold]{found.name}[/]: {', '.join(counts)}")
    for label, count in found.labels.items():
        console.print(f"  {escape(label)}: {count:,}", soft_wrap=True)
    for problem in found.problems[:most]:
        console.print(f"[red]wrong[/]  {escape(problem)}", soft_wrap=True)
    if len(found.problems) > most:
        console.print(f"  and {len(found.problems) - most} more; --json lists all")
    for note in found.notes:
        console.print(f"[dim]note[/]   {escape(note)}", soft_wrap=True)
    if found.overlaps:
        console.print("       --json lists every case that two splits share")
    if found.ok:
        console.print("[green]ok[/]     nothing is wrong")


def _number(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,}"


def _with(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None:
        return "-"
    if interval is None:
        return _short(value, 3)
    return f"{_short(value, 3)}\n{_short(interval[0], 2)}–{_short(interval[1], 2)}"


def _short(value: float, digits: int) -> str:
    """Write a share without its leading zero: eight columns must fit into a terminal."""
    return f"{value:.{digits}f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.{digits}f}"


ROOM = 12
"""Bars that any screen has room for."""


class Bars:
    """One bar for each step that is told of, and a sentence above them."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self._bars = Progress(*columns, TimeRemainingColumn())
        self._known: dict[str, TaskID] = {}
        self._sentence = Progress(TextColumn("{task.description}"))
        self._line: TaskID | None = None
        self.shown = Group(self._sentence, self._bars)
        """What a screen shows."""

    def __call__(self, step: str, done: int, total: int) -> None:
        """Show how far a step is."""
        if step not in self._known:
            self._known[step] = self._bars.add_task(step, total=total)
        # Where there are many, those that are full make room for those that are not.
        is_shown = done < total or len(self._known) <= ROOM
        self._bars.update(self._known[step], completed=done, total=total, visible=is_shown)

    def say(self, sentence: str) -> None:
        """Show a sentence instead of the one before."""
        if self._line is None:
            self._line = self._sentence.add_task("")
        self._sentence.update(self._line, description=escape(sentence))


class Lines(Bars):
    """One line for each step that is done: what a log can hold."""

    def __call__(self, step: str, done: int, total: int) -> None:
        """Write a line when a step is done."""
        if done >= total and step not in self._known:
            self._known[step] = TaskID(0)
            errors.print(f"{step}: {total:,} done", soft_wrap=True, markup=False)

    def say(self, sentence: str) -> None:
        """Say nothing: a sentence that changes belongs on a screen."""


@contextmanager
def progress() -> Iterator[Bars]:
    """Show progress on the error stream, so that `--json` stays clean."""
    if not errors.is_terminal:
        yield Lines()
        return
    bars = Bars()
    with Live(bars.shown, console=errors):
        yield bars
