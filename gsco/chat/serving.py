"""The page as a server on this machine: its folder of uploads, its login, its models warmed up.

with served(GSCo.open()) as address:
...
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from PIL import Image

from gsco.case import Case
from gsco.chat.evidence import style
from gsco.chat.page import asset, build
from gsco.errors import GscoError, UsageError
from gsco.loopback import LOOPBACK, is_loopback
from retrieval import RetrievalError
from specialists import SpecialistError

if TYPE_CHECKING:
    from starlette.middleware import Middleware

    from gsco.agent import GSCo

LARGEST_UPLOAD = "64mb"


def _uploads() -> Path:
    """Return a new private folder for uploads; those of pages that were killed are deleted."""
    for old in Path(tempfile.gettempdir()).glob("gsco-chat-*-*"):
        owner = old.name.split("-")[2]
        if owner.isdecimal() and not Path(f"/proc/{owner}").exists() and Path("/proc/1").exists():
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"gsco-chat-{os.getpid()}-"))


def _only_for(host: str) -> "Middleware":
    """Refuse requests under foreign names: a web page may let its own name mean this machine."""
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    # Of an address in brackets Starlette keeps what stands before the first colon.
    return Middleware(TrustedHostMiddleware, allowed_hosts=[host, *LOOPBACK, "["])


def _warm(agent: "GSCo") -> None:
    """Load the models while the first person is still looking for an image."""
    blank = Image.new("RGB", (64, 64))
    for task in agent.tasks:
        # Whatever fails here fails again, with a sentence, where a person asks.
        with suppress(GscoError, SpecialistError, RetrievalError):
            agent.diagnose(Case((blank,), task))


@contextmanager
def served(
    agent: "GSCo",
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    login: str = "",
) -> Iterator[str]:
    """Serve the page until the block ends, and tell its address; then delete all uploads.

    Args:
        agent: an opened workspace.
        host: address to listen at; beyond this machine only with a login.
        port: the first free one from 7860 on if None.
        login: `name:password`, or empty for none.

    Raises:
        UsageError: a host beyond this machine without a login, a login that is none, or a port
            that is taken.
    """
    from gsco.settings import process_environment

    name, _, password = login.partition(":")
    if login and not (name and password):
        raise UsageError(
            "The login is not of the form name:password. Write it so in --auth or GSCO_LOGIN."
        )
    if not login and not is_loopback(host):
        raise UsageError(
            f"Without a login the page is not served at {host!r}, where others could open it. "
            "Set GSCO_LOGIN=name:password or give --auth, or leave --host out."
        )
    if find_spec("gradio") is None:
        raise UsageError("The page needs Gradio. Install it with `pip install gsco[app]`.")
    folder = _uploads()
    process_environment()["GRADIO_TEMP_DIR"] = str(folder)
    page = build(agent)
    try:
        _, address, _ = page.queue(max_size=64).launch(
            server_name=host,
            server_port=port,
            auth=[(name, password)] if login else None,
            share=False,
            prevent_thread_lock=True,
            quiet=True,
            show_error=True,
            run_history=False,
            footer_links=[],
            max_file_size=LARGEST_UPLOAD,
            ssr_mode=False,
            css=asset("page.css") + style(),
            js=asset("reach.js"),
            inbrowser=False,
            app_kwargs={"middleware": [] if login else [_only_for(host)]},
        )
        Thread(target=_warm, args=[agent], daemon=True).start()
        yield address
    except OSError as error:
        raise UsageError(
            f"Port {port} cannot be used ({error}). Choose another `--port`."
        ) from error
    finally:
        page.close(verbose=False)
        shutil.rmtree(folder, ignore_errors=True)
