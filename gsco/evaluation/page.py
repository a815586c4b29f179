"""The report of a benchmark run: one self-contained HTML page, and the same as Markdown.

Made from the run's files alone. Images of cases are among these only where the licence allows.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gsco.case import NOTICE
from gsco.datasets.licence import open_licence
from gsco.evaluation.disputed import Dispute, disputes_of, images_of, keep_images, reason_of
from gsco.evaluation.metrics import Answers, risk_coverage
from gsco.evaluation.stored import Stored, sets_of
from gsco.evaluation.words import word_results
from gsco.workspace import write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gsco.datasets import Dataset

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Picture:
    """A plot, and what it shows in words."""

    title: str
    says: str
    svg: str
    """As a data URL."""


@dataclass(frozen=True)
class Section:
    """One set of the report."""

    about: Mapping[str, Any]
    n: int
    rows: Rows
    pictures: list[Picture]
    disputed: list[Dispute]
    images: Mapping[str, str]
    """Case to image, of the disputed ones that may be shown."""
    reason: str
    """Why the others are not."""
    terms: str | None
    """Address of the licence by which images are shown."""


def write(
    out: Path, rows: Rows, said: Rows | None = None, data: "Mapping[str, Dataset] | None" = None
) -> Path:
    """Write `report.html` and `report.md` of a finished run; return the page.

    Args:
        out: folder of the run.
        rows: what the systems' diagnoses come to; none if the run asked only for words.
        said: what questions and reports come to; computed from the folder if None.
        data: set to its data where they are at hand: images of disputed cases are then kept.
    """
    from jinja2 import Environment

    sections, data = [], data or {}
    for stored in sets_of(out) if rows else []:
        name = stored.about["name"]
        sections.append(_section(stored, rows, out / name, data.get(name)))
    given = {
        "notice": NOTICE,
        "sections": sections,
        "words": word_results(out) if said is None else said,
        "forest": _forest(rows),
        "versions": {name: version(name) for name in ("gsco", "torch", "timm", "numpy")},
    }
    for name, escaped in (("report.html", True), ("report.md", False)):
        text = (resources.files("gsco.evaluation") / f"{name}.jinja").read_text(encoding="utf-8")
        made = Environment(autoescape=escaped, trim_blocks=True, lstrip_blocks=True)
        made.filters |= {"share": _share, "span": _span, "cell": _cell}
        write_text(out / name, made.from_string(text).render(**given))
    return out / "report.html"


def _section(stored: Stored, rows: Rows, folder: Path, dataset: "Dataset | None") -> Section:
    mine = [row for row in rows if row["set"] == stored.about["name"]]
    multi = stored.targets.ndim == 2
    answers = {row["system"]: stored.answers(row["system"]) for row in mine}
    said = {name: found for name, found in answers.items() if found is not None}
    best = max(mine, key=lambda row: row["balanced_accuracy"])["system"]
    costs = {name: _spent(stored, name) for name in said}
    pictures = [_reliability(said, stored), _cost(mine, costs)]
    if not multi:
        pictures += [_risks(said, stored), _confusion(best, said[best], stored)]
    disputed, licence = disputes_of(stored, said), stored.about["licence"]
    if dataset is not None:
        keep_images(folder, disputed, dataset)
    return Section(
        about=stored.about,
        n=len(stored.cases),
        rows=mine,
        pictures=pictures,
        disputed=disputed,
        images=images_of(folder, licence),
        reason=reason_of(licence),
        terms=open_licence(licence),
    )


def _share(value: float | None) -> str:
    return "–" if value is None or np.isnan(value) else f"{value:.3f}"


def _span(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"{interval[0]:+.3f} to {interval[1]:+.3f}"


def _cell(text: object) -> str:
    """Keep a text inside its Markdown cell."""
    return str(text).replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _figure(height: float = 3.2) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(5.2, height), layout="constrained")


def _picture(figure: "Figure", title: str, says: str) -> Picture:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    data = base64.b64encode(buffer.getvalue()).decode()
    return Picture(title, says, f"data:image/svg+xml;base64,{data}")


def _forest(rows: Rows) -> Picture | None:
    """Draw each system's gain over the best specialist, with its interval, set by set."""
    paired = [row for row in rows if row["balanced_accuracy_gain_interval"] is not None]
    if not paired:
        return None
    figure = _figure(1.2 + 0.22 * len(paired))
    axes = figure.add_subplot(xlabel="balanced accuracy minus that of the best specialist")
    for place, row in enumerate(reversed(paired)):
        low, high = row["balanced_accuracy_gain_interval"]
        colour = "tab:green" if low > 0 else "tab:red" if high < 0 else "0.4"
        axes.plot([low, high], [place, place], color=colour)
        axes.plot(row["balanced_accuracy_gain"], place, "o", color=colour, markersize=4)
    axes.set_yticks(
        range(len(paired)), [f"{r['set']}: {r['system']}" for r in reversed(paired)], fontsize=7
    )
    axes.axvline(0, color="0.7", linewidth=0.8)
    ahead = sum(row["balanced_accuracy_gain_interval"][0] > 0 for row in paired)
    behind = sum(row["balanced_accuracy_gain_interval"][1] < 0 for row in paired)
    says = f"{ahead} of {len(paired)} are significantly ahead, {behind} significantly behind."
    return _picture(figure, "Paired differences", says)


def _reliability(said: Mapping[str, Answers], stored: Stored) -> Picture:
    figure = _figure()
    axes = figure.add_subplot(xlabel="stated confidence", ylabel="share that is right")
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=0.8)
    for name, found in said.items():
        sure, hit = _confidence(found, stored.targets)
        bins = np.minimum((sure * 10).astype(int), 9)
        counts = np.bincount(bins, minlength=10)
        kept = counts >= 5
        means = [
            np.bincount(bins, weights=v, minlength=10)[kept] / counts[kept] for v in (sure, hit)
        ]
        axes.plot(*means, marker=".", label=name)
    _legend(axes, "lower right")
    return _picture(figure, "Reliability", "On the diagonal a confidence means what it says.")


def _confidence(
    found: Answers, targets: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    complete = ~np.isnan(found.probabilities).any(axis=1)
    shown, truth, chosen = found.probabilities[complete], targets[complete], found.chosen[complete]
    if targets.ndim == 1:
        return shown.max(axis=1), (chosen == truth).astype(np.float64)
    return np.maximum(shown, 1 - shown).ravel(), (chosen == truth).astype(np.float64).ravel()


def _risks(said: Mapping[str, Answers], stored: Stored) -> Picture:
    figure = _figure()
    axes = figure.add_subplot(xlabel="share of cases answered, surest first", ylabel="error")
    for name, found in said.items():
        risks = risk_coverage(found.probabilities, found.chosen, stored.targets)
        if risks is not None:
            axes.plot(np.arange(1, len(risks) + 1) / len(risks), risks, label=name)
    _legend(axes, "upper left")
    return _picture(figure, "Coverage and risk", "How much abstaining buys: lower is better.")


def _confusion(name: str, found: Answers, stored: Stored) -> Picture:
    labels = stored.labels
    counts = np.zeros((len(labels), len(labels) + 1), dtype=np.int64)
    np.add.at(counts, (stored.targets, np.where(found.chosen < 0, len(labels), found.chosen)), 1)
    unanswered = counts[:, -1].any()
    shown = counts if unanswered else counts[:, :-1]
    figure = _figure(1.6 + 0.35 * len(labels))
    axes = figure.add_subplot(xlabel="said", ylabel="true")
    axes.imshow(shown, cmap="Blues")
    for row, column in np.ndindex(shown.shape):
        colour = "white" if shown[row, column] > shown.max() / 2 else "black"
        axes.text(column, row, str(shown[row, column]), ha="center", va="center", color=colour)
    said = [*labels, "no answer"] if unanswered else labels
    axes.set_xticks(range(len(said)), said, rotation=35, ha="right", fontsize=7)
    axes.set_yticks(range(len(labels)), labels, fontsize=7)
    says = f"{name}, the best here: {int(np.trace(counts))} of {int(counts.sum())} are right."
    return _picture(figure, "Confusion", says)


class Spent(NamedTuple):
    """What a case cost."""

    seconds: float
    """The median."""
    tokens: float | None
    """The mean; None where nobody counted."""


def _spent(stored: Stored, system: str) -> Spent:
    told = [(answer.seconds, answer.tokens) for answer in stored.ledgers[system].lines()]
    counted = [tokens for _, tokens in told if tokens is not None]
    mean = float(np.mean(counted)) if counted else None
    return Spent(float(np.median([seconds for seconds, _ in told])), mean)


def _cost(rows: Rows, costs: Mapping[str, Spent]) -> Picture:
    figure = _figure()
    axes = figure.add_subplot(
        xlabel="seconds a case (median, log)", ylabel="balanced accuracy", xscale="log"
    )
    for row in rows:
        x, y = max(costs[row["system"]].seconds, 1e-5), row["balanced_accuracy"]
        axes.plot(x, y, "o", color="tab:blue", markersize=4)
        axes.annotate(row["system"], (x, y), fontsize=7, xytext=(3, 3), textcoords="offset points")
    counted = [f"{n} {one.tokens:,.0f}" for n, one in costs.items() if one.tokens is not None]
    tokens = f" Tokens of the generalist a case: {', '.join(counted)}." if counted else ""
    return _picture(figure, "Cost and accuracy", f"On one machine, in batches.{tokens}")


def _legend(axes: "Axes", place: str) -> None:
    axes.legend(fontsize=6, ncols=2, loc=place)
