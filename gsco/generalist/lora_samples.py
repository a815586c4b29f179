"""What a vision-language model is tuned on: prompts, each with the answer that is right.

The prompts are those that the model will meet: plain, with opinions, with neighbours, with both, in
either style, the options in random order, the evidence of varied and stated reliability and often
wrong, so that the model learns to weigh it against the image. One in eight asks in words, and its
answer is made from modality and label: a description, or whether a label holds (bootstrapping that
the diagnosis guides). Questions and reports that people answered and wrote are handed in as pairs.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from gsco.datasets import Pair, Record
from gsco.generalist.tiny.evidence import draw_evidence
from gsco.prompts import Form, Prompt, Style, build_prompt, options_of, question_task, report_task
from gsco.prompts.prompt import YES_NO
from gsco.task import Task
from specialists.images import decode

IN_WORDS = 1 / 8
"""The share of a task's samples that ask in words."""
PAIRED = 1 / 4
"""The share of the samples that are pairs, where there are pairs and data sets."""
_STYLES: tuple[Style, ...] = ("paper", "calibrated")


@dataclass(frozen=True)
class Sample:
    """A prompt with the answer that is right."""

    prompt: Prompt
    answer: str


def draw_sample(
    tasks: Sequence[tuple[Task, Sequence[Record]]],
    draw: random.Random,
    form: Form,
    pairs: Sequence[Pair] = (),
) -> Sample:
    """Return a random sample: each task, then each of its labels, with the same chance."""
    if pairs and (not tasks or draw.random() < PAIRED):
        return _paired(draw.choice(pairs), draw, form)
    task, records = draw.choice(tasks)
    labels = sorted({record.labels[0] for record in records})
    label = draw.choice(labels)
    record = draw.choice([r for r in records if r.labels[0] == label])
    if draw.random() < IN_WORDS:
        if draw.random() < 0.5:
            return _description(task, record, label)
        return _bootstrapped(task, record, label, draw, form)
    moed, rad = draw.choice(((False, False), (True, False), (False, True), (True, True)))
    # One time in ten all of it speaks for another label, so that only the image can tell.
    wrong = [text for text in task.texts if text != label]
    spoken = draw.choice(wrong) if draw.random() < 0.1 else label
    evidence = draw_evidence(task, task.texts.index(spoken), draw, moed=moed, rad=rad)
    prompt = build_prompt(
        task,
        images=[record.open()],
        opinions=evidence.opinions,
        neighbours=evidence.neighbours,
        together=evidence.together,
        style=draw.choice(_STYLES),
        answer_form=form,
        order=draw.sample(range(len(task.texts)), len(task.texts)),
    )
    named = dict(zip(prompt.answers, prompt.choices, strict=True))
    return Sample(prompt, named[label])


def _paired(pair: Pair, draw: random.Random, form: Form) -> Sample:
    """Return what people asked and answered, the way that `GSCo.ask` and `GSCo.report` ask."""
    image = decode(pair.image)
    if pair.question is None:
        return Sample(build_prompt(report_task(), images=[image]), pair.answer)
    said = pair.answer.casefold().rstrip(".")
    options = options_of(pair.question) if said in YES_NO else ()
    task = question_task(options)
    return _asked(task, image, pair.question, said if options else pair.answer, draw, form)


def _bootstrapped(
    task: Task, record: Record, label: str, draw: random.Random, form: Form
) -> Sample:
    """Return a question about one label, answered from the label that is known."""
    about = label if draw.random() < 0.5 else draw.choice([t for t in task.texts if t != label])
    question = f"Is this {task.modality} labelled {about}?"
    closed = question_task(YES_NO, task.modality)
    answer = "yes" if about == label else "no"
    return _asked(closed, record.open(), question, answer, draw, form)


def _asked(
    task: Task, image: Image.Image, question: str, answer: str, draw: random.Random, form: Form
) -> Sample:
    """Return a question, its options in random order, with the answer as it may be said."""
    order = draw.sample(range(len(task.texts)), len(task.texts))
    prompt = build_prompt(task, images=[image], question=question, answer_form=form, order=order)
    named = dict(zip(prompt.answers, prompt.choices, strict=True))
    return Sample(prompt, named.get(answer, answer))


def _description(task: Task, record: Record, label: str) -> Sample:
    """Return a sample of free text, made from what is known of the image."""
    prompt = build_prompt(
        question_task(modality=task.modality),
        images=[record.open()],
        question=f"Describe this {task.modality} in one sentence.",
    )
    return Sample(prompt, f"This {task.modality} is labelled: {label}.")
