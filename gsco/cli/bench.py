"""`gsco bench`: every system side by side, in a folder that can be left and found again."""

from pathlib import Path
from typing import Annotated, Any

import typer

from gsco.cli.options import (
    Generalist,
    Json,
    Limit,
    Workspace,
    open_agent,
    print_json,
    style_named,
    systems_named,
)
from gsco.errors import UsageError

bench_app = typer.Typer(
    no_args_is_help=True, help="Compare systems on whole data sets: resumable, verifiable."
)
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.")]
Run = Annotated[Path, typer.Argument(help="Folder of a run.")]


@bench_app.command(
    "run", epilog="Example: gsco bench run --data ~/medical-images -w workspace --out runs/first"
)
def bench_run(
    data: Annotated[Path, typer.Option("--data", "-d", help="Holds the folders of the data sets.")],
    out: Out,
    names: Annotated[
        list[str] | None, typer.Argument(help="Tasks; all constructed ones if left out.")
    ] = None,
    workspace: Workspace = None,
    system: Annotated[str, typer.Option(help="all, or names parted by commas.")] = "all",
    limit: Limit = None,
    shard: Annotated[str, typer.Option(help="i/n: ask every n-th case only; see merge.")] = "1/1",
    style: Annotated[str, typer.Option(help="Prompt style: calibrated or paper.")] = "calibrated",
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    retry: Annotated[bool, typer.Option(help="Ask cases again that failed.")] = False,
    generalist: Generalist = None,
    as_json: Json = False,
) -> None:
    """Ask every system the same test cases; killed and called again, it goes on."""
    from gsco import show
    from gsco.evaluation.bench import Scope, local_items, run
    from gsco.evaluation.page import write

    chosen = systems_named(system)
    scope = Scope(limit, _shard(shard), style_named(style), seed, retry)
    agent = open_agent(workspace, generalist)
    items, left = local_items(agent, data, names or ())
    for name, why in left.items():
        show.errors.print(f"{name} is left out: {why}.")
    if not items:
        raise UsageError(f"No constructed task has its data under {data.name!r}. Give --workspace.")
    with show.progress() as told:
        rows = run(agent, items, chosen, out, scope, told)
    if rows is not None:
        write(out, rows)
    _show(rows, out, as_json)


@bench_app.command("merge", epilog="Example: gsco bench merge --out runs/whole runs/a runs/b")
def bench_merge(
    out: Out,
    shards: Annotated[list[Path], typer.Argument(help="Folders of the shards.")],
    as_json: Json = False,
) -> None:
    """Gather shards into one run and measure it."""
    from gsco.evaluation.bench import merge
    from gsco.evaluation.page import write

    rows = merge(out, shards)
    if rows is not None:
        write(out, rows)
    _show(rows, out, as_json)


@bench_app.command("verify", epilog="Example: gsco bench verify runs/first")
def bench_verify(run: Run, as_json: Json = False) -> None:
    """Compute every figure anew from the stored answers, without any model."""
    from gsco.evaluation.bench import verify

    problems = verify(run)
    if as_json:
        print_json({"version": 1, "problems": problems})
    else:
        typer.echo("\n".join(problems) or "Every figure follows from the stored answers.")
    if problems:
        raise typer.Exit(2)


@bench_app.command("compare", epilog="Example: gsco bench compare runs/new runs/old")
def bench_compare(one: Run, other: Run, as_json: Json = False) -> None:
    """Say how one run differs from another on the cases that both answered."""
    from gsco import show
    from gsco.evaluation.bench import compare

    rows = compare(one, other)
    if as_json:
        print_json({"version": 1, "rows": rows})
    else:
        show.comparison(rows)


@bench_app.command("report", epilog="Example: gsco bench report runs/first")
def bench_report(run: Run, as_json: Json = False) -> None:
    """Write the report of a finished run anew."""
    from gsco.evaluation.bench import results
    from gsco.evaluation.page import write

    rows = results(run)
    if rows is None:
        raise UsageError(f"{run.name!r} is not finished. Go on with `gsco bench run --out`.")
    page = write(run, rows)
    if as_json:
        print_json({"version": 1, "report": str(page)})
    else:
        typer.echo(page)


def _shard(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise UsageError(f"Shard {text!r} is no part. Write 1/4 for the first of four.")
    return int(part), int(parts)


def _show(rows: list[dict[str, Any]] | None, out: Path, as_json: bool) -> None:
    from gsco import show

    if rows is None:
        typer.echo(f"Answers are in {out}; other shards are missing. Gather them with merge.")
    elif as_json:
        print_json({"version": 1, "rows": rows})
    else:
        show.benchmark(rows)
        typer.echo(f"Report: {out / 'report.html'}")
