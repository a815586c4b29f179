"""The gate: how much it reads of what it refuses, and how it counts requests."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from starlette.types import Message, Scope

from gsco.agent import GSCo
from gsco.service.api import application
from gsco.service.gate import Rules
from gsco.service.limits import MANY, Limits, Rate

CHUNK = 1_000_000
HEAD = (
    b'--b\r\nContent-Disposition: form-data; name="images"; filename="x"\r\n'
    b"Content-Type: image/png\r\n\r\n"
)


def scope(*headers: tuple[bytes, bytes]) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/diagnose",
        "raw_path": b"/v1/diagnose",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"content-type", b"multipart/form-data; boundary=b"), *headers],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8765),
    }


class Upload:
    """A body of many chunks that counts how many were read."""

    def __init__(self, chunks: int, pause: float = 0.0) -> None:
        self.read = 0
        self._chunks = self._made(chunks, pause)

    async def _made(self, chunks: int, pause: float) -> AsyncIterator[bytes]:
        yield HEAD
        for _ in range(chunks):
            await asyncio.sleep(pause)
            yield bytes(CHUNK)

    async def receive(self) -> Message:
        self.read += 1
        return {"type": "http.request", "body": await anext(self._chunks), "more_body": True}


def answer(agent: GSCo, limits: Limits, upload: Upload, *headers: tuple[bytes, bytes]) -> int:
    """Send the upload and return the status."""
    statuses = []

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    asyncio.run(application(agent, Rules(limits))(scope(*headers), upload.receive, send))
    return int(statuses[0])


def test_a_body_that_grows_too_large_is_cut_off_while_it_arrives(starter_agent: GSCo) -> None:
    upload = Upload(200)
    assert answer(starter_agent, Limits(megabytes=3), upload) == 413
    assert upload.read == 4


def test_a_body_that_says_that_it_is_too_large_is_not_read(starter_agent: GSCo) -> None:
    upload = Upload(200)
    length = (b"content-length", b"200000000")
    assert answer(starter_agent, Limits(megabytes=3), upload, length) == 413
    assert upload.read == 0


def test_a_body_that_takes_too_long_is_cut_off(starter_agent: GSCo) -> None:
    upload = Upload(200, pause=30)
    assert answer(starter_agent, Limits(seconds=0.05), upload) == 408
    assert upload.read == 2


@pytest.fixture
def clock() -> list[float]:
    return [1000.0]


@pytest.fixture
def rate(clock: list[float]) -> Callable[[int], Rate]:
    return lambda per_minute: Rate(per_minute, lambda: clock[0])


def test_so_many_requests_may_come_at_once_then_one_as_each_falls_due(
    rate: Callable[[int], Rate], clock: list[float]
) -> None:
    three = rate(3)
    assert [three.wait("a") for _ in range(3)] == [0, 0, 0]
    assert three.wait("a") == pytest.approx(20)
    assert three.wait("b") == 0
    clock[0] += 15
    assert three.wait("a") == pytest.approx(5)
    clock[0] += 5
    assert [three.wait("a"), three.wait("a")] == [0, pytest.approx(20)]
    clock[0] += 600
    assert [three.wait("a") for _ in range(4)] == [0, 0, 0, pytest.approx(20)]


def test_no_rate_is_no_limit(rate: Callable[[int], Rate]) -> None:
    none = rate(0)
    assert {none.wait("a") for _ in range(1000)} == {0}


def test_callers_who_have_been_quiet_are_forgotten(
    rate: Callable[[int], Rate], clock: list[float]
) -> None:
    many = rate(60)
    for number in range(MANY):
        many.wait(str(number))
    clock[0] += 61
    many.wait("late")
    assert len(many._due) == 1
