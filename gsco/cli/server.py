"""`gsco serve` and `gsco doctor`: a server for the generalist, and whether one is fit."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from gsco.cli.options import Json, print_json

SERVE_EXAMPLE = "Example: gsco serve OpenGVLab/InternVL3-8B --port 8000 -- --tensor-parallel-size 2"
DOCTOR_EXAMPLE = "Example: gsco doctor http://127.0.0.1:8000/v1"


def serve(
    model: Annotated[
        str, typer.Argument(help="Folder or hub id; gsco-tiny is the shipped one.")
    ] = "gsco-tiny",
    port: Annotated[int, typer.Option(min=1, max=65535, help="On this machine only.")] = 8000,
    name: Annotated[str, typer.Option(help="How clients call the model.")] = "",
    length: Annotated[int | None, typer.Option(min=64, help="Most tokens of a prompt.")] = None,
    images: Annotated[int, typer.Option(min=1, help="Most images of a prompt.")] = 4,
    log: Annotated[Path, typer.Option(help="File for what vLLM prints.")] = Path("vllm.log"),
    extra: Annotated[
        list[str] | None, typer.Argument(help="More flags for `vllm serve`, after `--`.")
    ] = None,
) -> None:
    """Serve a generalist with vLLM, with the flags that GSCo relies on, until Ctrl-C."""
    import signal

    from gsco import show
    from gsco.generalist.tiny import FOLDER
    from gsco.serving import Server, Service

    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, frame: sys.exit(0))
    service = Service(
        FOLDER if model == "gsco-tiny" else model,
        port,
        name,
        length,
        images,
        tuple(extra or ()),
    )
    with Server(service, log=log) as server:
        with show.console.status(f"Loading {service.offered}; vLLM's log is {log}"):
            server.wait()
        show.console.print(
            f"{service.offered} answers at {server.url}. Ctrl-C stops it.\n"
            f"gsco diagnose IMAGE --task TASK --generalist {server.url}"
        )
        try:
            code = server.join()
        except KeyboardInterrupt:
            return
    typer.echo(f"gsco: The server ended by itself with code {code}. See {log}.", err=True)
    raise typer.Exit(2)


def doctor(
    url: Annotated[str, typer.Argument(help="Address of the server, up to and with /v1.")],
    model: Annotated[str, typer.Option(help="Its name there; the one offered if empty.")] = "",
    as_json: Json = False,
) -> None:
    """Examine a server: does it keep to choices, look at images, fetch nothing."""
    from gsco.doctor import examine
    from gsco.settings import load_settings

    checks = examine(url, model=model, api_key=load_settings().api_key)
    if as_json:
        print_json({"version": 1, "url": url, "checks": [asdict(check) for check in checks]})
    else:
        from gsco import show

        show.checks(checks)
    if not all(check.ok for check in checks):
        raise typer.Exit(2)
