"""Several servers of one model: which one gets a request, who is out, and who may come back.

Requests that begin alike go to the same server, whose prefix cache then knows the beginning
(rendezvous hashing, Thaler and Ravishankar 1998); when it is busy they spill over to the next.
A server that fails rests, longer each time, and is proved again before it gets work. Nobody gets
more than its share at once: who asks for more waits.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from openai import AsyncOpenAI

from gsco.errors import GeneralistError

AT_ONCE = 32
"""Requests in flight at one server."""
FIRST_REST, LONGEST_REST = 0.5, 30.0
"""Seconds that a server rests after a failure; the time doubles with each further one."""

Prove = Callable[["Endpoint"], Awaitable[bool]]
"""Says whether a server answers and is what it should be; else it has marked the endpoint."""


@dataclass
class Endpoint:
    """One server, as the pool sees it."""

    url: str
    client: AsyncOpenAI
    busy: int = 0
    """Requests in flight."""
    failures: int = 0
    """In a row."""
    rests_until: float = 0.0
    """By the monotonic clock."""
    proved: bool = False
    """Whether it offers the model and keeps to choices, as far as is known."""
    refusal: str = ""
    """Why it was turned away for good."""

    def failed(self) -> None:
        """Let it rest, and prove itself before it gets work again."""
        rest = min(FIRST_REST * 2**self.failures, LONGEST_REST)
        self.failures += 1
        self.rests_until = time.monotonic() + rest
        self.proved = False

    def answered(self) -> None:
        """Forget its failures."""
        self.failures = 0


class Pool:
    """The servers, and who waits for one. Belongs to one event loop."""

    def __init__(
        self, endpoints: Sequence[Endpoint], *, prove: Prove, at_once: int = AT_ONCE
    ) -> None:
        self.endpoints = tuple(endpoints)
        self._prove = prove
        self._at_once = at_once
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def server(self, key: str, until: float) -> AsyncIterator[Endpoint]:
        """Lend a server to one request; wait for one if all are busy.

        Args:
            key: what the request begins with; equal keys meet the same server, if it is free.
            until: by the monotonic clock: wait for a server that rests no longer than this.

        Raises:
            GeneralistError: every server is down or was turned away.
        """
        endpoint = await self._take(key, until)
        try:
            yield endpoint
        finally:
            await self._hand_back(endpoint)

    async def _take(self, key: str, until: float) -> Endpoint:
        while True:
            async with self._changed:
                while (free := self._free(key)) is None:
                    await self._wait(until)
                free.busy += 1
            if free.proved or await self._proves(free):
                return free

    def _free(self, key: str) -> Endpoint | None:
        """Return the first server in the key's order that is up and not full."""
        now = time.monotonic()
        ready = [e for e in self.endpoints if not e.refusal and e.rests_until <= now]
        # An unproved server is tried by one request at a time.
        free = [e for e in ready if e.busy < (self._at_once if e.proved else 1)]
        return max(free, key=lambda endpoint: _rank(key, endpoint.url), default=None)

    async def _wait(self, until: float) -> None:
        """Wait until a server is handed back or has rested."""
        now = time.monotonic()
        alive = [e for e in self.endpoints if not e.refusal]
        if any(e.rests_until <= now for e in alive):
            await self._changed.wait()
            return
        back = min((e.rests_until for e in alive), default=float("inf"))
        if back > until:
            raise GeneralistError(self.dead())
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), back - now)

    async def _proves(self, endpoint: Endpoint) -> bool:
        """Return whether the server proved itself; else hand it back."""
        try:
            endpoint.proved = await self._prove(endpoint)
        finally:
            if not endpoint.proved:
                await self._hand_back(endpoint)
        return endpoint.proved

    async def _hand_back(self, endpoint: Endpoint) -> None:
        async with self._changed:
            endpoint.busy -= 1
            self._changed.notify_all()

    def dead(self) -> str:
        """Say that nobody answers, and what to do."""
        urls = [endpoint.url for endpoint in self.endpoints]
        reasons = " ".join(e.refusal for e in self.endpoints if e.refusal)
        return (
            f"No generalist answers at {urls!r}. {reasons}{' ' if reasons else ''}Start one with "
            "`gsco serve MODEL`, correct `generalist` in the settings, or leave it empty for the "
            "shipped gsco-tiny."
        )


def _rank(key: str, url: str) -> bytes:
    return hashlib.blake2b(f"{key}\n{url}".encode(), digest_size=8).digest()
