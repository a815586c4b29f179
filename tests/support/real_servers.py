"""Real vLLM servers with gsco-tiny, for tests; skipped where vLLM is not installed."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from gsco.errors import GeneralistError
from gsco.generalist.tiny import FOLDER
from gsco.serving import Server, Service, free_port, installed_build


@contextmanager
def real_servers(count: int, folder: Path) -> Iterator[Sequence[Server]]:
    """Start so many servers side by side, with their logs in `folder`; stop them at the end."""
    try:
        installed_build()
    except GeneralistError as error:
        pytest.skip(str(error))
    with ExitStack() as stack:
        started = [
            stack.enter_context(Server(Service(FOLDER, free_port()), log=folder / f"{number}.log"))
            for number in range(count)
        ]
        for server in started:
            server.wait(600)
        yield started
