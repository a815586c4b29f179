"""What the page shows of a session after each event. Gradio is imported where it is used."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from gsco.chat import talking
from gsco.chat.evidence import render
from gsco.chat.keepsake import as_json, write_all
from gsco.chat.session import Session, Talk
from gsco.chat.talking import Moment
from gsco.chat.viewing import Look, default_look, viewer
from gsco.errors import GscoError
from retrieval import RetrievalError
from specialists import SpecialistError

NOTHING = "<p>Nothing yet. The evidence of a diagnosis stands here.</p>"


# Any: Gradio's components have no types of their own.
@dataclass(frozen=True)
class Parts:
    """The components that events read and write."""

    session: Any
    chat: Any
    box: Any
    task: Any
    system: Any
    sheet: Any
    viewer: Any
    number: Any
    level: Any
    width: Any
    invert: Any
    cases: Any
    files: Any


def watched(parts: Parts, session: Session, moments: Iterator[Moment]) -> Iterator[Any]:
    """Turn moments into what is shown; an error becomes a sentence in the conversation."""
    try:
        for moment in moments:
            yield _update(parts, session, moment)
    except (GscoError, SpecialistError, RetrievalError) as error:
        talk = session.talk
        if talk is None:
            yield {parts.chat: _plain([{"role": "assistant", "content": str(error)}])}
            return
        talk.say("assistant", str(error))
        yield _update(parts, session, Moment(talk))


def _plain(messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Return messages as Gradio takes them, which shows tags as tags even in plain text."""
    return [{**one, "content": escape(one["content"], quote=False)} for one in messages]


def _update(parts: Parts, session: Session, moment: Moment) -> dict[Any, Any]:
    talk = moment.talk
    out: dict[Any, Any] = {parts.chat: _plain(talk.messages), parts.session: session}
    if moment.sheet and talk.sheet is not None:
        out[parts.sheet] = render(talk.sheet)
        out |= _history(parts, session)
    if moment.exam:
        out |= _image(parts, talk)
    return out


def _history(parts: Parts, session: Session) -> dict[Any, Any]:
    import gradio as gr

    choices = [(name, place) for place, name in enumerate(session.names())]
    value = session.place if session.talk else None
    return {parts.cases: gr.Dropdown(choices, value=value)}


def _image(parts: Parts, talk: Talk | None) -> dict[Any, Any]:
    import gradio as gr

    if talk is None:
        return {parts.viewer: viewer(None), parts.number: gr.Slider(visible=False)}
    exam, look = talk.exam, default_look(talk.exam)
    low, high = (0.0, 255.0)
    count = 1
    if exam.volume is not None:
        low, high = float(exam.volume.values.min()), float(exam.volume.values.max())
        count = len(exam.volume.values)
    return {
        parts.viewer: viewer(exam),
        parts.number: gr.Slider(
            1, max(count, 2), value=exam.number + 1, visible=count > 1, label=f"Slice of {count}"
        ),
        parts.level: gr.Slider(low, high, value=look.level),
        parts.width: gr.Slider(1, max(high - low, 2), value=look.width),
        parts.invert: False,
    }


def stopped(session: Session) -> list[dict[str, str]]:
    """Say in the conversation that its answer was broken off."""
    talk = session.talk
    if talk is None:
        return []
    if talk.messages[-1]["content"].startswith(talking.LOOKING):
        talk.messages[-1]["content"] = "Stopped. Send again, or retry."
    return _plain(talk.messages)


def looked(session: Session, number: int, level: float, width: float, invert: bool) -> str:
    """Return the picture of another slice, or through another window."""
    talk = session.talk
    if talk is None:
        return viewer(None)
    if talk.exam.volume is not None and number - 1 != talk.exam.number:
        talk.exam.turn_to(int(number) - 1)
    return viewer(talk.exam, Look(level, width, invert))


def moved(parts: Parts, session: Session, place: int) -> dict[Any, Any]:
    """Show another case of the session, or none yet."""
    import gradio as gr

    session.place = place if place is not None else -1
    talk = session.talk
    sheet = render(talk.sheet) if talk and talk.sheet else NOTHING
    out = {parts.chat: _plain(talk.messages) if talk else [], parts.sheet: sheet}
    out |= {parts.session: session, parts.files: gr.Files(None, visible=False)}
    return out | _history(parts, session) | _image(parts, talk)


def report(session: Session) -> Any:
    """Return the case on paper, as files to take away."""
    import gradio as gr

    talk = session.talk
    if talk is None or talk.sheet is None:
        raise gr.Error(
            "There is nothing to report yet. Diagnose an image first.", print_exception=False
        )
    made = write_all(talk.sheet, talk, _private())
    return gr.Files([str(path) for path in made], visible=True)


def exported(session: Session) -> Any:
    """Return the case as a file of JSON."""
    import gradio as gr

    if session.talk is None:
        raise gr.Error("There is no case to export yet.", print_exception=False)
    file = _private() / f"gsco-{session.talk.task}.json"
    file.write_text(as_json(session.talk), encoding="utf-8")
    return gr.File(str(file), visible=True)


def _private() -> Path:
    """Return a new folder within the page's private one."""
    from gradio.utils import get_upload_folder

    Path(get_upload_folder()).mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=get_upload_folder()))
