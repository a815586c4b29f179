"""The course of a conversation: a message comes in, and what is to be shown comes out bit by bit.

Knows nothing of the page: each `Moment` is what has become known, and the page shows it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gsco.case import Case, Diagnosis, System
from gsco.chat import follow
from gsco.chat.evidence import Sheet, Shelf, looks_of
from gsco.chat.session import Exam, Session, Talk, open_exam
from gsco.errors import UsageError
from gsco.propose import propose

if TYPE_CHECKING:
    from gsco.agent import GSCo

PROPOSE = "Propose a task"
PLAIN = "What is in this image?"
"""What is asked where a person sends an image without a word."""
LOOKING = "Looking"
"""How a message begins whose answer is not known yet."""
MORE = 20
"""Similar cases that are listed where a person asks for more."""
STEPS = {
    "consult": "specialists asked",
    "recall": "similar cases recalled",
    "decide": "generalist asked",
    "check": "checked",
}


@dataclass(frozen=True)
class Question:
    """What a person sends."""

    text: str
    files: tuple[Path, ...] = ()
    task: str = PROPOSE
    system: System = "gsco-fused"


@dataclass(frozen=True)
class Moment:
    """Something has become known."""

    talk: Talk
    sheet: bool = False
    """Whether the evidence is new."""
    exam: bool = False
    """Whether the image is new."""


def converse(agent: "GSCo", shelf: Shelf, session: Session, question: Question) -> Iterator[Moment]:
    """Take a message in and tell moment by moment what comes of it.

    A message with images begins a new case, unless it asks for a comparison; one without goes on
    with the case at hand.

    Raises:
        UsageError: there is no image yet, or no words and no image.
        GscoError, SpecialistError, RetrievalError: as in `GSCo.diagnose` and `GSCo.ask`.
    """
    talk = session.talk
    if question.files:
        exam = open_exam(question.files)
        if talk and talk.diagnosis and _meant(agent, talk, question.text).kind == "compare":
            yield from _compare(agent, talk, question.text, exam)
            return
        talk = session.begin(Talk(exam, question.task, question.system))
        talk.say("user", question.text.strip() or PLAIN)
        if question.task == PROPOSE:
            _propose(agent, talk)
        yield from _diagnose(agent, shelf, talk, question.text)
    elif talk is None:
        raise UsageError("There is no image yet. Drop one into the box, or take a sample.")
    elif talk.diagnosis is None or not question.text.strip():
        _again(agent, talk, question)
        yield from _diagnose(agent, shelf, talk, question.text)
    else:
        yield from _go_on(agent, talk, question.text)


def _propose(agent: "GSCo", talk: Talk) -> None:
    first, *others = propose(agent, talk.exam.pictures[0])
    talk.task = first.task
    title, alike = agent.tasks[first.task].title, f"likeness {first.familiarity:.2f}"
    said = f"Proposed task: {title} ({alike} to its cases)."
    if not first.is_familiar:
        said = (
            f"No task of this workspace knows images like this one. The nearest: {title} ({alike})."
        )
    rest = ", ".join(one.task for one in others[:3])
    talk.say("assistant", f"{said} Choose another if that is wrong: {rest}." if rest else said)


def _again(agent: "GSCo", talk: Talk, question: Question) -> None:
    """Ask the same images anew: about another slice, or with another task or system."""
    talk.task = talk.task if question.task == PROPOSE else question.task
    talk.system = question.system
    place = f" (slice {talk.exam.number + 1})" if talk.exam.volume else ""
    talk.say("user", question.text.strip() or f"{PLAIN[:-1]}{place}?")


def _diagnose(agent: "GSCo", shelf: Shelf, talk: Talk, text: str) -> Iterator[Moment]:
    """Diagnose the case; then show where the specialists looked and what would change."""
    yield Moment(talk, exam=True)
    talk.say("assistant", f"{LOOKING} …")
    words = text.strip()
    case = replace(talk.case, question=words if words not in ("", PLAIN) else None)
    done: list[str] = []
    made: Diagnosis | None = None
    for step in agent.stream(case, talk.system):
        done.append(STEPS[step.name])
        talk.messages[-1]["content"] = f"{LOOKING} … {', '.join(done)}"
        made = step.diagnosis
        yield Moment(talk)
    if made is None:
        raise UsageError("The workflow ended without a diagnosis.")
    talk.diagnosis = made
    talk.messages[-1]["content"] = _answered(made)
    sheet = Sheet(made, agent.tasks[talk.task].title, talk.exam.pictures[0])
    yield _shown(talk, sheet)
    looks = looks_of(agent, sheet.picture, made)
    sheet = replace(sheet, looks=looks, shown=shelf.find(talk.task, made.neighbours))
    yield _shown(talk, sheet)
    # The other systems' readings are made without evidence as they are.
    alone = agent.diagnose(case, "generalist") if made.system in ("moed", "rad", "gsco") else None
    talk.diagnosis = agent.explained(case, made)
    yield _shown(talk, replace(sheet, made=talk.diagnosis, alone=alone, changes=True))


def _shown(talk: Talk, sheet: Sheet) -> Moment:
    talk.sheet = sheet
    return Moment(talk, sheet=True)


def _answered(made: Diagnosis) -> str:
    parts = [made.explanation]
    if made.review:
        parts.append("A person must look: " + " ".join(made.review_reasons))
    return "\n\n".join(parts)


def _meant(agent: "GSCo", talk: Talk, text: str) -> follow.Follow:
    return follow.understood(text, agent.tasks[talk.task], agent.parts(talk.task))


def _go_on(agent: "GSCo", talk: Talk, text: str) -> Iterator[Moment]:
    """Answer a follow-up question; the evidence at hand is kept."""
    made, meant = talk.diagnosis, _meant(agent, talk, text)
    if made is None:
        raise UsageError("The case was not diagnosed yet. Send the image again.")
    talk.say("user", text)
    yield Moment(talk)
    if meant.kind == "ask":
        yield from _ask(agent, talk, text)
        return
    if meant.kind == "why":
        said = follow.why(made, meant.about)
    elif meant.kind == "without":
        after = agent.diagnose(talk.case, talk.system, without=(meant.about,))
        said = follow.lessened(meant.about, made, after)
    elif meant.kind == "similar":
        said = _more(agent, talk)
    else:
        said = "Send the earlier image together with the question, and the two are compared."
    talk.say("assistant", said)
    yield Moment(talk)


def _ask(agent: "GSCo", talk: Talk, text: str) -> Iterator[Moment]:
    talk.say("assistant", "")
    stream = agent.ask_stream(talk.exam.pictures, text, task=talk.task)
    while True:
        try:
            piece = next(stream)
        except StopIteration as end:
            answer = end.value
            break
        talk.messages[-1]["content"] += piece
        yield Moment(talk)
    talk.answers.append(answer)
    shares = ", ".join(f"{option} {chance:.0%}" for option, chance in answer.probabilities.items())
    said = f"{answer.text} ({shares})" if shares else answer.text
    troubles = (failure.reason for failure in answer.failures)
    talk.messages[-1]["content"] = "\n\n".join(filter(None, [said, answer.caution, *troubles]))
    yield Moment(talk)


def _more(agent: "GSCo", talk: Talk) -> str:
    found = agent.similar(talk.case, MORE)
    lines = [
        f"{place}. {', '.join(one.labels) or 'no label'}: similarity {one.similarity:.2f}"
        + (f", {one.source}" if one.source else "")
        for place, one in enumerate(found, 1)
    ]
    return "\n".join([f"The {len(found)} most similar labelled cases:", *lines])


def _compare(agent: "GSCo", talk: Talk, text: str, earlier: Exam) -> Iterator[Moment]:
    made = talk.diagnosis
    if made is None:
        raise UsageError("The case was not diagnosed yet. Send the image again.")
    talk.say("user", text)
    talk.say("assistant", f"{LOOKING} at the earlier image …")
    yield Moment(talk)
    before = agent.diagnose(Case(earlier.pictures, talk.task), talk.system)
    tools = agent.tools(talk.task)
    both = [tools.as_learnt(exam.pictures[0]) for exam in (talk.exam, earlier)]
    one, other = tools.embedder.embed(both)
    talk.messages[-1]["content"] = follow.compared(made, before, float(one @ other))
    yield Moment(talk)


def retry(agent: "GSCo", shelf: Shelf, session: Session) -> Iterator[Moment]:
    """Answer the last message of the case again.

    Raises:
        UsageError: nothing was said yet; and as in `converse`.
    """
    talk = session.talk
    asked = [n for n, one in enumerate(talk.messages) if one["role"] == "user"] if talk else []
    if talk is None or not asked:
        raise UsageError("Nothing was asked yet. Send an image first.")
    text = talk.messages[asked[-1]]["content"]
    if len(asked) == 1 or talk.diagnosis is None:
        del talk.messages[asked[-1] + 1 :]
        yield from _diagnose(agent, shelf, talk, text)
    else:
        del talk.messages[asked[-1] :]
        yield from _go_on(agent, talk, text)
