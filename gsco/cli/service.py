"""`gsco api` and `gsco mcp`: GSCo for other programs, over HTTP and as an agent's tools."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from gsco.case import NOTICE
from gsco.cli.options import Generalist, Workspace, open_agent
from gsco.errors import UsageError
from gsco.loopback import LOOPBACK

MCP_EXAMPLE = "Example: gsco mcp --workspace w --allow ~/images"
API_EXAMPLE = "Example: gsco api --workspace w --port 8765"


def api(
    workspace: Workspace = None,
    generalist: Generalist = None,
    host: Annotated[str, typer.Option(help="Beyond this machine only with a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8765,
    token: Annotated[
        str | None, typer.Option(help="What callers must show; better set as GSCO_TOKEN.")
    ] = None,
    megabytes: Annotated[int, typer.Option(min=1, max=10_000, help="Largest upload.")] = 64,
    per_minute: Annotated[
        int, typer.Option(min=0, help="Requests of one address in a minute; 0: no limit.")
    ] = 120,
) -> None:
    """Answer over HTTP until Ctrl-C: images and a task come in, diagnoses go out as JSON."""
    import signal

    _need("api", "fastapi", "uvicorn", "python_multipart")
    from gsco.agent import GSCo
    from gsco.service.gate import Rules
    from gsco.service.limits import Limits
    from gsco.service.listening import listen
    from gsco.settings import load_settings

    settings = load_settings(generalist=generalist, token=token)
    limits = Limits(megabytes=megabytes, per_minute=per_minute)
    rules = Rules(limits, settings.token, () if settings.token else (host, *LOOPBACK))

    def ready(url: str) -> None:
        typer.echo(f"GSCo answers at {url}/v1, described at {url}/docs. Ctrl-C stops it.\n{NOTICE}")

    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    with suppress(KeyboardInterrupt), GSCo.open(workspace, settings=settings) as agent:
        listen(agent, host, port, rules, ready=ready)


def mcp(
    workspace: Workspace = None,
    generalist: Generalist = None,
    allow: Annotated[
        list[Path] | None,
        typer.Option(help="Read images below this folder; repeat it. The current one if left out."),
    ] = None,
) -> None:
    """Offer diagnoses, neighbours, specialists and tasks to an agent, over standard input (MCP)."""
    _need("mcp", "mcp")
    from gsco.service.mcp import server

    folders = allow or [Path()]
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"{str(folder)!r} is no folder. Give `--allow` a folder of images.")
    with suppress(KeyboardInterrupt), open_agent(workspace, generalist) as agent:
        server(agent, folders).run("stdio")


def _need(extra: str, *modules: str) -> None:
    """Raise with the extra to install where a module is missing."""
    from importlib.util import find_spec

    if missing := [name for name in modules if find_spec(name) is None]:
        raise UsageError(
            f"`gsco {extra}` needs {', '.join(missing)}, which is not installed. "
            f'Run `pip install "gsco[{extra}]"`.'
        )
