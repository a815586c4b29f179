"""The page with its generalist behind a real vLLM server, which then goes away."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from real_servers import real_servers

from gsco.serving import Server

pytestmark = pytest.mark.slow
LONG = 120_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with real_servers(1, tmp_path_factory.mktemp("vllm")) as (started,):
        yield started


def test_a_case_is_talked_about_with_a_real_server_until_it_goes(
    browser: Any, chat: Callable[..., Any], server: Server, tmp_path: Path
) -> None:
    with chat(tmp_path, GSCO_GENERALIST=server.url) as one:
        page = browser.new_page()
        page.goto(one.address)
        page.get_by_label("System").click()
        page.get_by_role("option", name="gsco", exact=True).click()
        page.get_by_role("button", name="Dissent").click()
        page.get_by_text("What would change the answer").first.wait_for(timeout=LONG)
        sheet = page.locator("#evidence")
        assert sheet.locator(".answer").inner_text() == "no tumour"
        assert "Looking alone" in sheet.inner_text()
        box = page.get_by_placeholder("Drop or paste an image")
        box.fill("Is there a tumour?")
        box.press("Enter")
        page.get_by_text("no (").or_(page.get_by_text("yes (")).first.wait_for(timeout=LONG)
        server.stop()
        page.get_by_role("button", name="Out of domain").click()
        page.get_by_text("Some parts failed: generalist").first.wait_for(timeout=LONG)
        assert "Traceback" not in page.locator("body").inner_text()
        page.close()
