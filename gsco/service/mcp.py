"""GSCo as tools for an agent: an MCP server over standard input and output.

The agent names files; only those below the allowed folders are read.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations

import gsco
from gsco.agent import GSCo
from gsco.case import NOTICE, Case, Diagnosis, System
from gsco.errors import GscoError, UsageError
from gsco.listing import specialists_of, tasks_of
from gsco.service.bodies import DiagnosisBody, NeighboursBody, SpecialistsBody, TasksBody
from retrieval import RetrievalError
from specialists import SpecialistError

INSTRUCTIONS = (
    "Opinions of specialists, similar labelled cases and a generalist about medical images. Call "
    "`tasks` first: a task fits one kind of image. Tell the person what the `review_reasons` of a "
    f"result say, and this: {NOTICE}"
)
VERSION = 1


def server(agent: GSCo, folders: Sequence[Path]) -> MCPServer[None]:
    """Return the server over an open workspace.

    Args:
        agent: asked one case at a time.
        folders: images below them may be read.
    """
    roots = tuple(folder.resolve() for folder in folders)
    turn = threading.Lock()
    made = MCPServer[None](
        "gsco", version=gsco.__version__, instructions=INSTRUCTIONS, log_level="WARNING"
    )

    def asked(image: str, task: str, system: System, question: str | None = None) -> Diagnosis:
        with _sentences(), turn:
            case = Case(images=(allowed(image, roots),), task=task, question=question)
            return agent.diagnose(case, system)

    def diagnose(
        image: str, task: str, question: str | None = None, system: System = "gsco-fused"
    ) -> DiagnosisBody:
        """Diagnose an image file: answer, probabilities, evidence, reasons to look again."""
        found = asked(image, task, system, question)
        return DiagnosisBody.model_validate(found.to_dict())

    def neighbours(image: str, task: str) -> NeighboursBody:
        """Recall the labelled cases that resemble an image file most."""
        found = asked(image, task, "neighbours").to_dict()
        return NeighboursBody.model_validate(
            {key: found[key] for key in NeighboursBody.model_fields}
        )

    def specialists(task: str | None = None) -> SpecialistsBody:
        """List the trained specialists with how good they are on validation."""
        with _sentences():
            rows = specialists_of(agent, task)
        return SpecialistsBody.model_validate(
            {"version": VERSION, "specialists": rows, "notice": NOTICE}
        )

    def tasks() -> TasksBody:
        """List the tasks that can be asked for, with their labels."""
        with _sentences():
            rows = tasks_of(agent)
        return TasksBody.model_validate({"version": VERSION, "tasks": rows, "notice": NOTICE})

    reads = ToolAnnotations(read_only_hint=True, open_world_hint=False)
    for tool in (diagnose, neighbours, specialists, tasks):
        made.add_tool(tool, description=f"{tool.__doc__} {NOTICE}", annotations=reads)
    return made


def allowed(image: str, roots: Sequence[Path]) -> Path:
    """Return the file itself, links followed, if it lies below one of the folders.

    Raises:
        UsageError: it does not, or is no file; what lies elsewhere is not told.
    """
    try:
        path = Path(image).resolve()
    # A null byte, or a link to itself.
    except (ValueError, OSError, RuntimeError) as error:
        raise UsageError(f"Image {image!r} is no path. Give the path of an image.") from error
    if not any(path.is_relative_to(root) for root in roots):
        raise UsageError(
            f"Image {image!r} lies outside the folders that may be read. "
            "Copy it there, or start `gsco mcp` with `--allow` and its folder."
        )
    if not path.is_file():
        raise UsageError(f"There is no file {image!r}. Check the path.")
    return path


@contextmanager
def _sentences() -> Iterator[None]:
    """Turn gsco's errors into those that an agent is shown."""
    try:
        yield
    except (GscoError, SpecialistError, RetrievalError) as error:
        raise ToolError(str(error)) from error
