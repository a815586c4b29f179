"""The LangGraph graph: (consult || recall) -> decide -> check.

A node reads the state, calls one tool, and returns what it adds. The state walks a batch of cases
through, after `take_in`; it holds content hashes, never pixels. Those and models are in `Tools`.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import numpy as np
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from numpy.typing import NDArray
from PIL import Image

from gsco import fusion as fuse
from gsco.case import Case, Failure, Reading, System
from gsco.errors import FusionError, GeneralistError, UsageError, unknown
from gsco.fusion import GENERALIST, NEIGHBOURS, Fusion
from gsco.task import Task
from gsco.voices import READ_SYSTEMS, hears, neighbour_vote, recalls, together
from retrieval import Fingerprint, Neighbour, RetrievalError, fingerprint, guard
from specialists import Opinion, Specialist, SpecialistError

if TYPE_CHECKING:
    from gsco.generalist import Generalist
    from gsco.prompts import Prompt, Style
    from retrieval import CaseIndex, Embedder

Floats = NDArray[np.float64]
SPECIALIST_SYSTEMS = ("specialist", "vote", "mean", "stack", "moed", "gsco", "gsco-fused")
READING_SYSTEMS = (*READ_SYSTEMS, "gsco-fused")
"""Those that ask the generalist."""


@dataclass
class Tools:
    """What the nodes call; it outlives the state."""

    task: Task
    fusion: Fusion
    specialists: Mapping[str, Specialist]
    index: "CaseIndex"
    embedder: "Embedder"
    generalist: "Generalist | None"
    """None where the system asks no generalist."""
    neighbours: int
    permutations: int
    style: "Style"
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Versions and hashes of all of this but the generalist."""
    learnt_size: tuple[int, int] | None = None
    """Width and height of the training images where all are small and alike, else None."""
    pictures: list[tuple[Image.Image, ...]] = field(default_factory=list)
    """The images of each case of the batch, while it is being diagnosed."""

    def as_learnt(self, image: Image.Image) -> Image.Image:
        """Return an image as specialists and index see it: no larger than small learnt ones."""
        from specialists.images import reduced

        return reduced(image, self.learnt_size)

    @property
    def is_calibrated(self) -> bool:
        """Whether the fusion was fitted with this very generalist."""
        return self.generalist is not None and self.fusion.fits(self.generalist.identity)


@dataclass(frozen=True)
class Recalled:
    """What the index gave for one case."""

    neighbours: tuple[Neighbour, ...]
    dropped: int


def _join(old: dict[str, float], new: dict[str, float]) -> dict[str, float]:
    return {**old, **new}


class State(TypedDict, total=False):
    """A batch of cases on its way. Lists run parallel to `prints`."""

    system: System
    question: str | None
    patients: list[str | None]
    prints: list[Fingerprint]
    opinions: dict[str, list[Opinion]]
    """Specialist to its opinions; a specialist that failed is absent."""
    recalled: list[Recalled]
    readings: list[Reading] | None
    """With the system's evidence; for `gsco-fused` without, as one voice among others."""
    shown: list[int]
    """How many neighbours the generalist was shown."""
    probabilities: list[list[float] | None]
    unfused: list[Failure | None]
    """Why a case has no probabilities."""
    failures: Annotated[list[Failure], lambda a, b: a + b]
    seconds: Annotated[dict[str, float], _join]


def take_in(cases: Sequence[Case], tools: Tools) -> list[Fingerprint]:
    """Decode the images of the cases once, keep them in `tools`, return their fingerprints."""
    from specialists.images import decode

    prints = []
    for case in cases:
        if not case.images:
            raise UsageError(f"Case {case.id!r} has no image. Give it one or more.")
        pictures = tuple(decode(image) for image in case.images)
        prints.append(fingerprint(pictures[0]))
        tools.pictures.append(pictures)
    return prints


def lessened(tools: Tools, without: Sequence[str]) -> Tools:
    """Return tools that lack some pieces of evidence: specialists by name, or the neighbours.

    Raises:
        UsageError: there is no such piece.
    """
    from retrieval import CaseIndex

    known = (NEIGHBOURS, *tools.specialists)
    for part in without:
        if part not in known:
            raise UsageError(unknown("piece of evidence", part, known, "gsco specialists"))
    left = {name: said for name, said in tools.specialists.items() if name not in without}
    index = tools.index
    if NEIGHBOURS in without:
        index = CaseIndex(
            index.dimension, embedder=index.embedder, embedder_hash=index.embedder_hash
        )
    return replace(tools, specialists=left, index=index)


def _firsts(tools: Tools) -> list[Image.Image]:
    return [tools.as_learnt(pictures[0]) for pictures in tools.pictures]


def consult(state: State, runtime: Runtime[Tools]) -> State:
    """Ask every specialist that the system needs; resize an image once for each input size."""
    from specialists.classifier import Classifier
    from specialists.images import to_tensor
    from specialists.registry import ordered

    start, tools = time.perf_counter(), runtime.context
    opinions: dict[str, list[Opinion]] = {}
    failures: list[Failure] = []
    tensors: dict[int, Any] = {}  # Any: torch tensors, and torch is not imported here
    images = _firsts(tools)
    for name in _asked(state["system"], tools):
        specialist = tools.specialists[name]
        try:
            if isinstance(specialist, Classifier):
                size = specialist.input_size
                if size not in tensors:
                    tensors[size] = to_tensor(images, size)
                said = specialist.predict_tensor(tensors[size])
            else:
                said = specialist.predict(images)
            opinions[name] = [ordered(opinion, tools.task.texts) for opinion in said]
        except (SpecialistError, RuntimeError) as error:
            failures.append(Failure(f"specialist {name}", str(error)))
    seconds = {"consult": time.perf_counter() - start}
    return {"opinions": opinions, "failures": failures, "seconds": seconds}


def _asked(system: System, tools: Tools) -> list[str]:
    if system not in SPECIALIST_SYSTEMS:
        return []
    only_best = system == "specialist" and tools.fusion.best in tools.specialists
    return [tools.fusion.best] if only_best else list(tools.specialists)


def recall(state: State, runtime: Runtime[Tools]) -> State:
    """Find the similar cases, without those that leak; every system needs them for its domain."""
    start, failures = time.perf_counter(), []
    try:
        found = _similar(state["prints"], state["patients"], runtime.context)
    except (RetrievalError, SpecialistError) as error:
        found = [Recalled((), 0) for _ in state["prints"]]
        failures.append(Failure("index", str(error)))
    seconds = {"recall": time.perf_counter() - start}
    return {"recalled": found, "failures": failures, "seconds": seconds}


def recalled(cases: Sequence[Case], tools: Tools) -> list[Recalled]:
    """Find the similar cases of cases that nothing else is asked about."""
    tools = replace(tools, pictures=[])
    return _similar(take_in(cases, tools), [case.patient for case in cases], tools)


def _similar(
    prints: Sequence[Fingerprint], patients: Sequence[str | None], tools: Tools
) -> list[Recalled]:
    guards = [guard(p, who) for p, who in zip(prints, patients, strict=True)]
    vectors = tools.embedder.embed(_firsts(tools))
    found = tools.index.search(vectors, tools.neighbours, skip=guards)
    return [Recalled(tuple(one.neighbours), one.dropped) for one in found]


def decide(state: State, runtime: Runtime[Tools]) -> State:
    """Let the generalist look at the images and read the system's evidence."""
    from gsco.generalist.reading import read_all
    from gsco.prompts import build_prompt

    start, tools, system = time.perf_counter(), runtime.context, state["system"]
    generalist = tools.generalist
    if system not in READING_SYSTEMS or generalist is None:
        return {"readings": None}

    def prompt(i: int, shown: int) -> "Prompt":
        opinions = {n: o[i] for n, o in state["opinions"].items()} if hears(system) else {}
        neighbours = state["recalled"][i].neighbours[:shown]
        return build_prompt(
            tools.task,
            images=tools.pictures[i],
            opinions=list(opinions.values()),
            neighbours=neighbours,
            together=together(tools.fusion, opinions, neighbours),
            question=state.get("question"),
            style=tools.style,
            answer_form=generalist.answer_form,
        )

    failures = []
    readings: list[Reading] | None = None
    shown = [len(one.neighbours) if recalls(system) else 0 for one in state["recalled"]]
    try:
        readings = read_all(generalist, prompt, shown, tools.permutations)
    except GeneralistError as error:
        failures.append(Failure("generalist", str(error)))
    seconds = {"decide": time.perf_counter() - start}
    return {"readings": readings, "shown": shown, "failures": failures, "seconds": seconds}


def check(state: State, runtime: Runtime[Tools]) -> State:
    """Fuse what was said into one distribution a case; no case's answer hangs on another's."""
    start, tools = time.perf_counter(), runtime.context
    rows: list[list[float] | None] = []
    failures: list[Failure | None] = []
    # Temperatures belong to the generalist that they were fitted with.
    fusion = tools.fusion if tools.is_calibrated else replace(tools.fusion, temperatures={})
    for number in range(len(state["prints"])):
        reading = _read(state, number, tools) if state["system"] in READ_SYSTEMS else None
        try:
            voices = voices_of(state, number, tools)
            rows.append(fuse.answer_of(state["system"], voices, reading, fusion)[0].tolist())
            failures.append(None)
        except FusionError as error:
            rows.append(None)
            failures.append(Failure("fusion", str(error)))
    seconds = {"check": time.perf_counter() - start}
    return {"probabilities": rows, "unfused": failures, "seconds": seconds}


def voices_of(state: State, number: int, tools: Tools) -> dict[str, Floats]:
    """Return the voices on one case of the batch, (1, C) each.

    Who said nothing is absent, and the generalist where validation has not weighed it.
    """
    voices: dict[str, Floats] = {
        name: np.array([said[number].probabilities])
        for name, said in state.get("opinions", {}).items()
    }
    if neighbours := state["recalled"][number].neighbours:
        shares = neighbour_vote(neighbours, tools.task.texts, tools.fusion.kind)
        voices[NEIGHBOURS] = np.array([shares])
    weighed = tools.is_calibrated and GENERALIST in tools.fusion.fused
    if state["system"] == "gsco-fused" and weighed:
        plain = _read(state, number, tools)
        if plain is not None:
            temperature = tools.fusion.temperatures.get("generalist", 1.0)
            voices[GENERALIST] = fuse.tempered(plain, temperature, tools.fusion.kind)
    return voices


def _read(state: State, number: int, tools: Tools) -> Floats | None:
    """Return the reading of one case as (1, C); None if it has no probabilities."""
    readings = state.get("readings")
    if not readings or not readings[number].probabilities:
        return None
    return np.array([[readings[number].probabilities[text] for text in tools.task.texts]])


def threshold_of(state: State, number: int, tools: Tools) -> float | None:
    """Return the bound of the prediction set of one case; None where none was fitted."""
    system = state["system"]
    if system == "gsco-fused" and GENERALIST not in voices_of(state, number, tools):
        system = "stack"
    if system in READ_SYSTEMS and not tools.is_calibrated:
        return None
    return tools.fusion.thresholds.get(system)


# Any: langgraph's compiled graph has four type parameters that say nothing here.
def build() -> Any:
    """Compile the graph."""
    graph = StateGraph(State, context_schema=Tools)
    for node in (consult, recall, decide, check):
        graph.add_node(node.__name__, node)
    graph.add_edge(START, "consult")
    graph.add_edge(START, "recall")
    graph.add_edge(["consult", "recall"], "decide")
    graph.add_edge("decide", "check")
    graph.add_edge("check", END)
    return graph.compile()
