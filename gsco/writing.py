"""Free text: a question comes in and an Answer goes out; a case with drafts, and a Report.

A closed question is read under the constraint of its options, an open one is written. Where the
generalist is too small to write, the text is composed from the evidence and says so.
"""

import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from PIL import Image

from gsco.case import Answer, Case, Failure, Report
from gsco.conclude import shortened
from gsco.errors import GeneralistError, PromptTooLongError, TextCutError, UsageError
from gsco.generalist.reading import read_all
from gsco.prompts import Prompt, Style, build_prompt, options_of, question_task, report_task
from gsco.task import Task
from gsco.voices import together
from gsco.workspace import open_task
from retrieval import Neighbour
from specialists import Opinion

if TYPE_CHECKING:
    from gsco.agent import GSCo
    from gsco.generalist import Generalist

Picture = Path | str | Image.Image
T = TypeVar("T")

_FINDINGS, _IMPRESSION = (
    re.compile(rf"\b{part}s?[\s*]{{0,9}}:", re.IGNORECASE) for part in ("finding", "impression")
)
_MARKS = " *#\r\n\t"


@dataclass(frozen=True)
class Evidence:
    """What stands in the prompt beside the images."""

    modality: str = "unknown"
    opinions: tuple[Opinion, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    together: Opinion | None = None
    failures: tuple[Failure, ...] = ()
    case: str = ""

    # Any: the other arguments of the prompt builder, each of a type of its own.
    def prompt(self, task: Task, images: Sequence[Image.Image], shown: int, **said: Any) -> Prompt:
        """Return a prompt with this evidence, of the neighbours the nearest `shown`."""
        return build_prompt(
            task,
            images=images,
            opinions=self.opinions,
            neighbours=self.neighbours[:shown],
            together=self.together,
            **said,
        )


def finished(
    stream: Generator[str, None, T], told: Callable[[str], None] = lambda piece: None
) -> T:
    """Exhaust a stream, hand on each piece, and return what it ends with."""
    while True:
        try:
            told(next(stream))
        except StopIteration as end:
            made: T = end.value
            return made


def ask(
    agent: "GSCo",
    images: Picture | Sequence[Picture],
    question: str,
    options: Sequence[str],
    task: str | None,
    *,
    whole: bool = False,
) -> Generator[str, None, Answer]:
    """Stream the text of an answer, and return the Answer; see `GSCo.ask`.

    With `whole` nobody reads along, and the text comes in one piece where that is quicker.
    """
    if not question.strip():
        raise UsageError(f"The question is {question!r}. Write what you want to know.")
    choices = options_of(question, options)
    # What cannot be right is said before anything is loaded.
    question_task(choices)
    pictures = _opened(images)
    if task is not None:
        open_task(agent.workspace, task)
    generalist = agent.generalist
    cut: tuple[Failure, ...] = ()
    if not choices and not generalist.writes:
        return (yield from _composed_answer(agent, pictures, question, task))
    evidence = Evidence() if task is None else _evidence(agent, Case(pictures, task))

    def prompt(shown: int) -> Prompt:
        wanted = question_task(choices, evidence.modality)
        form = generalist.answer_form
        return evidence.prompt(wanted, pictures, shown, question=question, answer_form=form)

    if choices:
        counts = [len(evidence.neighbours)]
        (reading,) = read_all(
            generalist, lambda _, shown: prompt(shown), counts, agent.settings.permutations
        )
        if reading.answer is None:
            raise GeneralistError(
                reading.failure or _none_of(choices, reading.raw, generalist.name)
            )
        text, probabilities, (shown,) = reading.answer, reading.probabilities, counts
        yield text
    else:
        recalled, probabilities = len(evidence.neighbours), {}
        text, shown, cut = yield from _written(generalist, prompt, recalled, whole)
    return Answer(
        question,
        text,
        probabilities,
        generalist.name,
        prompt(shown).hash,
        caution=None if generalist.writes else _guess(generalist.name),
        failures=(*evidence.failures, *shortened(len(evidence.neighbours), shown), *cut),
    )


def report(
    agent: "GSCo", case: Case, drafts: Sequence[str], style: Style, *, whole: bool = False
) -> Generator[str, None, Report]:
    """Stream the text of a report, and return the Report; see `GSCo.report` and `ask`."""
    for number, draft in enumerate(drafts, 1):
        if not draft.strip():
            raise UsageError(f"Draft {number} is {draft!r}. Give its text, or leave it out.")
    open_task(agent.workspace, case.task)
    pictures = _opened(case.images)
    case = replace(case, images=pictures)
    generalist = agent.generalist
    if not generalist.writes:
        return (yield from _composed_report(agent, case, drafts))
    evidence = _evidence(agent, case)

    def prompt(shown: int) -> Prompt:
        wanted = report_task(evidence.modality)
        said = {"drafts": drafts, "question": case.question, "style": style}
        return evidence.prompt(wanted, pictures, shown, **said)

    text, shown, cut = yield from _written(generalist, prompt, len(evidence.neighbours), whole)
    findings, impression = parts_of(text)
    return Report(
        case=evidence.case,
        task=case.task,
        text=text,
        findings=findings,
        impression=impression,
        model=generalist.name,
        prompt_hash=prompt(shown).hash,
        failures=(*evidence.failures, *shortened(len(evidence.neighbours), shown), *cut),
    )


def parts_of(text: str) -> tuple[str | None, str | None]:
    """Return the findings and the impression of a report; None where it has no such part."""
    findings = _FINDINGS.search(text)
    impression = _IMPRESSION.search(text, findings.end()) if findings else None
    if not findings or not impression:
        return None, None
    parts = text[findings.end() : impression.start()], text[impression.end() :]
    first, second = (part.strip(_MARKS) or None for part in parts)
    return first, second


def _opened(images: Picture | Sequence[Picture]) -> tuple[Image.Image, ...]:
    from specialists.images import decode

    several = [images] if isinstance(images, Path | str | Image.Image) else images
    if not several:
        raise UsageError("There is no image. Give one or more of one case.")
    return tuple(map(decode, several))


def _evidence(agent: "GSCo", case: Case) -> Evidence:
    """Gather what the specialists and the similar cases say; the generalist is not asked."""
    made, tools = agent.diagnose(case, "stack"), agent.tools(case.task)
    opinions = {opinion.specialist: opinion for opinion in made.opinions}
    whole = together(tools.fusion, opinions, made.neighbours)
    modality = tools.task.modality
    return Evidence(modality, made.opinions, made.neighbours, whole, made.failures, made.case)


def _written(
    generalist: "Generalist", prompt: Callable[[int], Prompt], shown: int, whole: bool
) -> Generator[str, None, tuple[str, int, tuple[Failure, ...]]]:
    """Stream what the generalist writes; return it, how many neighbours were shown, and any cut.

    Where the prompt is too long, the least similar neighbours go first, as for a diagnosis.

    Raises:
        GeneralistError: nothing came, no server answers, or the prompt is too long without any.
    """
    pieces: list[str] = []
    cut: tuple[Failure, ...] = ()
    while True:
        try:
            for piece in generalist.write(prompt(shown), whole=whole):
                pieces.append(piece)
                yield piece
            break
        except TextCutError as error:
            cut = (Failure("text", str(error)),)
            break
        except PromptTooLongError:
            if not shown:
                raise
            shown //= 2
    if text := "".join(pieces).strip():
        return text, shown, cut
    raise GeneralistError(
        f"{generalist.name!r} wrote nothing. Ask in other words or with options, and see the log "
        "of the server if there is one."
    )


def _none_of(options: Sequence[str], said: str, name: str) -> str:
    return (
        f"{name!r} said {said[:40]!r}, which is none of {list(options)!r}. Ask again, or examine "
        "the server with `gsco doctor URL`."
    )


def _guess(name: str) -> str:
    return (
        f"{name} is too small to write, and what it chooses may be a guess: ask a larger "
        "generalist before you build on it."
    )


def _composed_answer(
    agent: "GSCo", images: tuple[Image.Image, ...], question: str, task: str | None
) -> Generator[str, None, Answer]:
    name = agent.generalist.name
    if task is None:
        raise UsageError(
            f"{name!r} can only choose, and the question is open. Give the answers to choose from "
            "as options (`--option A --option B`), a task whose evidence answers (`--task`), or a "
            "generalist that writes (`--generalist`)."
        )
    made = agent.diagnose(Case(images, task))
    text = f"{name} cannot write an answer; this is what task {task} says. {made.explanation}"
    yield text
    return Answer(question, text, {}, name, None, composed=True, failures=made.failures)


def _composed_report(
    agent: "GSCo", case: Case, drafts: Sequence[str]
) -> Generator[str, None, Report]:
    name = agent.generalist.name
    made = agent.diagnose(case)
    unread = Failure("drafts", f"{name} cannot write, so no draft was read.")
    yield made.explanation
    return Report(
        case=made.case,
        task=case.task,
        text=made.explanation,
        findings=None,
        impression=None,
        model=name,
        prompt_hash=None,
        composed=True,
        failures=(*made.failures, *([unread] if drafts else [])),
    )
