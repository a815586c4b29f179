"""Prompts: a task, its images and the evidence become the text that the generalist reads.

Seven slots: role, task, modality, options, the neighbours' diagnoses (RAD), the specialists'
diagnoses (MoED) and the form of the answer. What is shared by many cases comes first and the image
last but for the question, so that a server's prefix cache works. The texts lie beside this file.

Whatever comes from a label, an option, a draft report, a specialist or a neighbour is inserted as a
quoted string on one line: it stays data, whatever it says.
"""

from collections.abc import Sequence
from typing import Literal

from PIL import Image

from gsco.cleaned import cleaned
from gsco.errors import UsageError
from gsco.prompts.prompt import Form, Prompt, check_letters
from gsco.prompts.question import options_of, question_task, report_task
from gsco.prompts.text import fill, quoted, template, wording
from gsco.task import Task
from retrieval import Neighbour
from specialists import Opinion

Style = Literal["paper", "calibrated"]
SHOWN = 3
"""How many labels of one specialist the calibrated style shows, and how many neighbours' reports
a prompt for a report."""

__all__ = [
    "Form",
    "Prompt",
    "Style",
    "build_prompt",
    "cleaned",
    "options_of",
    "quoted",
    "question_task",
    "report_task",
    "wording",
]


def build_prompt(
    task: Task,
    *,
    images: Sequence[Image.Image],
    opinions: Sequence[Opinion] = (),
    neighbours: Sequence[Neighbour] = (),
    together: Opinion | None = None,
    drafts: Sequence[str] = (),
    question: str | None = None,
    style: Style = "calibrated",
    answer_form: Form = "letter",
    order: Sequence[int] | None = None,
) -> Prompt:
    """Return the prompt of one case.

    Args:
        task: what is asked; its labels are the options.
        images: the case's images, in order.
        opinions: the specialists' diagnoses (MoED); none leaves the slot out.
        neighbours: the similar cases (RAD), nearest first; none leaves the slot out. Where a report
            is asked for, those of the nearest three that have one are shown, too.
        together: what opinions and neighbours come to by the weights that validation taught; the
            published style, which passes labels only, leaves it out.
        drafts: reports that others have written of the images; none leaves the slot out.
        question: the user's words; the options stay those of the task.
        style: `paper` passes labels only; `calibrated` adds probabilities, each specialist's
            reliability and the similarities.
        answer_form: whether the answer is an option's letter or its text.
        order: positions of the task's labels as they shall be shown; None for the task's order.

    Raises:
        UsageError: no image, an order that is no permutation, or more options than letters.
    """
    if not images:
        raise UsageError(f"A prompt for {task.id!r} has images=(). Give at least one image.")
    labels = task.texts
    recalled = _reports(neighbours) if task.kind == "report" else ()
    check_letters(len(labels), answer_form)
    prompt = Prompt(
        role=template("role"),
        stem=cleaned(task.stem),
        options=labels,
        evidence=_evidence(opinions, neighbours, together, recalled, drafts, style),
        images=tuple(images),
        question=fill("question", question=cleaned(question)) if question else "",
        answer=_answer(task, answer_form),
        form=answer_form,
        kind=task.kind,
        no_finding=task.no_finding,
    )
    return prompt if order is None else prompt.permuted(order)


def _answer(task: Task, form: Form) -> str:
    if not task.texts or task.kind == "report":
        return fill("answer_report" if task.kind == "report" else "answer_vqa")
    if task.kind != "multi":
        return fill(f"answer_single_{form}")
    rule = fill("rule_no_finding", no_finding=quoted(task.no_finding)) if task.no_finding else ""
    return fill(f"answer_multi_{form}", rule=rule)


def _evidence(
    opinions: Sequence[Opinion],
    neighbours: Sequence[Neighbour],
    together: Opinion | None,
    recalled: Sequence[str],
    drafts: Sequence[str],
    style: Style,
) -> tuple[str, ...]:
    if not opinions and not neighbours and not drafts:
        return ()
    if style == "paper":
        rad = _joined([label for neighbour in neighbours for label in neighbour.labels])
        moed = _joined([label for opinion in opinions for label in opinion.answers])
        parts: tuple[str, ...] = ()
    else:
        rad = "\n".join(map(_neighbour, neighbours))
        moed = "\n".join(map(_opinion, opinions))
        parts = (fill("evidence"),)
    if neighbours:
        parts += (fill(f"neighbours_{style}", neighbours=rad),)
    if opinions:
        parts += (fill(f"specialists_{style}", specialists=moed),)
    if together and style == "calibrated":
        parts += (fill("together", **_said(together)),)
    if recalled:
        parts += (fill(f"reports_{style}", reports=_lines(recalled)),)
    if drafts:
        parts += (fill(f"drafts_{style}", drafts=_lines(drafts)),)
    return parts


def _reports(neighbours: Sequence[Neighbour]) -> tuple[str, ...]:
    """Return what was written of the nearest cases; reports are long, so of a few."""
    return tuple(n.report for n in neighbours if n.report)[:SHOWN]


def _lines(reports: Sequence[str]) -> str:
    return "\n".join(fill("draft", draft=quoted(report)) for report in reports)


def _joined(labels: Sequence[str]) -> str:
    return ",".join(map(quoted, labels)) or "none"


def _neighbour(neighbour: Neighbour) -> str:
    diagnoses = ", ".join(map(quoted, neighbour.labels)) or "none"
    return fill("neighbour", diagnoses=diagnoses, similarity=f"{neighbour.similarity:.2f}")


def _opinion(opinion: Opinion) -> str:
    return fill("specialist", specialist=quoted(opinion.specialist), **_said(opinion))


def _said(opinion: Opinion) -> dict[str, str]:
    pairs = sorted(
        zip(opinion.labels, opinion.probabilities, strict=True), key=lambda pair: -pair[1]
    )
    known = opinion.reliability is not None
    return {
        "reliability": f"{opinion.reliability:.2f}" if known else "unknown",
        "diagnoses": ", ".join(f"{quoted(label)} {chance:.2f}" for label, chance in pairs[:SHOWN]),
    }
