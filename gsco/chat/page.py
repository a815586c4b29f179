"""The page: what stands where, and what each button does. Gradio is imported when it is built.

    gsco chat, or python app.py

Each browser session has a `Session` of its own; uploads lie in a private folder that is emptied.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsco.case import NOTICE, SYSTEMS, Case, System
from gsco.chat import talking
from gsco.chat.evidence import Shelf
from gsco.chat.samples import Chapter, story
from gsco.chat.session import Session
from gsco.chat.showing import NOTHING, Parts, exported, looked, moved, report, stopped, watched
from gsco.chat.talking import PROPOSE, Question
from gsco.chat.viewing import viewer
from gsco.errors import GscoError, UsageError
from retrieval import RetrievalError
from specialists import SpecialistError

if TYPE_CHECKING:
    import gradio as gr

    from gsco.agent import GSCo

FORGOTTEN = 3600
"""Seconds after which an unused session and its files are deleted."""
WELCOME = "Drop an image into the box below, paste one, or take a sample."


def build(agent: "GSCo") -> "gr.Blocks":
    """Lay the page out over an opened workspace."""
    import gradio as gr

    shelf = Shelf(agent)
    with gr.Blocks(title="GSCo", analytics_enabled=False, delete_cache=(300, FORGOTTEN)) as blocks:
        gr.HTML(f"<h1>GSCo</h1><p>{NOTICE}</p>", elem_id="head")
        session = gr.State(Session(), time_to_live=FORGOTTEN)
        with gr.Row():
            with gr.Column(scale=5, min_width=320):
                chat, box, task, system, buttons = _talking(agent)
            with gr.Column(scale=6, min_width=320), gr.Tabs():
                with gr.Tab("Evidence"):
                    sheet = _live(NOTHING, "evidence")
                with gr.Tab("Image"):
                    view = _live(viewer(None), "viewer")
                    number, level, width, invert = _viewing()
                with gr.Tab("Report"):
                    gr.Markdown("The case on paper: answer, evidence with pictures, versions.")
                    make = gr.Button("Make the report")
                    files = gr.Files(label="Page, PDF and JSON", interactive=False, visible=False)
                with gr.Tab("History"):
                    cases = gr.Dropdown([], label="Cases of this session", interactive=True)
                    export = gr.Button("Export the case as JSON")
                    file = gr.File(label="Exported", interactive=False, visible=False)
        parts = Parts(
            *(session, chat, box, task, system, sheet, view),
            *(number, level, width, invert, cases, files),
        )
        _wire(gr, agent, shelf, parts, buttons)
        make.click(report, session, files, **_QUIET)
        export.click(exported, session, file, **_QUIET)
        gr.api(_diagnose_with(agent), api_name="diagnose", concurrency_id="models")
    return blocks


_QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


def _live(value: str, name: str) -> Any:
    import gradio as gr

    return gr.HTML(value, js_on_load=asset("page.js"), elem_id=name, apply_default_css=False)


def asset(name: str) -> str:
    """Return a style sheet or script of the page."""
    return (resources.files("gsco.chat") / name).read_text(encoding="utf-8")


@dataclass(frozen=True)
class _Buttons:
    stop: Any
    retry: Any
    new: Any
    samples: list[tuple[Chapter, Any]]


def _talking(agent: "GSCo") -> tuple[Any, Any, Any, Any, _Buttons]:
    import gradio as gr

    chat = gr.Chatbot(
        label="Conversation", height=430, render_markdown=False, placeholder=WELCOME, buttons=[]
    )
    box = gr.MultimodalTextbox(
        file_count="multiple",
        sources=["upload"],
        label="Image and question",
        placeholder="Drop or paste an image; ask, or just send",
        max_plain_text_length=2000,
    )
    with gr.Row():
        task = gr.Dropdown([PROPOSE, *agent.tasks], label="Task", min_width=140)
        system = gr.Dropdown(list(SYSTEMS), value="gsco-fused", label="System", min_width=140)
    with gr.Row():
        stop = gr.Button("Stop", size="sm", min_width=80)
        retry = gr.Button("Retry", size="sm", min_width=80)
        new = gr.Button("New case", size="sm", min_width=80)
    with gr.Accordion("Samples", open=True), gr.Row():
        samples = [(one, gr.Button(one.title, size="sm", min_width=150)) for one in story(agent)]
    return chat, box, task, system, _Buttons(stop, retry, new, samples)


def _viewing() -> tuple[Any, Any, Any, Any]:
    import gradio as gr

    number = gr.Slider(1, 2, value=1, step=1, label="Slice", visible=False)
    with gr.Row():
        level = gr.Slider(0, 255, value=127.5, label="Level")
        width = gr.Slider(1, 255, value=255, label="Window")
    invert = gr.Checkbox(label="Invert")
    gr.Markdown(
        "Window, level and invert are for your eyes: what is asked about is the image as the file "
        "has it. Another slice is asked about when you send again."
    )
    return number, level, width, invert


def _wire(gr: Any, agent: "GSCo", shelf: Shelf, parts: Parts, buttons: _Buttons) -> None:
    shown = [*vars(parts).values()]
    # One model in this process serves everybody in turn; servers answer several at once.
    models = {
        "concurrency_id": "models",
        "concurrency_limit": 1 if not agent.settings.generalist.startswith("http") else 8,
        "api_visibility": "private",
    }

    def send(session: Session, message: Any, task: str, system: System) -> Iterator[Any]:
        yield {parts.box: {"text": "", "files": []}, parts.session: session}
        files = tuple(Path(file) for file in message.get("files") or ())
        asked = Question(message.get("text") or "", files, task, system)
        yield from watched(parts, session, talking.converse(agent, shelf, session, asked))

    def again(session: Session) -> Iterator[Any]:
        yield from watched(parts, session, talking.retry(agent, shelf, session))

    inputs = [parts.session, parts.box, parts.task, parts.system]
    running = [
        parts.box.submit(send, inputs, shown, **models),
        buttons.retry.click(again, parts.session, shown, **models),
    ]
    for chapter, button in buttons.samples:
        take = partial(_take, agent, shelf, parts, chapter)
        running.append(button.click(take, [parts.session, parts.system], shown, **models))
    buttons.stop.click(stopped, parts.session, parts.chat, cancels=running, **_QUIET)
    for begins in (buttons.new.click, parts.chat.clear):
        begins(lambda session: moved(parts, session, -1), parts.session, shown, **_QUIET)
    parts.cases.input(
        lambda session, place: moved(parts, session, place),
        [parts.session, parts.cases],
        shown,
        **_QUIET,
    )
    look = [parts.session, parts.number, parts.level, parts.width, parts.invert]
    for one in (parts.number, parts.level, parts.width, parts.invert):
        one.input(looked, look, parts.viewer, **_QUIET)


def _take(
    agent: "GSCo", shelf: Shelf, parts: Parts, chapter: Chapter, session: Session, system: System
) -> Iterator[Any]:
    asked = Question("", (chapter.path,), chapter.task, system)
    yield from watched(parts, session, talking.converse(agent, shelf, session, asked))


def _uploaded(path: str) -> Path:
    """Return the path of an upload; of `gr.api` Gradio does not check it, as of components.

    Raises:
        UsageError: the file was not uploaded.
    """
    from gradio.utils import get_upload_folder

    found = Path(path).resolve()
    if not found.is_relative_to(Path(get_upload_folder()).resolve()):
        raise UsageError("The file was not uploaded. Upload it first, then ask about it.")
    return found


def _diagnose_with(agent: "GSCo") -> Any:  # Any: Gradio reads the types of the function returned
    import gradio as gr

    def diagnose(image: gr.FileData, task: str, system: str = "gsco-fused") -> dict[str, Any]:
        """Diagnose one image file; returns what `gsco diagnose --json` prints."""
        if system not in SYSTEMS:
            raise gr.Error(
                f"Unknown system {system!r}. Available: {', '.join(SYSTEMS)}.",
                print_exception=False,
            )
        try:
            return agent.diagnose(Case((_uploaded(image["path"]),), task), system).to_dict()
        except (GscoError, SpecialistError, RetrievalError) as error:
            raise gr.Error(str(error), print_exception=False) from error

    return diagnose
