"""The client of one OpenAI-style server, and what the server means when it refuses."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
from openai.types import Model

from gsco.errors import PromptTooLongError, RefusedError
from gsco.loopback import is_loopback

TOO_LONG = ("context length", "maximum model length")
"""How vLLM says so, for the text alone and with the images' tokens."""
CURES = {
    "logprobs": "Serve with `--max-logprobs -1`: so many options need as many probabilities.",
    "not a multimodal model": "It takes text only. Serve a vision-language model, and see whether "
    "it is fit with `gsco doctor URL`.",
}
"""What helps where a refusal, as vLLM words it, is not about length."""
TIMEOUT = 120.0
"""Seconds that one request may take."""
BROKEN = (openai.OpenAIError, ValueError)
"""What the client raises where an answer is missing or refused, or is no JSON or UTF-8."""
NO_API = (AttributeError, TypeError)
"""What the client raises of a list of models that is none: of a web page, say."""


def client_of(url: str, api_key: str = "", timeout: float = TIMEOUT) -> openai.AsyncOpenAI:
    """Return a client that never repeats a request by itself.

    Its connections are aiohttp's: with the client's default ones, a request costs more the more of
    them are open.
    """
    return openai.AsyncOpenAI(
        base_url=url,
        api_key=api_key or "none",
        timeout=timeout,
        max_retries=0,
        http_client=openai.DefaultAioHttpClient(trust_env=not is_local(url)),
    )


def is_local(url: str) -> bool:
    """Whether a server is on this machine; images for it must not pass through a proxy."""
    return is_loopback(urlsplit(url).hostname or "")


def folder_of(model: Model) -> Path | None:
    """Return where vLLM says that it loaded a model from, if that is a whole path."""
    root = Path(str(getattr(model, "root", "")))
    return root if root.is_absolute() else None


# Any: of a page that is no API's, the client makes a text.
def first_of(said: Any) -> Any:
    """Return the first choice of a completion.

    Raises:
        openai.OpenAIError: it has none, or one without a message; perhaps it will next time.
    """
    if (choices := getattr(said, "choices", None)) and getattr(choices[0], "message", None):
        return choices[0]
    raise openai.OpenAIError("The answer holds no choice")


def is_closed(error: Exception) -> bool:
    """Whether a server lets nobody in, or has not the model, which need not stay so."""
    return isinstance(error, openai.APIStatusError) and error.status_code in (401, 403, 404)


def refusal_of(url: str, error: Exception) -> PromptTooLongError | RefusedError | None:
    """Return what a refusal means; None if it may be otherwise later.

    That is: no connection, too busy, or the server's own fault.
    """
    if not isinstance(error, openai.APIStatusError):
        return None
    if error.status_code in (408, 409, 429) or error.status_code >= 500:
        return None
    advice = {
        401: "Set the key with GSCO_API_KEY.",
        403: "Set the key with GSCO_API_KEY.",
        404: "The URL must end with /v1, and the model's name must be one that it offers.",
        400: "Recall fewer neighbours, or serve with a longer context and more images a prompt.",
    }
    too_long = error.status_code == 400 and any(words in error.message for words in TOO_LONG)
    found = [cure for words, cure in CURES.items() if words in error.message]
    if found and not too_long:
        advice[400] = found[0]
    return (PromptTooLongError if too_long else RefusedError)(
        f"The generalist at {url!r} refused the request: {error.status_code!r} "
        f"{error.message[:300]}. {advice.get(error.status_code, 'See the log of the server.')}"
    )
