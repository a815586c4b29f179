"""`gsco chat`: the page, on this machine."""

import sys
from contextlib import suppress
from typing import Annotated

import typer

from gsco.cli.options import Generalist, Workspace, open_agent

CHAT_EXAMPLE = "Example: gsco chat -w workspace --generalist http://127.0.0.1:8000/v1"


def chat(
    workspace: Workspace = None,
    generalist: Generalist = None,
    host: Annotated[str, typer.Option(help="Beyond this machine only with a login.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="The first free one from 7860 if left out.")
    ] = None,
    auth: Annotated[
        str, typer.Option(help="name:password of a login; GSCO_LOGIN does not show in `ps`.")
    ] = "",
) -> None:
    """Open the chat: drop an image, ask, see every piece of evidence, take the report away."""
    import signal

    from gsco.chat.serving import served

    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, frame: sys.exit(0))

    agent = open_agent(workspace, generalist)
    with served(agent, host=host, port=port, login=auth or agent.settings.login) as address:
        typer.echo(f"GSCo answers at {address}. Ctrl-C stops it.")
        with suppress(KeyboardInterrupt):
            signal.pause()
