"""The command line. Parses, calls, shows; decides nothing.

gsco diagnose scan.png --task pneumonia-cxr
"""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

import gsco
from gsco.case import NOTICE, SYSTEMS
from gsco.cli.bench import bench_app
from gsco.cli.chat import CHAT_EXAMPLE, chat
from gsco.cli.data import data_app
from gsco.cli.generalist import NAME as GENERALIST
from gsco.cli.generalist import construct_generalist
from gsco.cli.index import index_app
from gsco.cli.options import (
    WRITTEN,
    Data,
    Generalist,
    Json,
    LabelColumn,
    Limit,
    Overlap,
    SplitColumn,
    Workspace,
    open_agent,
    print_json,
    read_data,
    style_named,
    system_named,
    systems_named,
)
from gsco.cli.server import DOCTOR_EXAMPLE, SERVE_EXAMPLE, doctor, serve
from gsco.cli.service import API_EXAMPLE, MCP_EXAMPLE, api, mcp
from gsco.cli.writing import ASK_EXAMPLE, REPORT_EXAMPLE, ask, report
from gsco.errors import GscoError, UsageError, unknown
from retrieval.errors import RetrievalError
from specialists.errors import SpecialistError

if TYPE_CHECKING:
    from gsco.case import Diagnosis
    from specialists.train import RecipeName

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help=f"Ask a generalist, specialists and similar cases about a medical image. {NOTICE}",
)
app.add_typer(index_app, name="index")
app.add_typer(bench_app, name="bench")
app.add_typer(data_app, name="data")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gsco {gsco.__version__}\n{NOTICE}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command(epilog="Example: gsco diagnose scan.png --task pneumonia-cxr --system gsco --json")
def diagnose(
    images: Annotated[list[Path], typer.Argument(help="One image or more; each is a case.")],
    task: Annotated[str, typer.Option("--task", "-t", help="See `gsco tasks`.")],
    workspace: Workspace = None,
    question: Annotated[str | None, typer.Option(help="Ask in your own words.")] = None,
    system: Annotated[str, typer.Option(help=f"One of: {', '.join(SYSTEMS)}.")] = "gsco-fused",
    style: Annotated[str, typer.Option(help="Prompt style: calibrated or paper.")] = "calibrated",
    generalist: Generalist = None,
    explain: Annotated[
        bool, typer.Option(help="Leave each piece of evidence out in turn.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Diagnose images: answer, probabilities, evidence, and what disagreed."""
    from gsco.case import Case

    wanted, chosen = system_named(system), style_named(style)
    for image in images:
        if not image.is_file():
            raise UsageError(f"There is no file {str(image)!r}. Check the path.")
    agent = open_agent(workspace, generalist)
    made: list[Diagnosis | SpecialistError] = []
    for image in images:
        case = Case(images=(image,), task=task, question=question)
        try:
            made.append(agent.diagnose(case, wanted, style=chosen, explain=explain))
        except SpecialistError as error:
            if len(images) == 1:
                raise
            # One that cannot be read must not cost the others their answers.
            made.append(error)
    if as_json:
        said = [
            {"version": 1, "image": str(image), "problem": str(one)}
            if isinstance(one, SpecialistError)
            else one.to_dict()
            for image, one in zip(images, made, strict=True)
        ]
        print_json(said if len(said) > 1 else said[0])
    from gsco import show

    for image, one in zip(images, made, strict=True):
        if isinstance(one, SpecialistError):
            typer.echo(f"gsco: {image}: {one}", err=True)
        elif not as_json:
            show.diagnosis(one, image.name, explained=explain)
    if any(isinstance(one, SpecialistError) for one in made):
        raise typer.Exit(2)


@app.command(epilog="Example: gsco construct pneumonia-cxr --data pneumoniamnist --workspace w")
def construct(
    task: Annotated[str, typer.Argument(help="A shipped card's id, or a new name.")],
    data: Data,
    workspace: Annotated[Path, WRITTEN] = Path("workspace"),
    card: Annotated[Path | None, typer.Option(help="Your own task card (TOML).")] = None,
    backbone: Annotated[
        list[str] | None, typer.Option(help="Repeat for several; three small ones by default.")
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(help="default, or paper: the published recipe; tiny or lora: a generalist."),
    ] = "default",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    coverage: Annotated[float, typer.Option(min=0.5, max=0.999, help="Of prediction sets.")] = 0.9,
    from_scratch: Annotated[bool, typer.Option(help="Use no first weights.")] = False,
    index_with: Annotated[
        str, typer.Option(help="independent, or a specialist's name.")
    ] = "independent",
    label_column: LabelColumn = "label",
    split_column: SplitColumn = "split",
    allow_overlap: Overlap = False,
    generalist: Generalist = None,
    no_generalist: Annotated[
        bool, typer.Option("--no-generalist", help="Leave the generalist uncalibrated.")
    ] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="Of `--recipe lora`.")] = None,
    as_json: Json = False,
) -> None:
    """Train specialists, calibrate, index the cases, fit the fusion; goes on after a kill.

    With TASK `generalist`: train one from nothing (`--recipe tiny`), or tune a vision-language
    model (`--recipe lora --generalist MODEL`) on the tasks that folders of `--data` are named for
    and on the questions and reports of every `qa.csv` there.
    """
    from gsco import show
    from gsco.construct import DEFAULT_BACKBONES, Plan
    from gsco.construct import construct as run
    from gsco.settings import load_settings
    from specialists import backbone_named

    if task == GENERALIST:
        with show.progress() as told:
            made = construct_generalist(
                recipe,
                data,
                workspace,
                model=generalist,
                steps=steps,
                seed=seed,
                progress=told,
                say=show.errors.print,
            )
        if as_json:
            print_json({"version": 1, "notice": NOTICE, "model": str(made)})
        else:
            show.console.print(f"Ready: {made}. `gsco serve {made}`, or `--generalist {made}`.")
        return
    names = tuple(backbone or DEFAULT_BACKBONES)
    for name in names:
        backbone_named(name)
    if recipe not in ("default", "paper"):
        raise UsageError(unknown("recipe", recipe, ("default", "paper"), "gsco construct --help"))
    dataset = read_data(task, data, workspace, card, label_column, split_column, allow_overlap)
    reader = None
    if not no_generalist:
        from gsco.agent import open_generalist

        reader = open_generalist(load_settings(generalist=generalist))
    chosen: RecipeName = "paper" if recipe == "paper" else "default"
    plan = Plan(names, chosen, seed, coverage, not from_scratch, index_with)
    say = show.errors.print
    with show.progress() as told:
        done = run(dataset, workspace, task, plan, generalist=reader, say=say, progress=told)
    if as_json:
        print_json({"version": 1, "notice": NOTICE, **asdict(done)})
    elif done.nothing_to_do:
        show.console.print(f"{task}: nothing to do, all is current.")
    else:
        show.console.print(f"{task}: ready. Report: {done.folder / 'report' / 'report.md'}")


@app.command(
    epilog="Example: gsco evaluate --task pneumonia-cxr --data pneumoniamnist --system all; "
    "gsco evaluate --task all --data ~/sets --generalist http://127.0.0.1:8000/v1"
)
def evaluate(
    task: Annotated[str, typer.Option("--task", "-t", help="One, or all of the workspace.")],
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            "-d",
            help="The task's data set; for all tasks the folder that holds the sets' folders.",
        ),
    ],
    workspace: Workspace = None,
    system: Annotated[str, typer.Option(help="all, or names parted by commas.")] = "all",
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    limit: Limit = None,
    style: Annotated[str, typer.Option(help="Prompt style: calibrated or paper.")] = "calibrated",
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    label_column: LabelColumn = "label",
    split_column: SplitColumn = "split",
    allow_overlap: Annotated[
        bool, typer.Option(help="Ask about images that were learnt from, or stand in two splits.")
    ] = False,
    generalist: Generalist = None,
    as_json: Json = False,
) -> None:
    """Compare systems on the same labelled cases, with 95 % intervals."""
    from gsco import show
    from gsco.datasets.record import SPLITS, Split
    from gsco.evaluation.bench import local_items
    from gsco.evaluation.evaluate import evaluate as run

    names = systems_named(system)
    if split not in SPLITS:
        raise UsageError(unknown("split", split, SPLITS, "gsco evaluate --help"))
    part: Split = split
    agent = open_agent(workspace, generalist)
    if task == "all":
        items, left = local_items(agent, data)
        show.left_out(left)
        if not items:
            raise UsageError(
                f"{data.name!r} holds the data of no task of the workspace. Give the folder in "
                "which the sets' folders are."
            )
        datasets = {item.task: item.dataset for item in items}
    else:
        dataset = read_data(
            task, data, agent.workspace, None, label_column, split_column, allow_overlap
        )
        datasets = {task: dataset}
    with show.progress() as told:
        found = {
            name: run(
                agent,
                dataset,
                name,
                names,
                split=part,
                limit=limit,
                allow_overlap=allow_overlap,
                style=style_named(style),
                seed=seed,
                progress=told,
            )
            for name, dataset in datasets.items()
        }
    if as_json:
        print_json([asdict(row) for rows in found.values() for row in rows])
    else:
        for rows in found.values():
            show.rows(rows)


@app.command(epilog="Example: gsco tasks --workspace w")
def tasks(workspace: Workspace = None, as_json: Json = False) -> None:
    """List the tasks of the workspace and the shipped cards."""
    from gsco.agent import GSCo
    from gsco.listing import tasks_of
    from gsco.task import builtin_tasks

    agent = GSCo.open(workspace)
    ready = {row["id"] for row in tasks_of(agent)}
    cards = {**builtin_tasks(), **agent.tasks}
    listed = [
        {
            "id": t.id,
            "title": t.title,
            "kind": t.kind,
            "labels": list(t.texts),
            "constructed": t.id in ready,
        }
        for t in cards.values()
    ]
    if as_json:
        print_json({"version": 1, "tasks": listed})
        return
    for row in listed:
        mark = "ready" if row["constructed"] else "card "
        typer.echo(
            f"{mark}  {row['id']:<22} {row['title']}: {', '.join(cards[str(row['id'])].texts)}"
        )
    if len(ready) < len(listed):
        typer.echo(
            "\nready: can be asked. card: construct it first, from labelled images of your own: "
            "gsco construct ID --data DIR --workspace W"
        )


@app.command(epilog="Example: gsco specialists --task pneumonia-cxr; gsco specialists --backbones")
def specialists(
    task: Annotated[str | None, typer.Option("--task", "-t")] = None,
    workspace: Workspace = None,
    backbones: Annotated[bool, typer.Option(help="List what can be trained instead.")] = False,
    as_json: Json = False,
) -> None:
    """List trained specialists with how good they are, or the backbones."""
    from gsco.agent import GSCo
    from gsco.listing import specialists_of

    listed = _backbones() if backbones else specialists_of(GSCo.open(workspace), task)
    if as_json:
        print_json({"version": 1, "specialists": listed})
    elif backbones:
        for row in listed:
            typer.echo("  ".join(str(value) for value in row.values()))
    else:
        from gsco import show

        show.specialists(listed)


def _backbones() -> list[dict[str, object]]:
    from specialists import backbones as known

    return [
        {
            "name": b.name,
            "group": b.group,
            "input_size": b.input_size,
            "architecture": b.architecture,
            "first_weights": b.first_weights,
        }
        for b in known().values()
    ]


@app.command(epilog="Example: GSCO_DATA=~/medical-images gsco demo")
def demo(as_json: Json = False) -> None:
    """Diagnose real images that ship with packages, and test images where GSCO_DATA is set."""
    from gsco.demo import run

    made = run(quiet=as_json)
    if as_json:
        print_json([d.to_dict() for d in made])


app.command(epilog=ASK_EXAMPLE)(ask)
app.command(epilog=REPORT_EXAMPLE)(report)
app.command(epilog=CHAT_EXAMPLE)(chat)
app.command(epilog=SERVE_EXAMPLE)(serve)
app.command(epilog=DOCTOR_EXAMPLE)(doctor)
app.command(epilog=API_EXAMPLE)(api)
app.command(epilog=MCP_EXAMPLE)(mcp)


def _fail(error: Exception) -> NoReturn:
    typer.echo(f"gsco: {error}", err=True)
    sys.exit(2)


def main() -> None:
    """Run the command line: a sentence and exit code 2 for what the user can mend."""
    try:
        app()
    except (GscoError, SpecialistError, RetrievalError) as error:
        _fail(error)
    except OSError as error:
        if error.errno != 28:
            raise
        typer.echo("gsco: The disk is full. Free some space; what was finished is kept.", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
