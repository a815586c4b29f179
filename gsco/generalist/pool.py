"""Several servers of one model: which one gets a request, who is out, and who may come back.

Requests that begin alike go to the same server, whose prefix cache then knows the beginning
(rendezvous hashing, Thaler and Ravishankar 1998); when it is busy they spill over to the next.
A server that fails rests, longer each time, and is proved again before it gets work. Nobody gets
more than its share at once: who asks for more waits. While somebody waits, the share of a server
that answers quickly grows: many short answers together cost it little more than a few.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from openai import AsyncOpenAI

from gsco.errors import GeneralistError

AT_ONCE = 128
"""Most requests in flight at one server."""
FIRST = 32
"""Requests in flight at a server that has not shown yet how quick it is."""
QUICK = 10.0
"""Seconds within which a server answers if it can take more: far from a client's patience."""
FIRST_REST, LONGEST_REST = 0.5, 30.0
"""Seconds that a server rests after a failure; the time doubles with each further one."""
PROVED_FAILURES = 3
"""Most failures in a row that count of a server that answers its proof."""

Prove = Callable[["Endpoint"], Awaitable[bool]]
"""Says whether a server answers and is what it should be; else it has marked the endpoint."""


@dataclass
class Endpoint:
    """One server, as the pool sees it."""

    url: str
    client: AsyncOpenAI
    most: int = AT_ONCE
    """Requests that it may ever have in flight."""
    share: int = FIRST
    """Requests that it may have in flight now."""
    busy: int = 0
    """Requests in flight."""
    failures: int = 0
    """In a row."""
    rests_until: float = 0.0
    """By the monotonic clock."""
    proved: bool = False
    """Whether it offers the model and keeps to choices, as far as is known."""
    proving: bool = False
    """Whether somebody is finding that out."""
    refusal: str = ""
    """Why it was turned away for good."""
    trouble: str = ""
    """Why it lets nobody in at present, if it says so."""

    def __post_init__(self) -> None:
        self.share = min(self.share, self.most)

    def failed(self) -> None:
        """Let it rest, and prove itself before it gets work again."""
        now = time.monotonic()
        self.proved = False
        self.share = min(FIRST, self.most)
        # What was in flight fails together: that is one failure.
        if now >= self.rests_until:
            self.rests_until = now + min(FIRST_REST * 2 ** min(self.failures, 10), LONGEST_REST)
            self.failures += 1

    def answered(self, seconds: float, wanted: bool = False) -> None:
        """Forget its failures; its share shrinks if it was slow, and grows if more is wanted."""
        self.failures, self.trouble = 0, ""
        if seconds > QUICK:
            self.share = max(self.share - 1, min(FIRST, self.most))
        elif wanted:
            self.share = min(self.share + 1, self.most)


class Pool:
    """The servers, and who waits for one. Belongs to one event loop."""

    def __init__(self, endpoints: Sequence[Endpoint], *, prove: Prove) -> None:
        self.endpoints = tuple(endpoints)
        self._prove = prove
        self._changed = asyncio.Event()
        self._waiting = 0

    @property
    def is_full(self) -> bool:
        """Whether somebody waits although every server works."""
        return self._waiting > 0 and all(e.proved or e.refusal for e in self.endpoints)

    def has_others(self, endpoint: Endpoint) -> bool:
        """Whether there is another server that was not turned away."""
        return any(one is not endpoint and not one.refusal for one in self.endpoints)

    @asynccontextmanager
    async def server(self, key: str, until: float) -> AsyncIterator[Endpoint]:
        """Lend a server to one request; wait for one if all are busy.

        Args:
            key: what the request begins with; equal keys meet the same server, if it is free.
            until: by the monotonic clock: wait no longer than this for servers that rest, or have
                to prove themselves.

        Raises:
            GeneralistError: every server is down or was turned away.
        """
        endpoint = await self._take(key, until)
        try:
            yield endpoint
        finally:
            endpoint.busy -= 1
            self._wake()

    async def _take(self, key: str, until: float) -> Endpoint:
        while True:
            free = self._free(key)
            if free is None:
                self._waiting += 1
                try:
                    await self._wait(until)
                finally:
                    self._waiting -= 1
            elif free.proved:
                free.busy += 1
                return free
            elif time.monotonic() > until and not any(e.proved for e in self.endpoints):
                # Others would rest for as long as this one leaves its proof without an answer.
                raise GeneralistError(self.dead())
            else:
                free.proving = True
                try:
                    free.proved = await self._prove(free)
                    if free.proved:
                        # What failed may have been what was asked of it: others need not wait
                        # for long.
                        free.failures = min(free.failures, PROVED_FAILURES)
                        free.trouble = ""
                finally:
                    free.proving = False
                    self._wake()

    def _free(self, key: str) -> Endpoint | None:
        """Return the first server in the key's order that is up and not full, proved or not."""
        now = time.monotonic()
        free = [
            e
            for e in self.endpoints
            if not e.refusal
            and e.rests_until <= now
            and (e.busy < e.share if e.proved else not e.proving)
        ]
        return max(free, key=lambda endpoint: _rank(key, endpoint.url), default=None)

    async def _wait(self, until: float) -> None:
        """Wait until something changes, or a server has rested."""
        now = time.monotonic()
        alive = [e for e in self.endpoints if not e.refusal]
        resting = [e.rests_until for e in alive if e.rests_until > now]
        if len(resting) == len(alive) and min(resting, default=float("inf")) > until:
            raise GeneralistError(self.dead())
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), min(resting) - now if resting else None)

    def _wake(self) -> None:
        """Let everybody who waits look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    def dead(self) -> str:
        """Say that nobody answers, and what to do."""
        urls = [endpoint.url for endpoint in self.endpoints]
        told = (endpoint.refusal or endpoint.trouble for endpoint in self.endpoints)
        reasons = " ".join(filter(None, told))
        return (
            f"No generalist answers at {urls!r}. {reasons}{' ' if reasons else ''}Start one with "
            "`gsco serve MODEL`, correct `generalist` in the settings, or leave it empty for the "
            "shipped gsco-tiny."
        )


def _rank(key: str, url: str) -> bytes:
    return hashlib.blake2b(f"{key}\n{url}".encode(), digest_size=8).digest()
