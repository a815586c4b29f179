"""Many servers: who gets what, who is left out, and that nothing is lost or asked for nothing."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from fake_server import DEAD, LONG, TASK, Server, serving
from openai import AsyncOpenAI
from PIL import Image

from gsco.errors import GeneralistError
from gsco.generalist.pool import AT_ONCE, FIRST, Endpoint
from gsco.generalist.served import ServedGeneralist, connect
from gsco.prompts import Prompt, build_prompt


def prompts(count: int, stem: str = "Look.") -> list[Prompt]:
    task = replace(TASK, stem=stem)
    pictures = [Image.new("RGB", (8, 8), (i, 0, 0)) for i in range(count)]
    return [
        build_prompt(task, images=[one], question=f"case {i}?") for i, one in enumerate(pictures)
    ]


def cases_at(server: Server) -> Counter[str]:
    """Return which questions a server was asked; proofs carry none."""
    texts = [body["messages"][-1]["content"][-1] for body in server.requests]
    return Counter(text["text"] for text in texts if isinstance(text, dict))


def urls_of(servers: Sequence[Server]) -> list[str]:
    return [server.url for server in servers]


def test_requests_that_begin_alike_meet_the_same_server() -> None:
    with serving() as one, serving() as other, connect(urls_of((one, other))) as generalist:
        generalist.read(prompts(8), permutations=1)
        assert sorted((cases_at(one).total(), cases_at(other).total())) == [0, 8]
        for number in range(12):
            generalist.read(prompts(2, f"Task {number}."), permutations=1)
        shares = [cases_at(server).total() for server in (one, other)]
    assert sum(shares) == 8 + 24
    assert min(shares) >= 2


def test_load_spills_over_and_no_server_gets_more_than_its_share() -> None:
    with (
        serving(delay=0.05) as one,
        serving(delay=0.05) as other,
        connect(urls_of((one, other)), at_once=2) as generalist,
    ):
        readings = generalist.read(prompts(12), permutations=1)
    assert all(reading.failure is None for reading in readings)
    assert one.busiest <= 2
    assert other.busiest <= 2
    assert min(cases_at(one).total(), cases_at(other).total()) >= 3
    assert all(count == 1 for count in (cases_at(one) + cases_at(other)).values())


def test_a_quick_server_gets_more_at_once_while_somebody_waits() -> None:
    with serving(delay=0.02) as server, connect([server.url], at_once=40) as generalist:
        generalist.read(prompts(30), permutations=1)
        (endpoint,) = generalist._pool.endpoints
        assert endpoint.share == FIRST
        readings = generalist.read(prompts(120), permutations=1)
        assert FIRST < endpoint.share <= 40
    assert all(reading.failure is None for reading in readings)
    assert server.busiest <= 40


@pytest.mark.parametrize(
    ("seconds", "wanted", "share"), [(1, False, 50), (1, True, 51), (20, True, 49), (20, False, 49)]
)
def test_a_share_grows_where_more_is_wanted_and_shrinks_where_an_answer_was_slow(
    seconds: float, wanted: bool, share: int
) -> None:
    endpoint = Endpoint("", AsyncOpenAI(api_key="none"), share=50)
    endpoint.answered(seconds, wanted)
    assert endpoint.share == share


def test_a_share_keeps_its_bounds_and_a_failure_takes_it_back() -> None:
    client = AsyncOpenAI(api_key="none")
    assert Endpoint("", client, most=2).share == 2
    endpoint = Endpoint("", client)
    endpoint.answered(20)
    assert endpoint.share == FIRST
    endpoint.share = AT_ONCE
    endpoint.answered(1, True)
    assert endpoint.share == AT_ONCE
    endpoint.failed()
    assert endpoint.share == FIRST


def test_when_a_server_dies_halfway_the_other_one_answers_the_rest() -> None:
    asked = prompts(24)
    with (
        serving(delay=0.02) as one,
        serving(delay=0.02) as other,
        connect(urls_of((one, other)), at_once=2) as generalist,
    ):
        generalist.read(prompts(1), permutations=1)
        # The one that the prompts prefer is the one that dies.
        victim, survivor = (one, other) if cases_at(one) else (other, one)
        victim.requests.clear()
        answered: list[str] = []

        def dying(body: dict[str, Any]) -> int:
            if len(answered) >= 6:
                victim.socket.close()
                return 500
            answered.append(body["messages"][-1]["content"][-1]["text"])
            return 200

        victim.refuses = dying
        readings = generalist.read(asked, permutations=1)
    assert [reading.prompt_hash for reading in readings] == [prompt.hash for prompt in asked]
    assert all(reading.failure is None for reading in readings)
    assert all(reading.probabilities for reading in readings)
    # What the victim had answered was not asked again, and every case was answered once.
    by_survivor = cases_at(survivor)
    assert not set(answered) & set(by_survivor)
    assert len(answered) + by_survivor.total() == 24


def gone(server: Server, generalist: ServedGeneralist) -> int:
    """Stop a server, let the generalist notice, and return its port."""
    server.shutdown()
    server.server_close()
    with pytest.raises(GeneralistError, match="No generalist answers"):
        generalist.read(prompts(1))
    return server.server_port


def test_a_server_that_comes_back_is_proved_and_works_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gsco.generalist.pool.FIRST_REST", 0.01)
    with serving() as server, ServedGeneralist([server.url], patience=0.5) as generalist:
        generalist.check()
        port = gone(server, generalist)
        with serving(port=port) as back:
            (reading,) = generalist.read(prompts(1), permutations=1)
            asked = [body["structured_outputs"]["choice"] for body in back.requests]
    assert reading.failure is None
    assert asked == [["zq7"], ["A", "B", "C"]]


def test_a_server_that_comes_back_with_another_model_gets_no_case(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gsco.generalist.pool.FIRST_REST", 0.01)
    with serving() as server, ServedGeneralist([server.url], patience=0.5) as generalist:
        generalist.check()
        port = gone(server, generalist)
        with (
            serving(port=port, model="other") as back,
            pytest.raises(GeneralistError, match="offers other, not 'tiny-vlm'"),
        ):
            generalist.read(prompts(1), permutations=1)
    assert cases_at(back).total() == 0


def test_a_server_that_offers_another_model_is_left_out() -> None:
    with (
        serving() as one,
        serving(model="other") as other,
        connect(urls_of((one, other)), model="tiny-vlm") as generalist,
    ):
        for number in range(6):
            generalist.read(prompts(1, f"Task {number}."))
    assert cases_at(other).total() == 0


def test_a_server_that_stumbles_once_is_asked_again() -> None:
    with serving() as server, connect([server.url]) as generalist:
        stumbles = iter([500])
        server.refuses = lambda body: next(stumbles, 200)
        (reading,) = generalist.read(prompts(1), permutations=1)
    assert reading.failure is None


def test_a_request_that_fails_everywhere_is_given_up() -> None:
    with serving() as server, connect([server.url]) as generalist:
        server.refuses = lambda body: 500 if "logprobs" in body else 200
        with pytest.raises(
            GeneralistError, match=r"failed 4 times, last at .* InternalServerError"
        ):
            generalist.read(prompts(1), permutations=1)


def test_one_refused_prompt_costs_no_other_its_answer() -> None:
    with serving() as server, connect([server.url]) as generalist:
        server.refuses = lambda body: 400 if "case 1?" in str(body) else 200
        readings = generalist.read(prompts(4))
    assert [reading.failure is None for reading in readings] == [True, False, True, True]
    assert "refused the request: 400" in str(readings[1].failure)
    assert readings[1].answer is None
    assert not readings[1].too_long


def test_a_prompt_longer_than_the_context_is_told_apart() -> None:
    with serving() as server, connect([server.url]) as generalist:
        server.error = LONG
        server.refuses = lambda body: 400
        (reading,) = generalist.read(prompts(1))
    assert reading.too_long
    assert "Recall fewer neighbours" in str(reading.failure)


def test_when_all_are_down_the_wait_ends_and_both_are_named() -> None:
    with serving() as server, ServedGeneralist([DEAD, server.url], patience=0.3) as generalist:
        generalist.check()
        server.shutdown()
        server.server_close()
        start = time.monotonic()
        with pytest.raises(GeneralistError, match=r":9/v1.*Start one with `gsco serve"):
            generalist.read(prompts(2))
    # A bound against waiting for ever, not a measurement.
    assert time.monotonic() - start < 60


def test_a_blip_under_load_costs_no_answer_and_a_few_failures_only() -> None:
    with serving(delay=0.05) as server, connect([server.url], at_once=16) as generalist:
        blip = iter([500] * 16)
        server.refuses = lambda body: next(blip, 200) if "logprobs" in body else 200
        readings = generalist.read(prompts(32), permutations=1)
        (endpoint,) = generalist._pool.endpoints
    assert [reading.failure for reading in readings] == [None] * 32
    # Sixteen requests failed; what a slow machine answers late may count once more.
    assert endpoint.failures <= 4


def test_a_server_that_cannot_be_proved_is_left_out_and_costs_nothing() -> None:
    with (
        serving() as good,
        serving(enforces=False) as free,
        serving() as locked,
        connect(urls_of((good, free, locked))) as generalist,
    ):
        locked.refuses = lambda body: 404
        for endpoint in generalist._pool.endpoints:
            endpoint.proved = False
        for number in range(8):
            readings = generalist.read(prompts(2, f"Task {number}."), permutations=1)
            assert [reading.failure for reading in readings] == [None, None]
    assert cases_at(free).total() == cases_at(locked).total() == 0
    assert "ignores" in generalist._pool.endpoints[1].refusal


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_server_that_lets_nobody_in_any_more_costs_no_case_while_another_does(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gsco.generalist.pool.FIRST_REST", 0.01)
    with (
        serving() as good,
        serving() as locked,
        connect(urls_of((good, locked)), at_once=2) as generalist,
    ):
        locked.refuses = lambda body: status
        if status == 404:
            locked.model = "other"
        locked_out = generalist._pool.endpoints[1]
        for number in range(200):
            readings = generalist.read(prompts(2, f"Task {number}."), permutations=1)
            assert [reading.failure for reading in readings] == [None, None]
            if locked_out.trouble:
                break
        assert cases_at(locked).total() > 0
        locked.refuses, locked.model = (lambda body: 200), "tiny-vlm"
        before = cases_at(locked).total()
        for number in range(200):
            generalist.read(prompts(2, f"Other {number}."), permutations=1)
            if cases_at(locked).total() > before:
                break
            time.sleep(0.01)
        assert cases_at(locked).total() > before


@pytest.mark.parametrize("status", [401, 403, 404])
def test_the_only_server_says_why_it_lets_nobody_in_and_may_let_them_in_again(status: int) -> None:
    with serving() as server, connect([server.url]) as generalist:
        server.refuses = lambda body: status
        with pytest.raises(GeneralistError, match=f"refused the request: {status}"):
            generalist.read(prompts(1), permutations=1)
        server.refuses = lambda body: 200
        (reading,) = generalist.read(prompts(1), permutations=1)
    assert reading.failure is None


def test_what_breaks_a_server_again_and_again_keeps_it_from_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gsco.generalist.pool.FIRST_REST", 0.01)
    with serving() as server, ServedGeneralist([server.url], patience=0.3) as generalist:
        generalist.check()
        server.refuses = lambda body: 500 if "case 0?" in str(body) else 200
        for _ in range(3):
            with pytest.raises(GeneralistError, match="failed 4 times"):
                generalist.read(prompts(1), permutations=1)
        (_, reading) = generalist.read(prompts(2), permutations=1)
    assert reading.failure is None


def test_a_busy_server_is_asked_again_later() -> None:
    with serving() as server, connect([server.url]) as generalist:
        busy = iter([429, 429])
        server.refuses = lambda body: next(busy, 200)
        (reading,) = generalist.read(prompts(1), permutations=1)
    assert reading.failure is None


def test_both_wordings_of_a_prompt_that_is_too_long_are_known() -> None:
    with serving() as server, connect([server.url]) as generalist:
        server.error = "The decoder prompt is longer than the maximum model length of 1024."
        server.refuses = lambda body: 400
        (reading,) = generalist.read(prompts(1))
    assert reading.too_long
