"""A generalist behind one or more OpenAI-style servers, such as `vllm serve`.

Whether the server keeps to the choices is proved before the first case: an impossible choice must
come back. Old field names are ignored by servers without a word, and a free answer would look like
a decision.

    generalist = connect(["http://127.0.0.1:8000/v1"])
"""

import asyncio
import base64
import io
import math
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import Any, Self, TypeVar

import openai
from openai import AsyncOpenAI
from PIL import Image

from gsco.case import Reading
from gsco.errors import GeneralistError
from gsco.generalist.choice import Step, spread
from gsco.generalist.messages import messages
from gsco.generalist.reading import Score, combine, expand
from gsco.prompts import Form, Prompt

IMPOSSIBLE = "zq7"
"""What no model says of its own accord."""
TOPS = 20
"""How many alternatives a server tells of each token."""
AT_ONCE = 32
"""Requests in flight."""
LARGEST_PNG = 4_000_000
"""Bytes above which an image travels as JPEG of quality 95."""

T = TypeVar("T")


@dataclass(frozen=True)
class Endpoint:
    """One server and the model that it offers."""

    url: str
    client: AsyncOpenAI


def connect(
    urls: Sequence[str],
    *,
    model: str = "",
    api_key: str = "",
    answer_form: Form | None = None,
    timeout: float = 120.0,
) -> "ServedGeneralist":
    """Return a generalist once a server has answered, offers the model and keeps to choices.

    Args:
        urls: addresses up to and with `/v1`; those that do not answer now are left for later.
        model: its name on the servers; the one that they offer if empty.
        api_key: if the servers want one.
        answer_form: what suits the model; `label` for gsco-tiny, else `letter`, if None.
        timeout: seconds that one request may take.

    Raises:
        GeneralistError: no server answers, the model is not offered, or choices are ignored.
    """
    if not urls:
        raise GeneralistError("The list of servers is []. Give at least one URL.")
    generalist = ServedGeneralist(
        urls, model=model, api_key=api_key, answer_form=answer_form, timeout=timeout
    )
    try:
        generalist.check()
    except GeneralistError:
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
        timeout: float = 120.0,
    ) -> None:
        """Prepare the clients; nothing is sent yet."""
        self.name = model
        self.answer_form: Form = answer_form or "letter"
        self._form = answer_form
        # One loop of our own keeps the connections, whatever loop or thread a caller lives in.
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        key = api_key or "none"
        self._endpoints = [
            Endpoint(url, AsyncOpenAI(base_url=url, api_key=key, timeout=timeout, max_retries=1))
            for url in urls
        ]
        self._turn = 0
        self._down: set[str] = set()
        self._slots = asyncio.Semaphore(AT_ONCE)

    def check(self) -> None:
        """Find the model and prove that choices are kept.

        Raises:
            GeneralistError: no server answers, the model is not offered, or choices are ignored.
        """
        self._run(self._check())

    def read(self, prompts: Sequence[Prompt], permutations: int = 2) -> list[Reading]:
        """Return one reading a prompt, averaged over that many option orders.

        Raises:
            GeneralistError: no server answers, or one refuses the request.
        """
        return self._run(self._read(prompts, permutations))

    async def aread(self, prompts: Sequence[Prompt], permutations: int = 2) -> list[Reading]:
        """Do the same without blocking the caller's loop."""
        work = asyncio.run_coroutine_threadsafe(self._read(prompts, permutations), self._loop)
        return await asyncio.wrap_future(work)

    def write(self, prompt: Prompt, longest: int = 500) -> Iterator[str]:
        """Stream free text of at most `longest` tokens.

        Raises:
            GeneralistError: no server answers, or one refuses the request.
        """
        pieces: SimpleQueue[str | None] = SimpleQueue()

        async def pump() -> None:
            try:
                async for piece in self._write(prompt, longest):
                    pieces.put(piece)
            finally:
                pieces.put(None)

        work = asyncio.run_coroutine_threadsafe(pump(), self._loop)
        while (piece := pieces.get()) is not None:
            yield piece
        work.result()

    def close(self) -> None:
        """Close the connections."""
        if self._loop.is_closed():
            return
        for endpoint in self._endpoints:
            self._run(endpoint.client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        """Return itself; leaving the block closes the connections."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the connections."""
        self.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _check(self) -> None:
        offered: list[str] = []
        for endpoint in self._endpoints:
            try:
                offered += [model.id async for model in endpoint.client.models.list()]
            except openai.APIConnectionError:
                self._down.add(endpoint.url)
            except openai.APIStatusError as error:
                raise _refused(endpoint, error) from error
        if not offered:
            raise GeneralistError(self._dead())
        self.name = self.name or offered[0]
        if self.name not in offered:
            raise GeneralistError(
                f"No server offers the model {self.name!r}. "
                f"Offered: {', '.join(sorted(set(offered)))}. Set `generalist_model` to one."
            )
        if self._form is None and "gsco-tiny" in self.name:
            self.answer_form = "label"
        await self._probe()

    async def _probe(self) -> None:
        said = await self._ask(
            messages=[{"role": "user", "content": "Say a word."}],
            max_tokens=8,
            extra_body=_choice([IMPOSSIBLE]),
        )
        text = said.choices[0].message.content or ""
        if text.strip() != IMPOSSIBLE:
            raise GeneralistError(
                f"The server of {self.name!r} ignores `structured_outputs`: allowed to say only "
                f"{IMPOSSIBLE!r}, it said {text[:40]!r}. Its answers would not be decisions. "
                "Serve the model with `vllm serve`, 0.12 or newer."
            )

    async def _read(self, prompts: Sequence[Prompt], permutations: int) -> list[Reading]:
        groups = expand(prompts, permutations)
        flat = [asked for group in groups for asked in group]
        urls = {id(image): _data_url(image) for prompt in flat for image in prompt.images}
        scores = iter(await asyncio.gather(*(self._score(prompt, urls) for prompt in flat)))
        return [
            combine(prompt, [next(scores) for _ in group], self.name)
            for prompt, group in zip(prompts, groups, strict=True)
        ]

    async def _score(self, prompt: Prompt, urls: Mapping[int, str]) -> Score:
        longest = max(len(choice.encode()) for choice in prompt.choices)
        said = await self._ask(
            messages=_messages(prompt, urls),
            # No token is shorter than a byte, and one more ends the answer.
            max_tokens=1 if prompt.form == "letter" else longest + 1,
            temperature=0,
            logprobs=True,
            top_logprobs=TOPS,
            extra_body=_choice(prompt.choices),
        )
        return score_of(prompt, said.choices[0])

    async def _write(self, prompt: Prompt, longest: int) -> AsyncIterator[str]:
        urls = {id(image): _data_url(image) for image in prompt.images}
        stream = await self._ask(
            messages=_messages(prompt, urls), max_tokens=longest, temperature=0, stream=True
        )
        try:
            async for chunk in stream:
                if chunk.choices and (piece := chunk.choices[0].delta.content):
                    yield piece
        except openai.APIError as error:
            raise GeneralistError(
                f"{self.name!r} broke off while it wrote ({error}). "
                "See the log of the server, and ask again."
            ) from error

    # Any: the client's many overloads do not pass through one function.
    async def _ask(self, **request: Any) -> Any:
        """Send a request to the servers in turn, those that were down last, until one answers."""
        self._turn += 1
        turn = self._turn % len(self._endpoints)
        turned = self._endpoints[turn:] + self._endpoints[:turn]
        async with self._slots:
            for endpoint in sorted(turned, key=lambda endpoint: endpoint.url in self._down):
                try:
                    said = await endpoint.client.chat.completions.create(model=self.name, **request)
                except openai.APIConnectionError:
                    self._down.add(endpoint.url)
                    continue
                except openai.APIStatusError as error:
                    raise _refused(endpoint, error) from error
                self._down.discard(endpoint.url)
                return said
        raise GeneralistError(self._dead())

    def _dead(self) -> str:
        urls = [endpoint.url for endpoint in self._endpoints]
        return (
            f"No generalist answers at {urls!r}. Start one with `vllm serve MODEL`, correct "
            "`generalist` in the settings, or leave it empty for the shipped gsco-tiny."
        )


# Any: the client's response types differ by version in what may be missing.
def score_of(prompt: Prompt, said: Any) -> Score:
    """Return what one answer of a server means."""
    raw = said.message.content or ""
    named = dict(zip(prompt.choices, prompt.answers, strict=True))
    tokens = (said.logprobs.content if said.logprobs else None) or []
    shares = spread(prompt.choices, [_step(token) for token in tokens])
    probabilities = {named[choice]: share for choice, share in shares.items()}
    return Score(named.get(raw.strip()), probabilities, raw)


def _step(token: Any) -> Step:
    tops = {token.token: math.exp(token.logprob)}
    for other in token.top_logprobs:
        tops.setdefault(other.token, math.exp(other.logprob))
    return Step(token.token, tops)


def _choice(choices: Sequence[str]) -> dict[str, object]:
    return {"structured_outputs": {"choice": list(choices)}}


def _messages(prompt: Prompt, urls: Mapping[int, str]) -> object:
    images = [
        {"type": "image_url", "image_url": {"url": urls[id(image)]}} for image in prompt.images
    ]
    return messages(prompt, images)


def _data_url(image: Image.Image) -> str:
    buffer, kind = io.BytesIO(), "png"
    image.save(buffer, format="PNG")
    if buffer.tell() > LARGEST_PNG:
        buffer, kind = io.BytesIO(), "jpeg"
        image.save(buffer, format="JPEG", quality=95)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _refused(endpoint: Endpoint, error: openai.APIStatusError) -> GeneralistError:
    advice = {
        401: "Set the key with GSCO_API_KEY.",
        403: "Set the key with GSCO_API_KEY.",
        404: "The URL must end with /v1, and the model's name must be one that it offers.",
        400: "Recall fewer neighbours, or serve with a longer context and more images a prompt.",
    }
    return GeneralistError(
        f"The generalist at {endpoint.url!r} refused the request: {error.status_code!r} "
        f"{error.message[:300]}. {advice.get(error.status_code, 'See the log of the server.')}"
    )
