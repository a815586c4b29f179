"""Text that goes into prompts: templates with named fields, and foreign words in quotes."""

import hashlib
import json
import re
from functools import cache
from importlib import resources

from gsco.cleaned import cleaned
from gsco.errors import UsageError

_FIELD = re.compile(r"\{([a-z_]+)\}")


@cache
def template(name: str) -> str:
    """Return the text of `gsco/prompts/NAME.md` without its last line break."""
    file = resources.files("gsco.prompts") / f"{name}.md"
    return file.read_text(encoding="utf-8").removesuffix("\n")


def wording() -> str:
    """Return the SHA-256 of all texts that prompts are made of."""
    files = sorted(resources.files("gsco.prompts").iterdir(), key=lambda file: file.name)
    texts = [file.read_text(encoding="utf-8") for file in files if file.name.endswith(".md")]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def fill(name: str, **fields: str) -> str:
    """Return a template with every field filled, once: braces in a value stay what they are.

    Raises:
        UsageError: the template has another field than those given.
    """
    text = template(name)
    wanted = set(_FIELD.findall(text))
    if wanted != set(fields):
        raise UsageError(
            f"Prompt text {name + '.md'!r} has the fields {sorted(wanted)!r}, "
            f"but {sorted(fields)!r} are filled. Make the names agree."
        )
    return _FIELD.sub(lambda field: fields[field[1]], text)


def quoted(text: str) -> str:
    """Return the text as a JSON string on one line, so that it stays data whatever it says."""
    return json.dumps(cleaned(text), ensure_ascii=False)
