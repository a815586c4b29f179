"""The page as `gsco chat` serves it in a process of its own, and a real browser that looks."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gsco.agent import GSCo


@dataclass(frozen=True)
class Served:
    """A page that is being served."""

    address: str
    uploads: Path
    """Under which its private folder lies."""
    process: subprocess.Popen[str]


@contextmanager
def chatting(uploads: Path, **settings: str) -> Iterator[Served]:
    """Start `gsco chat` and wait until it tells its address; end it as a person would."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GSCO_")}
    environment |= {"TMPDIR": str(uploads), "OMP_NUM_THREADS": "1", **settings}
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "gsco", "chat"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        told: list[str] = []
        for line in process.stdout:
            told.append(line)
            if found := re.search(r"http://\S+/", line):
                yield Served(found.group(), uploads, process)
                break
        else:
            pytest.fail("".join(told))
    finally:
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=60)
    assert "Traceback" not in rest, rest


@pytest.fixture(scope="session")
def starter() -> GSCo:
    return GSCo.open()


@pytest.fixture(scope="session")
def chat() -> Callable[..., Any]:
    pytest.importorskip("gradio", reason="the [app] extra is not installed")
    return chatting


@pytest.fixture(scope="session")
def address(chat: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with chat(tmp_path_factory.mktemp("uploads")) as one:
        yield one.address
