"""What a server is asked of a prompt, in the words of OpenAI's protocol and vLLM's additions."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any
from zlib import Z_RLE

from PIL import Image

from gsco.generalist.choice import Step, deciding
from gsco.generalist.messages import messages
from gsco.prompts import Prompt

TOPS = 20
"""How many alternatives a server tells of each token."""
LARGEST_UNPACKED = 2**18
"""Pixels up to which a grey image is not packed."""
GREYS = bytes(level for level in range(256) for _ in "RGB")
"""The palette in which a pixel's number is its grey."""
LARGEST_PNG = 4_000_000
"""Bytes above which an image travels as JPEG of quality 95."""


# Any: what the client takes has many types.
def free_request_of(prompt: Prompt, urls: Mapping[int, str], longest: int) -> dict[str, Any]:
    """Return what a server is asked for free text of at most `longest` tokens."""
    return {"messages": _messages(prompt, urls), "max_tokens": longest, "temperature": 0}


# Any: what the client takes has many types.
def request_of(prompt: Prompt, urls: Mapping[int, str]) -> dict[str, Any]:
    """Return what a server is asked for a constrained answer with its probabilities."""
    return {
        "messages": _messages(prompt, urls),
        "max_tokens": deciding(prompt.choices),
        "temperature": 0,
        "logprobs": True,
        # A letter that is not told of would count as impossible.
        "top_logprobs": max(TOPS, len(prompt.choices)),
        "extra_body": only(prompt.choices),
    }


# Any: what the client takes has many types.
def call_of(request: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Return the arguments with which the client sends a request.

    What it takes as its own it goes through word by word, images included, which costs as much as
    sending it; what is extra it sends as it is.
    """
    extra = {"messages": request["messages"], **request.get("extra_body", {})}
    return {**request, "model": model, "messages": [], "extra_body": extra}


# Any: the client's response types differ by version in what may be missing.
def step_of(token: Any) -> Step:
    """Return a token with the alternatives that a server told of, itself among them or not."""
    tops = {token.token: math.exp(token.logprob)}
    # Tokens that end inside a character have no text; only the chosen one's likelihood tells it.
    others = token.top_logprobs or ()
    empty = [other.logprob for other in others if not other.token]
    if not token.token and token.logprob in empty:
        empty.remove(token.logprob)
    for other in others:
        if other.token:
            tops.setdefault(other.token, math.exp(other.logprob))
    return Step(token.token, tops, sum(map(math.exp, empty)))


# Any: what the client takes has many types.
def going_on(request: Mapping[str, Any], said: str, rests: Sequence[str]) -> dict[str, Any]:
    """Return a request for one of `rests`, as if the server had said `said` already."""
    extra = request["extra_body"] | only(rests)
    messages = request["messages"]
    if said:
        *asked, last = messages
        if last["role"] == "assistant":
            said = last["content"] + said
        else:
            asked.append(last)
        messages = [*asked, {"role": "assistant", "content": said}]
        extra |= {"add_generation_prompt": False, "continue_final_message": True}
    return {**request, "messages": messages, "max_tokens": deciding(rests), "extra_body": extra}


def only(choices: Sequence[str]) -> dict[str, object]:
    """Return what tells a server that nothing else may be said."""
    return {"structured_outputs": {"choice": list(choices)}}


def _messages(prompt: Prompt, urls: Mapping[int, str]) -> object:
    return messages(prompt, [image_part(urls[id(image)]) for image in prompt.images])


def image_part(url: str) -> dict[str, object]:
    """Return the part of a message that shows the image at a URL."""
    return {"type": "image_url", "image_url": {"url": url}}


def urls_of(prompt: Prompt) -> dict[int, str]:
    """Return the data URL of each image of a prompt, by the image's `id`."""
    return {id(image): data_url(image) for image in prompt.images}


def data_url(image: Image.Image) -> str:
    """Return an image as part of a message: PNG, or JPEG of quality 95 where that is too large.

    Grey images travel as one channel, small ones unpacked: less work on both sides, and no pixel
    changes.
    """
    red, *others = image.convert("RGB").split()
    if all(other.tobytes() == red.tobytes() for other in others):
        image = red
    buffer, kind = io.BytesIO(), "png"
    if image is red and red.width * red.height <= LARGEST_UNPACKED:
        # Pillow looks for the best filter of each row, packed or not, unless there is a palette.
        grey = Image.frombytes("P", red.size, red.tobytes())
        grey.putpalette(GREYS)
        grey.save(buffer, format="PNG", compress_level=0)
    else:
        # Runs alone are sought: quicker on both sides, and no larger, than matches near by.
        image.save(buffer, format="PNG", compress_level=1, compress_type=Z_RLE)
    if buffer.tell() > LARGEST_PNG:
        buffer, kind = io.BytesIO(), "jpeg"
        image.save(buffer, format="JPEG", quality=95)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
