"""The page over the starter workspace, and a real browser that looks at it."""

import shutil
from collections.abc import Iterator

import pytest

from gsco.agent import GSCo
from gsco.chat.page import served

pytest.importorskip("gradio", reason="the [app] extra is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def starter() -> GSCo:
    return GSCo.open()


@pytest.fixture(scope="session")
def address(starter: GSCo) -> Iterator[str]:
    with served(starter) as url:
        yield url


@pytest.fixture(scope="session")
def browser() -> "Iterator[object]":
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as play:
        opened = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()
