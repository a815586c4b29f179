"""Answers: what the generalist said becomes labels, or None: "unparsed" is an answer of its own."""

import re
import string
from collections.abc import Sequence

from gsco.task import Task

_QUOTES = str.maketrans("“”„‘’‚«»`", '"""\'\'\'""\'')


def parse(
    text: str,
    options: Task | Sequence[str],
    *,
    multi: bool | None = None,
    lettered: bool = False,
) -> tuple[str, ...] | None:
    """Return the labels that `text` names, in the order of the options; None if it names none.

    The whole text is tried first, then letters, then the longest names inside it: a name that is
    part of a longer one counts only where it stands alone. For one answer, two different labels
    are none: what was meant is not guessed. A name after `no`, `not` or `without` does not count.

    Args:
        text: what the model wrote.
        options: the task, or its labels in the order shown; a task's synonyms count too.
        multi: whether any number of labels may hold; the task's kind if None.
        lettered: whether `A`, `(b)` or `C, D` stand for options by their place in `options`.
    """
    names, labels, no_finding = _names(options)
    if multi is None:
        multi = isinstance(options, Task) and options.kind == "multi"
    said = _plain(text)
    if said in names:
        return (names[said],)
    found = _letters(text, labels) if lettered else ()
    found = found or tuple(label for label in labels if label in _inside(said, names))
    if multi and len(found) > 1:
        found = tuple(label for label in found if label != no_finding)
    return found if len(found) == 1 or (multi and found) else None


def _names(options: Task | Sequence[str]) -> tuple[dict[str, str], tuple[str, ...], str | None]:
    if not isinstance(options, Task):
        return {_plain(label): label for label in options}, tuple(options), None
    names = {_plain(s): label.text for label in options.labels for s in label.synonyms}
    return names | {_plain(t): t for t in options.texts}, options.texts, options.no_finding


def _plain(text: str) -> str:
    text = text.translate(_QUOTES).casefold().replace("_", " ")
    return " ".join(text.split()).strip(" .,;:!?\"'*")


def _letters(text: str, labels: Sequence[str]) -> tuple[str, ...]:
    letters = string.ascii_uppercase[: len(labels)]
    bare = text.translate(_QUOTES).strip()
    words = [word for word in re.findall(r"\w+", bare) if word.casefold() != "and"]
    said = words if all(len(word) == 1 for word in words) else []
    if not said:
        said = re.findall(r"^\W*([A-Z])[.):]\s", bare + " ")
        said = said or re.findall(r"\b(?:answer|option)\W+(?:is\W+)?([A-Z])\b", bare, re.IGNORECASE)
    chosen = {letter.upper() for letter in said}
    if not chosen <= set(letters):
        return ()
    return tuple(label for letter, label in zip(letters, labels, strict=False) if letter in chosen)


def _inside(said: str, names: dict[str, str]) -> set[str]:
    longest = sorted(filter(None, names), key=len, reverse=True)
    if not longest:
        return set()
    denied = "".join(rf"(?<!\b{word} )" for word in ("no", "not", "without"))
    pattern = "|".join(rf"{denied}(?<!\w){re.escape(name)}(?!\w)" for name in longest)
    return {names[match[0]] for match in re.finditer(pattern, said)}
