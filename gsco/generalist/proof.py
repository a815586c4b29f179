"""Whether a server may be asked: it answers, offers the model and keeps to choices.

Old field names are ignored by servers without a word, and a free answer would look like a decision:
so an impossible choice must come back.
"""

from collections.abc import Collection
from pathlib import Path

from gsco.generalist.client import (
    BROKEN,
    NO_API,
    first_of,
    folder_of,
    is_closed,
    is_local,
    refusal_of,
)
from gsco.generalist.pool import Endpoint
from gsco.generalist.request import only

IMPOSSIBLE = "zq7"
"""What no model says of its own accord."""


async def offers(endpoint: Endpoint) -> dict[str, Path | None] | None:
    """Return the names of a server's models, and their folders if it is on this machine.

    None if it cannot be asked.
    """
    here = is_local(endpoint.url)
    try:
        return {
            model.id: folder_of(model) if here else None
            async for model in endpoint.client.models.list()
        }
    except BROKEN as error:
        _mark(endpoint, error)
    except NO_API:
        endpoint.refusal = (
            f"What answers at {endpoint.url!r} does not offer models as OpenAI's API does. "
            "Give the address of a server, with /v1 at its end."
        )
    return None


async def admits(endpoint: Endpoint, model: str, offered: Collection[str]) -> bool:
    """Return whether a server offers the model and keeps to an impossible choice."""
    if model not in offered:
        found = ", ".join(offered) or "nothing"
        # It may be restarted with the model.
        endpoint.trouble = f"{endpoint.url!r} offers {found}, not {model!r}."
        endpoint.failed()
        return False
    try:
        said = await endpoint.client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": "Say a word."}],
            max_tokens=8,
            extra_body=only([IMPOSSIBLE]),
        )
        text = first_of(said).message.content or ""
    except BROKEN as error:
        _mark(endpoint, error)
        return False
    if text.strip() == IMPOSSIBLE:
        return True
    endpoint.refusal = (
        f"The server of {model!r} at {endpoint.url!r} ignores `structured_outputs`: "
        f"allowed to say only {IMPOSSIBLE!r}, it said {text[:40]!r}. Its answers would not be "
        "decisions. Serve the model with `gsco serve`, or with vLLM 0.12 or newer."
    )
    return False


def _mark(endpoint: Endpoint, error: Exception) -> None:
    """Turn an endpoint away, or let it rest if waiting may help."""
    refusal = refusal_of(endpoint.url, error)
    if refusal and not is_closed(error):
        endpoint.refusal = str(refusal)
        return
    endpoint.trouble = str(refusal or "")
    endpoint.failed()
