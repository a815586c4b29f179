"""Let the HTTP service listen until it is told to stop; then what is under way is finished."""

import socket
import warnings
from collections.abc import Callable
from typing import Any

import uvicorn

from gsco.agent import GSCo
from gsco.errors import UsageError
from gsco.loopback import is_loopback
from gsco.service.api import application
from gsco.service.gate import Rules

STOP_SECONDS = 30
"""How long requests under way may take after the signal to stop."""
# Any: the standard library's own type of such a configuration.
LOGS: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {
        "gsco.service": {"level": "INFO", "handlers": ["stderr"], "propagate": False},
        "uvicorn": {"level": "WARNING", "handlers": ["stderr"], "propagate": False},
        # What they say of a file may quote what stands in it.
        **{name: {"level": "CRITICAL"} for name in ("pydicom", "nibabel", "PIL")},
    },
}


def check_token(host: str, token: str) -> None:
    """Check that a service that others reach has a token, and that it can stand in a header.

    Raises:
        UsageError: otherwise.
    """
    if not token and not is_loopback(host):
        raise UsageError(
            f"Host {host!r} is reached from other machines, and there is no token. "
            "Set GSCO_TOKEN to a long random word, or listen at 127.0.0.1."
        )
    if not token.isascii() or any(c.isspace() or not c.isprintable() for c in token):
        raise UsageError(
            "The token holds blanks or letters beyond ASCII, which a header cannot carry. "
            "Choose another: `python -c 'import secrets; print(secrets.token_urlsafe())'`."
        )


def listen(
    agent: GSCo, host: str, port: int, rules: Rules, *, ready: Callable[[str], None]
) -> None:
    """Answer requests until SIGINT or SIGTERM.

    Args:
        agent: an open workspace.
        host: an address of this machine.
        port: 0 for a free one.
        rules: of the gate.
        ready: called with the service's URL when it listens.

    Raises:
        UsageError: no token where one is needed; or the address cannot be had.
    """
    check_token(host, rules.token)
    # A warning about a file may quote what stands in it.
    warnings.simplefilter("ignore")
    with _bound(host, port) as listening:
        config = uvicorn.Config(
            application(agent, rules),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=LOGS,
            # The gate writes a line without addresses or query strings.
            access_log=False,
            # A header that anybody can send says nothing about where a request comes from.
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        name = f"[{host}]" if ":" in host else host
        ready(f"http://{name}:{listening.getsockname()[1]}")
        uvicorn.Server(config).run(sockets=[listening])


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise UsageError(
            f"Cannot listen at {host!r}, port {port!r}: {error.strerror or error}. "
            "Stop what listens there, or choose another `--host` or `--port`."
        ) from error
