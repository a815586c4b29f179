"""A generalist behind one or more OpenAI-style servers, such as `vllm serve`.

Whether a server keeps to the choices is proved before its first case, and again when it comes back
after a failure (`proof`).

    generalist = connect(["http://127.0.0.1:8000/v1"])
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any, Self

from openai.types import CompletionUsage

from gsco.case import Reading
from gsco.errors import GeneralistError, RefusedError, TextCutError
from gsco.generalist.card import card_served, weights_in
from gsco.generalist.choice import Group, meant, parted
from gsco.generalist.client import (
    BROKEN,
    TIMEOUT,
    client_of,
    first_of,
    is_closed,
    refusal_of,
)
from gsco.generalist.loop import Loop
from gsco.generalist.pool import AT_ONCE, Endpoint, Pool
from gsco.generalist.proof import admits, offers
from gsco.generalist.reading import Score, combine, cut_at, expand, unread
from gsco.generalist.request import (
    call_of,
    free_request_of,
    going_on,
    request_of,
    step_of,
    urls_of,
)
from gsco.generalist.seen import seen_in
from gsco.prompts import Form, Prompt

WORTH = 0.002
"""Probability of choices that are not told apart from which on the server is asked about them."""
TRIES = 4
"""How often one request is sent before it counts as failed."""
WHOLE_ENDS = ("stop", "stop_sequence", "eos_token")
"""Why a text ended that is whole, as servers say it."""
WHOLE = 600.0
"""Seconds that free text in one piece may take at least."""
PATIENCE = 20.0
"""Seconds that a request waits for a server while all are down."""


def connect(
    urls: Sequence[str],
    *,
    model: str = "",
    api_key: str = "",
    answer_form: Form | None = None,
    writes: bool | None = None,
    timeout: float = TIMEOUT,
    at_once: int = AT_ONCE,
) -> "ServedGeneralist":
    """Return a generalist once a server has answered, offers the model and keeps to choices.

    Args:
        urls: addresses up to and with `/v1`; those that do not answer now are left for later.
        model: its name on the servers; the one that they offer if empty.
        api_key: if the servers want one.
        answer_form: what suits the model; if None, what the card in its folder says where that is
            on this machine, else `label` for gsco-tiny and `letter` for others.
        writes: whether it can write free text; if None, what the card says, else all but gsco-tiny.
        timeout: seconds that one request may take.
        at_once: most requests in flight at one server.

    Raises:
        GeneralistError: no server answers, the model is not offered, or choices are ignored.
    """
    if not urls:
        raise GeneralistError("The list of servers is []. Give at least one URL.")
    generalist = ServedGeneralist(
        urls,
        model=model,
        api_key=api_key,
        answer_form=answer_form,
        writes=writes,
        timeout=timeout,
        at_once=at_once,
    )
    try:
        generalist.check()
    except BaseException:
        generalist.close()
        raise
    return generalist


class ServedGeneralist:
    """A vision-language model on servers; use `connect`, which also checks them."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        model: str = "",
        api_key: str = "",
        answer_form: Form | None = None,
        writes: bool | None = None,
        timeout: float = TIMEOUT,
        at_once: int = AT_ONCE,
        patience: float = PATIENCE,
    ) -> None:
        """Prepare the clients; nothing is sent yet."""
        self.name = model
        self.answer_form: Form = answer_form or "letter"
        self._form = answer_form
        self.writes = True if writes is None else writes
        self._writes = writes
        self.seen: frozenset[str] = frozenset()
        # A server does not say which weights it has: those in its folder, if that is on this
        # machine, when it is connected to.
        self.identity = model
        self._tokens: int | None = None
        self._counting = Lock()
        self._patience = patience
        self._timeout = timeout
        # Prompts whose images are encoded at one time: bounds memory, however long the list.
        self._cases = asyncio.Semaphore(at_once * len(urls))
        self._pool = Pool(
            [
                Endpoint(url, client_of(url, api_key, timeout), most=at_once)
                for url in dict.fromkeys(urls)
            ],
            prove=self._prove,
        )
        # One loop of our own keeps the connections, whatever loop or thread a caller lives in.
        self._loop = Loop([endpoint.client for endpoint in self._pool.endpoints])

    def check(self) -> None:
        """Find the model and prove that choices are kept.

        Raises:
            GeneralistError: no server answers, the model is not offered, or choices are ignored.
        """
        self._loop.run(self._check())

    def spent(self) -> int | None:
        """Return the tokens since the last call, of all threads; None if no server tells them."""
        with self._counting:
            found, self._tokens = self._tokens, None if self._tokens is None else 0
        return found

    def read(self, prompts: Sequence[Prompt], permutations: int = 2) -> list[Reading]:
        """Return one reading a prompt, averaged over that many option orders.

        Raises:
            GeneralistError: no server answers, or one refuses the request.
        """
        return self._loop.run(self._read(prompts, permutations))

    def write(self, prompt: Prompt, longest: int = 500, *, whole: bool = False) -> Iterator[str]:
        """Stream free text of at most `longest` tokens; in one piece, which is quicker, if `whole`.

        Raises:
            GeneralistError: no server answers, or one refuses the request.
            TextCutError: after the last piece: the text is longer, or its end did not come.
        """
        if whole:
            text, end = self._loop.run(self._write_whole(prompt, longest))
            yield text
            _check_end(end, longest)
            return
        pieces: SimpleQueue[str | None] = SimpleQueue()
        end = None

        async def pump() -> None:
            nonlocal end
            try:
                async for piece, last in self._write(prompt, longest):
                    end = last or end
                    pieces.put(piece)
            finally:
                pieces.put(None)

        work = self._loop.begin(pump())
        try:
            while (piece := pieces.get()) is not None:
                if piece:
                    yield piece
            work.result()
            _check_end(end, longest)
        except CancelledError as error:
            raise self._loop.closed() from error
        finally:
            # A reader that goes away early stops the writing.
            work.cancel()

    def close(self) -> None:
        """Close the connections; what is under way ends with a `GeneralistError`."""
        self._loop.close()

    def __enter__(self) -> Self:
        """Return itself; leaving the block closes the connections."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the connections."""
        self.close()

    async def _check(self) -> None:
        """Prove all servers at once; those that do not answer now are left for later."""
        found = await asyncio.gather(*map(offers, self._pool.endpoints))
        offered: dict[str, Path | None] = {}
        for names in filter(None, found):
            # Whichever server is on this machine tells the folder.
            offered |= {name: offered.get(name) or root for name, root in names.items()}
        if not offered:
            raise GeneralistError(self._pool.dead())
        self.name = self.name or next(iter(offered))
        if self.name not in offered:
            raise GeneralistError(
                f"No server offers the model {self.name!r}. "
                f"Offered: {', '.join(sorted(offered))}. Set `generalist_model` to one."
            )
        folder = offered[self.name]
        card = card_served(self.name, folder)
        self.seen = seen_in(folder) if folder else frozenset()
        weights = weights_in(folder) if folder else ""
        self.identity = "@".join(filter(None, (self.name, weights)))
        self.answer_form = self._form or card.answer_form
        self.writes = card.writes if self._writes is None else self._writes
        pairs = zip(self._pool.endpoints, found, strict=True)
        answering = [(endpoint, names) for endpoint, names in pairs if names]
        proofs = await asyncio.gather(
            *(admits(endpoint, self.name, names) for endpoint, names in answering)
        )
        for (endpoint, _), proof in zip(answering, proofs, strict=True):
            endpoint.proved = proof
        if not any(proofs):
            raise GeneralistError(self._pool.dead())

    async def _prove(self, endpoint: Endpoint) -> bool:
        """Return whether a server answers, offers the model and keeps to choices."""
        offered = await offers(endpoint)
        return offered is not None and await admits(endpoint, self.name, offered)

    async def _read(self, prompts: Sequence[Prompt], permutations: int) -> list[Reading]:
        groups = expand(prompts, permutations)
        cases = zip(prompts, groups, strict=True)
        readings = await asyncio.gather(*(self._read_one(*case) for case in cases))
        failures = [reading.failure for reading in readings]
        # One prompt that is refused must not cost the others; if all are, that is an error.
        if failures and all(failures) and not any(reading.too_long for reading in readings):
            raise GeneralistError(str(failures[0]))
        return readings

    async def _read_one(self, prompt: Prompt, asked: Sequence[Prompt]) -> Reading:
        async with self._cases:
            # In a thread: what compresses an image must not keep answers waiting.
            urls = await asyncio.to_thread(urls_of, prompt)
            requests = (self._score(one, urls) for one in asked)
            told = await asyncio.gather(*requests, return_exceptions=True)
        for one in told:
            if isinstance(one, GeneralistError):
                return unread(prompt, self.name, one)
            if isinstance(one, BaseException):
                raise one
        return combine(prompt, [one for one in told if isinstance(one, Score)], self.name)

    async def _score(self, prompt: Prompt, urls: Mapping[int, str]) -> Score:
        raw, shares = await self._shares(prompt, request_of(prompt, urls), prompt.choices)
        named = dict(zip(prompt.choices, prompt.answers, strict=True))
        probabilities = {named[choice]: share for choice, share in shares.items()}
        choice = meant(prompt.choices, raw.strip())
        return Score(named[choice] if choice else None, probabilities, raw)

    # Any: what the client takes has many types.
    async def _shares(
        self,
        prompt: Prompt,
        request: Mapping[str, Any],
        choices: Sequence[str],
        worth: float = WORTH,
    ) -> tuple[str, dict[str, float]]:
        """Return what a server says, and the probability of each choice; none if it is unclear.

        Of choices that left its answer together it is asked how it would have gone on, or, where
        one ends there, what it would have said of these alone; they share evenly where they have
        less than `worth`, and where neither can be asked.
        """
        async with self._asked(prompt, request) as said:
            self._count(said.usage)
            answer = said.choices[0]
        tokens = (answer.logprobs.content if answer.logprobs else None) or []
        groups = parted(choices, [step_of(token) for token in tokens])
        insides = await asyncio.gather(
            *(self._inside(prompt, request, len(choices), *both, worth) for both in groups.items())
        )
        shares = dict.fromkeys(choices, 0.0)
        for mass, inside in zip(groups.values(), insides, strict=True):
            for choice, share in inside.items():
                shares[choice] += mass * share
        return answer.message.content or "", shares if groups else {}

    # Any: what the client takes has many types.
    async def _inside(
        self,
        prompt: Prompt,
        request: Mapping[str, Any],
        asked: int,
        group: Group,
        mass: float,
        worth: float,
    ) -> dict[str, float]:
        """Return how choices that left an answer together share what the group has.

        `asked` is how many choices that answer had.
        """
        even = dict.fromkeys(group.choices, 1 / len(group.choices))
        if len(group.choices) == 1 or mass < worth:
            return even
        rests = {choice[len(group.said) :]: choice for choice in group.choices}
        ways = [(group.said, rests)] if group.said and all(rests) else []
        # Asked of all that it was asked of before, it would say the same again.
        ways += [("", {choice: choice for choice in group.choices})] if len(rests) < asked else []
        for said, wanted in ways:
            on = going_on(request, said, list(wanted))
            # Not every server goes on with what it is told that it said.
            with suppress(RefusedError):
                _, told = await self._shares(prompt, on, list(wanted), worth / mass)
                if told:
                    return {wanted[rest]: share for rest, share in told.items()}
        return even

    async def _write_whole(self, prompt: Prompt, longest: int) -> tuple[str, str | None]:
        """Return the text and why it ended."""
        urls = await asyncio.to_thread(urls_of, prompt)
        # No piece tells before the end that the answer is on its way.
        late = {"timeout": max(self._timeout, WHOLE)}
        request = free_request_of(prompt, urls, longest) | late
        async with self._asked(prompt, request) as said:
            self._count(said.usage)
            return said.choices[0].message.content or "", said.choices[0].finish_reason

    async def _write(self, prompt: Prompt, longest: int) -> AsyncIterator[tuple[str, str | None]]:
        """Yield pieces, and with the last one why the text ended."""
        urls = await asyncio.to_thread(urls_of, prompt)
        piecewise = {"stream": True, "stream_options": {"include_usage": True}}
        request = free_request_of(prompt, urls, longest) | piecewise
        try:
            async with self._asked(prompt, request) as stream:
                async for chunk in stream:
                    self._count(chunk.usage)
                    if chunk.choices:
                        yield chunk.choices[0].delta.content or "", chunk.choices[0].finish_reason
        except BROKEN as error:
            raise GeneralistError(
                f"{self.name!r} broke off while it wrote ({error}). "
                "See the log of the server, and ask again."
            ) from error

    def _count(self, usage: CompletionUsage | None) -> None:
        """Add what a server says it has read and written."""
        if usage is not None:
            with self._counting:
                self._tokens = (self._tokens or 0) + usage.total_tokens

    # Any: the client's many overloads do not pass through one function.
    @asynccontextmanager
    async def _asked(self, prompt: Prompt, request: Mapping[str, Any]) -> AsyncIterator[Any]:
        """Send a request until a server answers, and keep the server until the answer is read.

        Raises:
            GeneralistError: all servers are down, one refuses, or this request fails everywhere.
        """
        call = call_of(request, self.name)
        for _ in range(TRIES):
            until = time.monotonic() + self._patience
            async with self._pool.server(prompt.system + prompt.head, until) as endpoint:
                start = time.monotonic()
                try:
                    said = await endpoint.client.chat.completions.create(**call)
                    if not request.get("stream"):
                        first_of(said)
                except BROKEN as error:
                    refusal = refusal_of(endpoint.url, error)
                    # Another server may take the request of one that lets nobody in at present.
                    if refusal and not (is_closed(error) and self._pool.has_others(endpoint)):
                        raise refusal from error
                    endpoint.trouble = str(refusal or "")
                    endpoint.failed()
                    last = error
                    continue
                endpoint.answered(time.monotonic() - start, self._pool.is_full)
                yield said
                return
        raise GeneralistError(
            f"A request to {self.name!r} failed {TRIES} times, last at {endpoint.url!r} with "
            f"{type(last).__name__} ({str(last)[:200]}). See the log of the server."
        )


def _check_end(reason: str | None, longest: int) -> None:
    """Refuse to call a text whole that was cut.

    Raises:
        TextCutError: it was cut at its greatest length, or no end came.
    """
    if reason == "length":
        raise TextCutError(cut_at(longest))
    if reason not in WHOLE_ENDS:
        why = f" ({reason})" if reason else ""
        raise TextCutError(f"The server broke off{why}: the text may lack its end. Ask again.")
