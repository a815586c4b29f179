"""`gsco bench`: every system side by side, in a folder that can be left and found again."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from gsco.settings import load_settings

if TYPE_CHECKING:
    from gsco.agent import GSCo
    from gsco.evaluation.bench import Item
    from gsco.evaluation.wordsets import WordSet

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
        list[str] | None,
        typer.Argument(
            help="Tasks, and sets of questions or reports; all that are there if left out."
        ),
    ] = None,
    workspace: Workspace = None,
    suite: Annotated[
        str | None, typer.Option(help="gsco28, open or local: sets by one name, beside the names.")
    ] = None,
    system: Annotated[str, typer.Option(help="all, or names parted by commas.")] = "all",
    limit: Limit = None,
    shard: Annotated[str, typer.Option(help="i/n: ask every n-th case only; see merge.")] = "1/1",
    style: Annotated[str, typer.Option(help="Prompt style: calibrated or paper.")] = "calibrated",
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    retry: Annotated[bool, typer.Option(help="Ask cases again that failed.")] = False,
    allow_overlap: Annotated[
        bool, typer.Option(help="Let the generalist be asked about images that it learnt from.")
    ] = False,
    evidence: Annotated[
        str | None, typer.Option(help="Task whose evidence stands beside questions and reports.")
    ] = None,
    engine: Annotated[str, typer.Option(help="local, or ray: on a cluster.")] = "local",
    ray_address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster; one on this machine if left out.")
    ] = None,
    generalist: Generalist = None,
    as_json: Json = False,
) -> None:
    """Ask every system the same test cases; killed and called again, it goes on.

    Beside the tasks of the workspace, the generalist is asked the questions (`vqa-rad`), and with
    --evidence for the reports (`iu-xray`), of the published sets whose folders are there.
    """
    from gsco import show
    from gsco.evaluation.bench import Scope, run
    from gsco.evaluation.engine import engine_named
    from gsco.evaluation.page import write
    from gsco.evaluation.words import run_words, word_results

    chosen = systems_named(system)
    scope = Scope(limit, _shard(shard), style_named(style), seed, retry, allow_overlap)
    agent = open_agent(workspace, generalist)
    items, sets, left = _found(agent, data, names or [], suite, evidence is not None)
    show.left_out(left)
    if not items and not sets:
        raise UsageError(
            f"No constructed task has its data under {data.name!r}. Name the folders as the sets "
            "are named there, or give another --workspace."
        )
    rows: list[dict[str, Any]] | None = []
    said: list[dict[str, Any]] | None = []
    address = load_settings(ray_address=ray_address).ray_address
    with engine_named(engine, address) as asking, show.progress() as told:
        if items:
            rows = run(agent, items, chosen, out, scope, told, asking, told.say)
        if sets:
            said = run_words(agent, sets, out, scope, evidence, told, asking, told.say)
    if rows is not None and said is not None:
        at_hand = {item.name: item.dataset for item in items}
        write(out, rows, said or word_results(out), at_hand)
    _show(rows, said, out, as_json)


@bench_app.command("merge", epilog="Example: gsco bench merge --out runs/whole runs/a runs/b")
def bench_merge(
    out: Out,
    shards: Annotated[list[Path], typer.Argument(help="Folders of the shards.")],
    as_json: Json = False,
) -> None:
    """Gather shards into one run and measure it."""
    from gsco.evaluation.page import write
    from gsco.evaluation.stored import has_sets, merge
    from gsco.evaluation.words import has_words, merge_words

    # Shards may have asked for words only.
    worded = any(has_words(shard) for shard in shards)
    whole = [shard for shard in shards if has_sets(shard) or not worded]
    rows = merge(out, whole) if whole else []
    said = merge_words(out, shards) if worded else []
    if rows is not None and said is not None:
        write(out, rows, said)
    _show(rows, said, out, as_json)


@bench_app.command("verify", epilog="Example: gsco bench verify runs/first")
def bench_verify(run: Run, as_json: Json = False) -> None:
    """Compute every figure anew from the stored answers, without any model."""
    from gsco.evaluation.stored import has_sets, verify
    from gsco.evaluation.words import has_words, verify_words

    # A run may have asked for words only.
    problems = [] if has_words(run) and not has_sets(run) else verify(run)
    problems += verify_words(run)
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
    from gsco.evaluation.stored import compare

    rows = compare(one, other)
    if as_json:
        print_json({"version": 1, "rows": rows})
    else:
        show.comparison(rows)


@bench_app.command("report", epilog="Example: gsco bench report runs/first")
def bench_report(run: Run, as_json: Json = False) -> None:
    """Write the report of a finished run anew."""
    from gsco.evaluation.page import write
    from gsco.evaluation.stored import has_sets, results
    from gsco.evaluation.words import has_words

    rows = [] if has_words(run) and not has_sets(run) else results(run)
    if rows is None:
        raise UsageError(f"{run.name!r} is not finished. Go on with `gsco bench run --out`.")
    page = write(run, rows)
    if as_json:
        print_json({"version": 1, "report": str(page)})
    else:
        typer.echo(page)


def _found(
    agent: "GSCo", data: Path, names: list[str], suite: str | None, reports: bool
) -> "tuple[list[Item], list[WordSet], dict[str, str]]":
    """Return the sets of the names and the suite that can be asked, and why others cannot."""
    from gsco.evaluation.bench import local_items
    from gsco.evaluation.suites import choose
    from gsco.evaluation.wordsets import is_word_set, word_sets

    everything = suite == "local" or (suite is None and not names)
    chosen = choose(suite or "local", agent.tasks, data)
    words = [name for name in names if is_word_set(name)]
    tasks = [name for name in names if name not in words]
    asked = list(dict.fromkeys([*tasks, *(agent.tasks if everything else chosen.tasks)]))
    items, left = local_items(agent, data, asked) if asked else ([], {})
    sets, others = word_sets(data, words, reports=reports) if words else ([], {})
    more = [name for name in chosen.words if name not in words]
    if more or everything:
        found, absent = word_sets(data, more, reports=reports, forgive=True)
        sets += [one for one in found if one.name not in words]
        others |= absent
    return items, sets, {**chosen.left, **left, **others}


def _shard(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise UsageError(f"Shard {text!r} is no part. Write 1/4 for the first of four.")
    return int(part), int(parts)


def _show(
    rows: list[dict[str, Any]] | None, said: list[dict[str, Any]] | None, out: Path, as_json: bool
) -> None:
    from gsco import show

    if rows is None or said is None:
        typer.echo(f"Answers are in {out}; other shards are missing. Gather them with merge.")
    elif as_json:
        print_json({"version": 1, "rows": rows, "words": said})
    else:
        if rows:
            show.benchmark(rows)
        show.words(said)
        typer.echo(f"Report: {out / 'report.html'}")
