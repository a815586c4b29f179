"""A prompt as chat messages, the way that OpenAI-style servers and chat templates take them."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

from gsco.prompts import Prompt


class Message(TypedDict):
    """One turn of a chat."""

    role: str
    content: list[dict[str, object]]


_SLOT: Mapping[str, object] = {"type": "image"}


def messages(prompt: Prompt, images: Sequence[Mapping[str, object]] | None = None) -> list[Message]:
    """Return the system and the user turn.

    Args:
        prompt: what to say.
        images: what stands for each image, such as a part with a data URL; an empty slot if None.
    """
    slots = [_SLOT] * len(prompt.images) if images is None else images
    user: list[dict[str, object]] = [
        {"type": "text", "text": prompt.before},
        *map(dict, slots),
        {"type": "text", "text": prompt.after},
    ]
    return [
        {"role": "system", "content": [{"type": "text", "text": prompt.system}]},
        {"role": "user", "content": user},
    ]
