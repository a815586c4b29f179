"""How long a person waits for the page, and pictures of it for the documentation.

    python -m benchmarks.chat [--rounds 5]

Starts `gsco chat` over the starter workspace with gsco-tiny, opens it in a real Chromium, and takes
every sample in turn, after one round to warm up. Writes `benchmarks/results/chat.json`, and
`docs/chat.png`, `docs/chat-dark.png` and `docs/chat-phone.png`.
"""

import argparse
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from playwright.sync_api import Page, sync_playwright

from benchmarks.record import command_of, write

DOCS = Path(__file__).parent.parent / "docs"
SAMPLES = ("Agreement", "Dissent", "Out of domain", "Undecided")
BOX = "Drop or paste an image"
ALL = "What would change the answer"
LONG = 120_000
"""Milliseconds."""


@contextmanager
def chatting() -> Iterator[str]:
    """Serve the page in a process of its own, and tell its address."""
    command = [sys.executable, "-u", "-m", "gsco", "chat"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://\S+/", line)
        if found is None:
            raise SystemExit(f"The page did not start: {line}")
        yield found.group()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def ask(page: Page, sample: str) -> dict[str, float]:
    """Take a sample in a new case; return the seconds to the answer and to all evidence."""
    page.get_by_role("button", name="New case").click()
    page.get_by_text("Nothing yet.").wait_for()
    start = time.perf_counter()
    page.get_by_role("button", name=sample).click()
    page.get_by_text("Composed from the evidence").first.wait_for(timeout=LONG)
    answered = time.perf_counter() - start
    page.get_by_text(ALL).first.wait_for(timeout=LONG)
    whole = time.perf_counter() - start
    return {"answer": answered, "all_evidence": whole}


def opened(page: Page, address: str) -> float:
    """Load the page; return the seconds until a person can type."""
    start = time.perf_counter()
    page.goto(address)
    page.get_by_placeholder(BOX).wait_for()
    return time.perf_counter() - start


def picture(browser: Any, address: str, name: str, width: int, height: int) -> None:
    """Save a picture of the page with a case in it."""
    page = browser.new_page(viewport={"width": width, "height": height})
    page.goto(f"{address}?__theme={'dark' if 'dark' in name else 'light'}")
    page.get_by_role("button", name="Dissent").click()
    page.get_by_text(ALL).first.wait_for(timeout=LONG)
    page.locator("#evidence").evaluate("element => element.scrollIntoView()")
    page.wait_for_timeout(500)
    page.screenshot(path=DOCS / f"{name}.png", full_page="phone" not in name)
    page.close()


def main() -> None:
    """Measure, then take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    DOCS.mkdir(exist_ok=True)
    with chatting() as address, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1300, "height": 950})
        loads = [opened(page, address) for _ in range(given.rounds + 1)][1:]
        for sample in SAMPLES:
            ask(page, sample)
        waits = [ask(page, sample) for _ in range(given.rounds) for sample in SAMPLES]
        figures: dict[str, object] = {
            "generalist": "gsco-tiny",
            "n": len(waits),
            "failures": 0,
            "seed": 0,
            "seconds_to_type": {"median": median(loads), "all": loads},
        }
        for name in waits[0]:
            each = [wait[name] for wait in waits]
            figures[f"seconds_to_{name}"] = {"median": median(each), "all": each}
        print(write("chat", command_of("chat", parser, given), figures))
        picture(browser, address, "chat", 1300, 950)
        picture(browser, address, "chat-dark", 1300, 950)
        picture(browser, address, "chat-phone", 390, 844)
        browser.close()


if __name__ == "__main__":
    main()
