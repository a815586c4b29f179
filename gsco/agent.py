"""GSCo: open a workspace, diagnose cases.

    agent = GSCo.open("workspace")
    diagnosis = agent.diagnose(Case(images=["scan.png"], task="pneumonia-cxr"))

`diagnose`, `adiagnose`, `diagnose_many` and `stream` run one and the same graph; `ask` and `report`
put what it found into words.
"""

import asyncio
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, Self

from gsco import workflow
from gsco.case import SYSTEMS, Answer, Case, Diagnosis, Report, System
from gsco.conclude import diagnosis_of, provenance_of, unreadable
from gsco.errors import UsageError, WorkspaceError, unknown
from gsco.fusion import NEIGHBOURS
from gsco.settings import Settings, load_settings
from gsco.task import Task
from gsco.workflow import State, Tools
from gsco.workspace import TaskFolder, open_task, starter, tasks_of
from retrieval import Neighbour
from specialists import SpecialistError

if TYPE_CHECKING:
    from gsco.generalist import Generalist
    from gsco.prompts import Form, Style
    from gsco.writing import Picture

BATCH = 64


@dataclass(frozen=True)
class Step:
    """A node of the workflow that has finished; the last one carries the diagnosis."""

    name: str
    """`consult`, `recall`, `decide` or `check`."""
    diagnosis: Diagnosis | None = None


def open_generalist(settings: Settings | None = None) -> "Generalist":
    """Return the generalist that the settings name; the shipped gsco-tiny if they name none."""
    settings = settings or Settings()
    form = _form_of(settings.answer_form)
    if settings.generalist.startswith(("http://", "https://")):
        from gsco.generalist.served import connect

        urls = [url.strip() for url in settings.generalist.split(",")]
        name, key = settings.generalist_model, settings.api_key
        return connect(urls, model=name, api_key=key, answer_form=form)
    from gsco.generalist.embedded import EmbeddedGeneralist
    from gsco.generalist.tiny import FOLDER

    return EmbeddedGeneralist(settings.generalist or FOLDER, answer_form=form)


def _form_of(text: str) -> "Form | None":
    if text and text not in ("letter", "label"):
        raise UsageError(unknown("answer form", text, ("letter", "label"), "gsco --help"))
    return "label" if text == "label" else "letter" if text else None


class GSCo:
    """A workspace with its models, loaded when they are first needed."""

    def __init__(
        self, workspace: Path, settings: Settings, generalist: "Generalist | None" = None
    ) -> None:
        self.workspace = workspace
        self.settings = settings
        self._generalist = generalist
        self._tools: dict[str, Tools] = {}
        self._loading = RLock()

    @classmethod
    def open(
        cls,
        workspace: Path | str | None = None,
        *,
        generalist: "Generalist | str | None" = None,
        settings: Settings | None = None,
    ) -> "GSCo":
        """Open a workspace; the starter workspace of the package if None.

        Args:
            workspace: folder made by `gsco construct`.
            generalist: an object, a server's URL, a model folder or hub id; gsco-tiny if None.
            settings: instead of those of the environment and `gsco.toml`.

        Raises:
            WorkspaceError: the folder is no workspace.
        """
        settings = settings or load_settings()
        if isinstance(generalist, str):
            settings, generalist = replace(settings, generalist=generalist), None
        folder = Path(workspace or settings.workspace or starter())
        if not (folder / "tasks").is_dir():
            open_task(folder, "")
        return cls(folder, settings, generalist)

    @property
    def tasks(self) -> dict[str, Task]:
        """The cards of the workspace, by id."""
        return tasks_of(self.workspace)

    @cached_property
    def generalist(self) -> "Generalist":
        """The vision-language model, loaded or reached on first use."""
        return self._generalist or open_generalist(self.settings)

    def __reduce__(self) -> "tuple[type[GSCo], tuple[Path, Settings, Generalist | None]]":
        """Travel to another process as a folder: models are loaded there, on first use."""
        return GSCo, (self.workspace, self.settings, self._generalist)

    def close(self) -> None:
        """Close the connections to servers, if this workspace has opened any."""
        if self._generalist is None and (opened := self.__dict__.get("generalist")):
            getattr(opened, "close", lambda: None)()

    def __enter__(self) -> Self:
        """Return itself; leaving the block closes the connections."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the connections."""
        self.close()

    @cached_property
    def _graph(self) -> Any:  # Any: see workflow.build
        return workflow.build()

    def tools(self, task: str, system: System = "stack", style: "Style" = "calibrated") -> Tools:
        """Return the models of a task, loaded once; the generalist only if `system` asks it.

        Raises:
            UsageError: unknown task. WorkspaceError: half constructed. SpecialistError: altered
            or missing weights. RetrievalError: an index of another embedder.
        """
        with self._loading:
            if task not in self._tools:
                self._tools[task] = self._load(open_task(self.workspace, task))
            asked = self.generalist if system in workflow.READING_SYSTEMS else None
        return replace(self._tools[task], generalist=asked, style=style, pictures=[])

    def _load(self, folder: TaskFolder) -> Tools:
        from gsco.voices import embedder_of, specialists_of
        from retrieval import CaseIndex

        fusion = folder.read_fusion()
        found = specialists_of(folder)
        for name in fusion.specialists:
            if name not in found:
                raise SpecialistError(
                    f"Specialist {name!r} of task {folder.name!r} is missing. Copy its folder "
                    "back or install its package, or run `gsco construct` again."
                )
        task = folder.read_task()
        if task.texts != fusion.labels:
            raise WorkspaceError(
                f"The card of task {folder.name!r} has the labels {list(task.texts)!r}, but "
                f"{list(fusion.labels)!r} were learnt. Restore them, or run `gsco construct` again."
            )
        embedder = embedder_of(folder)
        index = CaseIndex.load(
            folder.index, embedder=embedder.name, embedder_hash=embedder.weights_hash
        )
        return Tools(
            task=task,
            fusion=fusion,
            specialists=found,
            index=index,
            embedder=embedder,
            generalist=None,
            neighbours=self.settings.neighbours,
            permutations=self.settings.permutations,
            style="calibrated",
            provenance=provenance_of(task, fusion, found, index),
            learnt_size=folder.learnt_size,
        )

    def diagnose(
        self,
        case: Case,
        system: System = "gsco-fused",
        *,
        style: "Style" = "calibrated",
        explain: bool = False,
        without: Sequence[str] = (),
    ) -> Diagnosis:
        """Diagnose one case.

        Args:
            case: images and task.
            system: what collaborates.
            style: of the prompt: `calibrated`, or `paper` for bare labels.
            explain: also leave out each piece of evidence and note what would change.
            without: pieces of evidence to leave out: `neighbours`, or a specialist's name.

        Raises:
            SpecialistError: the image cannot be read. GscoError: see `tools`.
        """
        last = list(self.stream(case, system, style=style, without=without))[-1].diagnosis
        if last is None:
            raise UsageError("The workflow ended without a diagnosis.")
        return self.explained(case, last, style=style) if explain else last

    def explained(self, case: Case, made: Diagnosis, *, style: "Style" = "calibrated") -> Diagnosis:
        """Leave each piece of evidence of a diagnosis out once, and note what would change."""
        changed = {}
        for part in self.parts(case.task):
            other = self.diagnose(case, made.system, style=style, without=(part,)).answer
            if other != made.answer:
                name = part if part == NEIGHBOURS else f"specialist {part}"
                changed[name] = str(other)
        return replace(made, changed_by=changed)

    def parts(self, task: str) -> tuple[str, ...]:
        """Return the pieces of evidence of a task that can be left out, neighbours first."""
        return (NEIGHBOURS, *self.tools(task).specialists)

    def stream(
        self,
        case: Case,
        system: System = "gsco-fused",
        *,
        style: "Style" = "calibrated",
        without: Sequence[str] = (),
    ) -> Iterator[Step]:
        """Diagnose one case, telling each step as it finishes; arguments as in `diagnose`."""
        tools = workflow.lessened(self._checked(case.task, system, style), without)
        prints = workflow.take_in([case], tools)
        state = self._begin([case], system, prints)
        for update in self._graph.stream(state, context=tools, stream_mode="updates"):
            for name, added in update.items():
                state = _merged(state, added)
                if name != "check":
                    yield Step(name)
        yield Step("check", self._diagnoses([case], state, tools)[0])

    def similar(self, case: Case, count: int) -> tuple[Neighbour, ...]:
        """Return the `count` labelled cases most like the first image, without those that leak.

        Raises:
            UsageError: no image. SpecialistError: it cannot be read.
        """
        tools = replace(self.tools(case.task), neighbours=count)
        return workflow.recalled([case], tools)[0].neighbours

    async def adiagnose(self, case: Case, system: System = "gsco-fused") -> Diagnosis:
        """Diagnose without blocking the event loop."""
        return await asyncio.to_thread(self.diagnose, case, system)

    def diagnose_many(
        self,
        cases: Sequence[Case],
        system: System = "gsco-fused",
        *,
        style: "Style" = "calibrated",
    ) -> list[Diagnosis]:
        """Diagnose cases in batches, in order; an unreadable image is a failure, not a stop."""
        out: dict[int, Diagnosis] = {}
        groups: dict[tuple[str, str | None], list[int]] = {}
        for number, case in enumerate(cases):
            groups.setdefault((case.task, case.question), []).append(number)
        for (task, _), numbers in groups.items():
            tools = self._checked(task, system, style)
            for start in range(0, len(numbers), BATCH):
                part = numbers[start : start + BATCH]
                made = self._batch([cases[i] for i in part], system, replace(tools, pictures=[]))
                out |= dict(zip(part, made, strict=True))
        return [out[number] for number in range(len(cases))]

    def ask(
        self,
        images: "Picture | Sequence[Picture]",
        question: str,
        *,
        options: Sequence[str] = (),
        task: str | None = None,
    ) -> Answer:
        """Answer a question about the images of one case.

        A closed question is one with options, or one that asks for yes or no: it gets the chosen
        option and a probability for each, averaged over option orders. An open question is written.

        Args:
            images: files or RGB images, in order.
            question: in the user's words.
            options: the possible answers.
            task: whose specialists and similar cases the generalist is shown; where it cannot
                write, they answer an open question.

        Raises:
            UsageError: no question, no image, options that cannot be told apart, an unknown task,
            or an open question without a task to a generalist that cannot write.
            GeneralistError: it cannot be reached, or said nothing that is an answer.
            SpecialistError: an image cannot be read.
        """
        from gsco.writing import ask, finished

        return finished(ask(self, images, question, options, task, whole=True))

    def ask_stream(
        self,
        images: "Picture | Sequence[Picture]",
        question: str,
        *,
        options: Sequence[str] = (),
        task: str | None = None,
    ) -> Generator[str, None, Answer]:
        """Answer a question piece by piece; what the generator returns is the whole Answer."""
        from gsco.writing import ask

        return ask(self, images, question, options, task)

    def report(
        self, case: Case, *, drafts: Sequence[str] = (), style: "Style" = "calibrated"
    ) -> Report:
        """Write findings and impression of a case.

        The generalist is shown the images, the specialists' opinions, the similar cases and the
        drafts; where it cannot write, the text is composed from a diagnosis, and no draft is read.

        Args:
            case: images and task.
            drafts: reports of the images by others, such as a report model.
            style: of the prompt, as in `diagnose`.

        Raises:
            UsageError: no image, an empty draft, or an unknown task.
            GeneralistError: it cannot be reached, or wrote nothing.
            SpecialistError: an image cannot be read.
        """
        from gsco.writing import finished, report

        return finished(report(self, case, drafts, style, whole=True))

    def report_stream(
        self, case: Case, *, drafts: Sequence[str] = (), style: "Style" = "calibrated"
    ) -> Generator[str, None, Report]:
        """Write a report piece by piece; what the generator returns is the whole Report."""
        from gsco.writing import report

        return report(self, case, drafts, style)

    def _batch(self, cases: list[Case], system: System, tools: Tools) -> list[Diagnosis]:
        prints, readable, broken = [], [], {}
        for number, case in enumerate(cases):
            try:
                prints += workflow.take_in([case], tools)
                readable.append(number)
            except SpecialistError as error:
                broken[number] = unreadable(case, number, system, str(error))
        made: list[Diagnosis] = []
        if readable:
            part = [cases[i] for i in readable]
            state = self._begin(part, system, prints)
            state = self._graph.invoke(state, context=tools)
            made = self._diagnoses(part, state, tools)
        whole = {**dict(zip(readable, made, strict=True)), **broken}
        return [whole[number] for number in range(len(cases))]

    def _checked(self, task: str, system: System, style: "Style") -> Tools:
        if system not in SYSTEMS:
            raise UsageError(unknown("system", system, SYSTEMS, "gsco diagnose --help"))
        return self.tools(task, system, style)

    def _begin(self, cases: Sequence[Case], system: System, prints: list[Any]) -> State:
        return {
            "system": system,
            "question": cases[0].question,
            "patients": [case.patient for case in cases],
            "prints": prints,
            "opinions": {},
            "recalled": [],
            "failures": [],
            "seconds": {},
        }

    def _diagnoses(self, cases: Sequence[Case], state: State, tools: Tools) -> list[Diagnosis]:
        return [diagnosis_of(case, number, state, tools) for number, case in enumerate(cases)]


def _merged(state: State, added: State) -> State:
    merged: State = {**state, **added}
    merged["failures"] = state["failures"] + added.get("failures", [])
    merged["seconds"] = {**state["seconds"], **added.get("seconds", {})}
    return merged
