"""The construction report: a page with tables and plots of what validation showed."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gsco.case import NOTICE
from gsco.fusion import GENERALIST, Fusion
from gsco.workspace import TaskFolder, write_bytes, write_text
from specialists.classifier import load_card

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]


def write(folder: TaskFolder) -> None:
    """Write `report/report.md` with a reliability plot and a ROC or confusion plot."""
    with np.load(folder.voices, allow_pickle=False) as stored:
        voices = {k: stored[k].astype(np.float64) for k in stored.files if k.startswith("voice ")}
        targets, labels = stored["targets"], [str(text) for text in stored["labels"]]
    named = {name.removeprefix("voice "): voice for name, voice in voices.items()}
    _save(folder, "reliability.png", _reliability(named, targets))
    best = folder.read_fusion().best
    if targets.ndim == 2 or len(labels) == 2:
        _save(folder, "roc.png", _roc(named, targets))
        picture = "![ROC curves](roc.png)"
    else:
        _save(folder, "confusion.png", _confusion(named[best], targets, labels))
        picture = f"![Confusion of {best}](confusion.png)"
    write_text(folder.report / "report.md", _page(folder, picture))


def shrinks(size: tuple[int, int]) -> str:
    """Say what becomes of images larger than those that were learnt."""
    return (
        f"All training images are {size[0]} x {size[1]} pixels: larger ones are made as small "
        "before specialists and index see them."
    )


def _page(folder: TaskFolder, picture: str) -> str:
    fusion, data = folder.read_fusion(), folder.read_json("data.json")
    rows = []
    for name in folder.specialists():
        card = load_card(folder.specialist(name))
        q = card.validation
        area = "absent" if q.auc is None else f"{q.auc:.3f}"
        rows.append(
            f"| {name} | {q.accuracy:.3f} | {q.balanced_accuracy:.3f} | {area} | {q.ece:.3f} "
            f"| {card.temperature:.2f} | {fusion.stack.get(name, 0):.2f} |"
        )
    licence = str(data["licence"] or "unknown").rstrip(".")
    return "\n".join(
        [
            f"# {folder.read_task().title}",
            "",
            f"_{NOTICE}_",
            "",
            f"Data: {data['name']}; licence: {licence}. Trained on {data['trained_on']} cases;"
            f" {data['near_duplicates_dropped']} near-duplicates of "
            f"held-out cases dropped. Figures below: {fusion.n_validation} validation cases, "
            "which also calibrated the temperatures, so they flatter. Measure on test cases with "
            f"`gsco evaluate --task {folder.name} --data DIR --workspace W`.",
            *([shrinks(folder.learnt_size)] if folder.learnt_size else []),
            "",
            "| specialist | accuracy | balanced accuracy | AUC | ECE | temperature | weight |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
            f"Best on validation: {fusion.best}. Weight of the neighbours' vote: "
            f"{fusion.stack.get('neighbours', 0):.2f}. Prediction sets aim at a coverage of "
            f"{fusion.coverage:.0%}. Images whose mean similarity to their neighbours is below "
            f"{fusion.familiar:.3f} count as outside what the specialists know.",
            *_generalist(fusion),
            "",
            "![Reliability](reliability.png)",
            "",
            picture,
            "",
        ]
    )


def _generalist(fusion: Fusion) -> list[str]:
    """Say how `gsco-fused` weighs the generalist's own reading, if one was asked."""
    weight = fusion.fused.get(GENERALIST)
    if weight is None or fusion.generalist is None:
        return []
    name = fusion.generalist.partition("@")[0]
    if weight:
        return [f"`gsco-fused` weighs what {name} reads by itself: {weight:.2f}."]
    return [f"`gsco-fused` does not hear {name}: validation does not show that it helps."]


def _figure() -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(5, 4.4), layout="constrained")


def _save(folder: TaskFolder, name: str, figure: "Figure") -> None:
    import io

    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110, format="png", metadata={"Software": None})
    write_bytes(folder.report / name, buffer.getvalue())


def _reliability(voices: dict[str, Floats], targets: NDArray[np.int64]) -> "Figure":
    figure = _figure()
    axes = figure.add_subplot(xlabel="stated probability", ylabel="share correct")
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    for name, voice in voices.items():
        if targets.ndim == 1:
            stated, correct = voice.max(axis=1), voice.argmax(axis=1) == targets
        else:
            stated, correct = voice.ravel(), targets.ravel() > 0
        number = np.minimum((stated * 8).astype(int), 7)
        used = [n for n in range(8) if (number == n).sum() >= 5]
        points = [(stated[number == n].mean(), correct[number == n].mean()) for n in used]
        axes.plot(*zip(*points, strict=True), marker="o", label=name) if points else None
    axes.legend(fontsize=8, loc="lower right")
    return figure


def _roc(voices: dict[str, Floats], targets: NDArray[np.int64]) -> "Figure":
    from sklearn.metrics import roc_curve

    figure = _figure()
    axes = figure.add_subplot(xlabel="1 - specificity", ylabel="sensitivity")
    for name, voice in voices.items():
        truth, score = (
            (targets, voice[:, 1]) if targets.ndim == 1 else (targets.ravel(), voice.ravel())
        )
        wrong, right, _ = roc_curve(truth, score)
        axes.plot(wrong, right, label=name)
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    axes.legend(fontsize=8, loc="lower right")
    return figure


def _confusion(voice: Floats, targets: NDArray[np.int64], labels: list[str]) -> "Figure":
    from sklearn.metrics import confusion_matrix

    counts = confusion_matrix(targets, voice.argmax(axis=1), labels=range(len(labels)))
    figure = _figure()
    axes = figure.add_subplot(xlabel="said", ylabel="true")
    axes.imshow(counts, cmap="Blues")
    for row, column in np.ndindex(counts.shape):
        dark = counts[row, column] > counts.max() / 2
        axes.text(column, row, counts[row, column], ha="center", color="white" if dark else "black")
    ticks = range(len(labels))
    axes.set_xticks(ticks, labels, rotation=35, ha="right", fontsize=8)
    axes.set_yticks(ticks, labels, fontsize=8)
    return figure
