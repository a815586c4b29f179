"""Answers that are broken off: stopped, left by the person, or left by the server."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_server import Server, serving

from gsco.agent import GSCo
from gsco.chat import talking
from gsco.chat.evidence import Shelf
from gsco.chat.session import Session
from gsco.chat.talking import Question
from gsco.datasets.samples import packaged_samples
from gsco.errors import GeneralistError, UsageError
from gsco.prompts import Prompt
from gsco.settings import Settings

TASK = "brain-mri"


def evenly(body: dict[str, Any]) -> dict[str, float]:
    choices = body["structured_outputs"]["choice"]
    return {choice: 1 / len(choices) for choice in choices}


def quiet(server: Server, patience: float = 2.0) -> None:
    """Wait until nothing was asked for so many seconds."""
    known, since = -1, time.monotonic()
    while time.monotonic() - since < patience:
        if server.busy or len(server.requests) != known:
            known, since = len(server.requests), time.monotonic()
        time.sleep(0.05)


class Mute:
    """A generalist whose server is gone."""

    name, identity, answer_form, writes, seen = "mute", "mute", "letter", False, frozenset[str]()

    def read(self, prompts: list[Prompt], permutations: int = 2) -> list[None]:
        raise GeneralistError("The server does not answer. Start it again.")


def sample() -> Path:
    return next(one.path for one in packaged_samples() if one.name == "brain-mri")


def test_an_answer_that_was_cut_says_so() -> None:
    session = Session()
    with (
        serving(evenly) as server,
        GSCo.open(settings=Settings(generalist=server.url)) as agent,
    ):
        server.ends = "length"
        asked = (Question("", (sample(),), TASK), Question("Which lobe is it in?"))
        for question in asked:
            list(talking.converse(agent, Shelf(agent), session, question))
    assert session.talk is not None
    said = session.talk.messages[-1]["content"]
    assert said.startswith("The lungs are clear.\n\nThe text was cut after 500 tokens.")


def test_without_its_server_the_rest_still_answers_and_says_so() -> None:
    agent = GSCo.open(generalist=Mute())  # type: ignore[arg-type]  # as much of it as is asked
    session = Session()
    list(talking.converse(agent, Shelf(agent), session, Question("", (sample(),), TASK)))
    assert session.talk is not None
    assert "Some parts failed: generalist." in session.talk.messages[-1]["content"]
    moments = talking.converse(agent, Shelf(agent), session, Question("Is it large?"))
    with pytest.raises(GeneralistError, match="Start it again"):
        list(moments)


def test_nothing_to_retry_is_said() -> None:
    agent = GSCo.open()
    with pytest.raises(UsageError, match="Nothing was asked yet"):
        list(talking.retry(agent, Shelf(agent), Session()))


@pytest.fixture
def slow() -> Iterator[Server]:
    with serving(evenly, delay=0.7) as server:
        yield server


@pytest.mark.slow
def test_work_stops_when_the_person_stops_it_or_leaves(
    browser: Any, chat: Callable[..., Any], slow: Server, tmp_path: Path
) -> None:
    with chat(tmp_path, GSCO_GENERALIST=slow.url) as one:
        quiet(slow, 4)
        asked = []
        for ending in ("done", "stop", "leave"):
            before = len(slow.requests)
            context = browser.new_context()
            page = context.new_page()
            page.goto(one.address)
            page.get_by_role("button", name="Dissent").click()
            if ending == "done":
                page.get_by_text("What would change the answer").first.wait_for(timeout=60_000)
            else:
                page.get_by_text("Looking").first.wait_for(timeout=60_000)
            if ending == "stop":
                page.get_by_role("button", name="Stop").click()
                page.get_by_text("Stopped. Send again, or retry.").wait_for(timeout=60_000)
            context.close()
            quiet(slow)
            asked.append(len(slow.requests) - before)
        done, stopped, left = asked
        assert stopped < done / 2
        assert left < done / 2


@pytest.mark.slow
def test_a_server_that_dies_in_mid_answer_leaves_a_sentence(
    browser: Any, chat: Callable[..., Any], tmp_path: Path
) -> None:
    with serving(evenly) as server, chat(tmp_path, GSCO_GENERALIST=server.url) as one:
        page = browser.new_page()
        page.goto(one.address)
        page.get_by_role("button", name="Dissent").click()
        page.get_by_text("What would change the answer").first.wait_for(timeout=60_000)
        server.refuses = lambda body: 500
        page.get_by_role("button", name="Out of domain").click()
        page.get_by_text("Some parts failed: generalist").first.wait_for(timeout=90_000)
        assert "Traceback" not in page.locator("body").inner_text()
        page.close()
