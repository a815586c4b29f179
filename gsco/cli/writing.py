"""`gsco ask` and `gsco report`: what a person asks of an image in words, and is told in words."""

from pathlib import Path
from typing import Annotated

import typer

from gsco.cli.options import Generalist, Json, Workspace, open_agent, print_json, style_named
from gsco.errors import UsageError

ASK_EXAMPLE = 'Example: gsco ask scan.png "Is there an effusion?" --task pneumonia-cxr --json'
REPORT_EXAMPLE = "Example: gsco report scan.png --task pneumonia-cxr --draft model.txt"


def ask(
    images: Annotated[list[Path], typer.Argument(help="One image or more, of one case.")],
    question: Annotated[str, typer.Argument(help="In quotes.")],
    option: Annotated[
        list[str] | None, typer.Option(help="A possible answer; repeat it for each.")
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", "-t", help="Show its evidence; see `gsco tasks`.")
    ] = None,
    workspace: Workspace = None,
    generalist: Generalist = None,
    as_json: Json = False,
) -> None:
    """Answer a question about images: by choice with probabilities, or in free text.

    Yes-or-no questions and those with options are answered by choice. The shipped gsco-tiny has
    not learnt to answer questions: its choices are guesses, and to open questions it tells what the
    evidence of a task says.
    """
    if Path(question).is_file():
        raise UsageError(
            f"The last word, {question!r}, is a file. Put the question there, in quotes."
        )
    from gsco import show
    from gsco.writing import finished

    agent = open_agent(workspace, generalist)
    stream = agent.ask_stream(images, question, options=option or (), task=task)
    if as_json:
        print_json(finished(stream).to_dict())
    else:
        show.ending(finished(stream, show.piece))


def report(
    images: Annotated[list[Path], typer.Argument(help="One image or more, of one case.")],
    task: Annotated[str, typer.Option("--task", "-t", help="See `gsco tasks`.")],
    draft: Annotated[
        list[Path] | None, typer.Option(help="A report model's text, as a file; may be repeated.")
    ] = None,
    workspace: Workspace = None,
    style: Annotated[str, typer.Option(help="Prompt style: calibrated or paper.")] = "calibrated",
    generalist: Generalist = None,
    as_json: Json = False,
) -> None:
    """Write findings and impression from the images, the evidence and drafts.

    The shipped gsco-tiny cannot write: it reports what the evidence says, and reads no draft.
    """
    from gsco import show
    from gsco.case import Case
    from gsco.writing import finished

    wanted, drafts = style_named(style), [_text(file) for file in draft or ()]
    agent = open_agent(workspace, generalist)
    stream = agent.report_stream(Case(tuple(images), task), drafts=drafts, style=wanted)
    if as_json:
        print_json(finished(stream).to_dict())
    else:
        show.ending(finished(stream, show.piece))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"Draft {str(file)!r} cannot be read ({error}). Give a file of UTF-8 text."
        ) from error
