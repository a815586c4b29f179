"""`gsco api` as a process: where it may listen, what it logs, and how it stops."""

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest
from command import run

from gsco.loopback import is_loopback

Printed = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.5", False),
        ("hospital.example", False),
    ],
)
def test_what_only_this_machine_reaches_is_known(host: str, local: bool) -> None:
    assert is_loopback(host) == local


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--host", "0.0.0.0"), "Host '0.0.0.0' is reached from other machines"),
        (("--host", "::"), "Set GSCO_TOKEN to a long random word"),
        (("--token", "two words"), "The token holds blanks"),
        (("--token", "schlüssel"), "letters beyond ASCII"),
    ],
)
def test_a_service_that_would_be_open_is_refused(
    words: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    assert run(monkeypatch, "api", "--port", "0", *words) == 2
    told = capsys.readouterr().err
    assert says in told
    assert words[1] not in told or words[0] == "--host"


def test_a_taken_port_is_named(monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run(monkeypatch, "api", "--port", port) == 2
    assert f"Cannot listen at '127.0.0.1', port {port}" in capsys.readouterr().err


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert run(monkeypatch, "api") == 2
    told = capsys.readouterr().err
    assert 'needs uvicorn, which is not installed. Run `pip install "gsco[api]"`.' in told


def test_the_command_explains_itself(monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    assert run(monkeypatch, "api", "--help") == 0
    assert "gsco api" in capsys.readouterr().out.split("Example:")[1]


@pytest.fixture
def process(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A service of its own, and its URL; what it logs goes to `log`."""
    words = [sys.executable, "-m", "gsco", "api", "--port", "0", "--megabytes", "2"]
    with (tmp_path / "log").open("w") as log:
        started = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True)
        assert started.stdout
        with started, started.stdout:
            try:
                first = started.stdout.readline()
                yield started, re.search(r"http://[0-9.:]+", first)[0]  # type: ignore[index]  # fails if None
            finally:
                started.kill()


@pytest.mark.slow
def test_a_real_service_answers_cuts_off_logs_no_query_and_stops(
    process: tuple[subprocess.Popen[str], str], picture: Callable[..., bytes], tmp_path: Path
) -> None:
    started, url = process
    form = {"task": "pneumonia-cxr", "system": "stack"}
    with httpx2.Client(base_url=url, trust_env=False, timeout=60) as client:
        assert client.get("/health").json()["status"] == "ok"
        files = {"images": ("Jane.png", picture(1))}
        made = client.post("/v1/diagnose?patient=Jane", files=files, data=form)
        assert made.json()["answer"] in {"normal", "pneumonia"}
        assert "server" not in made.headers
        big = client.post("/v1/diagnose", files={"images": bytes(50_000_000)}, data=form)
        assert (big.status_code, big.json()["type"]) == (413, "/docs#too-large")
        # The connection is closed while the header still comes.
        with suppress(httpx2.ReadError):
            assert client.get("/health", headers={"x-long": "x" * 1_000_000}).status_code == 400
        assert client.get("/health", headers={"host": "evil.example"}).status_code == 421
    started.send_signal(signal.SIGTERM)
    assert started.wait(30) == 0
    log = (tmp_path / "log").read_text()
    assert re.search(r"INFO POST /v1/diagnose 200 \d+ ms", log)
    assert "Jane" not in log
    assert "Traceback" not in log
