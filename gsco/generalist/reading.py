"""Readings: a prompt is asked in several option orders, and what comes back is averaged.

In a multi-label task each label is asked by itself, yes or no, because a list has no probability
for a label that it leaves out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gsco.case import Reading
from gsco.errors import GeneralistError, PromptTooLongError, UsageError
from gsco.prompts import Prompt

if TYPE_CHECKING:
    from gsco.generalist import Generalist


@dataclass(frozen=True)
class Score:
    """What a model says of one prompt as it stands."""

    answer: str | None
    """The chosen one of the prompt's `answers`, or None if none was."""
    probabilities: Mapping[str, float]
    """One for each of the prompt's `answers`, summing to 1; empty if it gave none."""
    raw: str
    """What it said, unchanged, perhaps only as far as it decides."""


def orders(count: int, permutations: int) -> list[tuple[int, ...]]:
    """Return up to that many orders of `count` options: as given, reversed, then turned by one.

    Every two of them put each option at mirrored places, so a pull towards a place cancels.
    """
    first = tuple(range(count))
    turned = [first[i:] + first[:i] for i in range(count)]
    both = (order for turn in turned for order in (turn, turn[::-1]))
    return list(dict.fromkeys(both))[:permutations]


def expand(prompts: Sequence[Prompt], permutations: int) -> list[list[Prompt]]:
    """Return, for each prompt, what has to be asked: its orders, or those of each of its labels.

    Raises:
        UsageError: a prompt has no options, or `permutations` is less than one.
    """
    if permutations < 1:
        raise UsageError(f"permutations is {permutations!r}. Give 1 or more.")
    return [_expand(prompt, permutations) for prompt in prompts]


def _expand(prompt: Prompt, permutations: int) -> list[Prompt]:
    if not prompt.options:
        raise UsageError(
            f"A prompt of kind {prompt.kind!r} has no options to choose from. Use `write` instead."
        )
    asked = [prompt.asking(label) for label in prompt.options] if _is_list(prompt) else [prompt]
    return [
        one.permuted(order) for one in asked for order in orders(len(one.answers), permutations)
    ]


def _is_list(prompt: Prompt) -> bool:
    return prompt.kind == "multi" and prompt.asked is None


def combine(prompt: Prompt, scores: Sequence[Score], model: str) -> Reading:
    """Return the reading of a prompt from the scores of what `expand` made of it, in that order.

    In a multi-label task the answer is the most probable label above one half: `no_finding` where
    there is none, or None. The probabilities say which other labels hold.
    """
    if not _is_list(prompt):
        parts = average(prompt.answers, scores)
        answer = max(parts, key=parts.__getitem__) if parts else scores[0].answer
        return Reading(answer, parts, scores[0].raw, model, prompt.hash, len(scores))
    each = len(scores) // len(prompt.options)
    groups = [scores[i * each : (i + 1) * each] for i in range(len(prompt.options))]
    said = [average(("yes", "no"), group) for group in groups]
    # Some labels alone would look as if the others did not hold.
    chances = (
        {label: shares["yes"] for label, shares in zip(prompt.options, said, strict=True)}
        if all(said)
        else {}
    )
    raw = "\n".join(f"{p}: {g[0].raw}" for p, g in zip(prompt.options, groups, strict=True))
    return Reading(_best(prompt, chances, groups), chances, raw, model, prompt.hash, each)


CUT = "The text was cut"


def cut_at(longest: int) -> str:
    """Say that a text was cut at its greatest length in tokens."""
    return f"{CUT} after {longest} tokens. Ask for less, or in parts."


def unread(prompt: Prompt, model: str, error: GeneralistError) -> Reading:
    """Return the reading of a prompt that a model could not read: no answer, and why."""
    too_long = isinstance(error, PromptTooLongError)
    return Reading(None, {}, "", model, prompt.hash, failure=str(error), too_long=too_long)


def read_all(
    generalist: "Generalist",
    prompt: Callable[[int, int], Prompt],
    shown: list[int],
    permutations: int = 2,
) -> list[Reading]:
    """Read every case; where a prompt is too long, its least similar neighbours go first.

    Args:
        generalist: who reads.
        prompt: from a case's number and how many neighbours to show to its prompt.
        shown: neighbours to show of each case; holds afterwards how many were.
        permutations: over how many option orders a reading is averaged.
    """
    readings = generalist.read([prompt(i, count) for i, count in enumerate(shown)], permutations)
    while late := [i for i, one in enumerate(readings) if one.too_long and shown[i]]:
        for i in late:
            shown[i] //= 2
        again = [prompt(i, shown[i]) for i in late]
        try:
            shorter = generalist.read(again, permutations)
        except GeneralistError as error:
            shorter = [unread(one, generalist.name, error) for one in again]
        for i, one in zip(late, shorter, strict=True):
            readings[i] = one
    return readings


def _best(
    prompt: Prompt, chances: Mapping[str, float], groups: Sequence[Sequence[Score]]
) -> str | None:
    if not chances:
        said = (label for label, g in zip(prompt.options, groups, strict=True) if _says_yes(g))
        return next(said, prompt.no_finding)
    findings = {label: p for label, p in chances.items() if label != prompt.no_finding}
    best = max(findings, key=findings.__getitem__)
    return best if findings[best] > 0.5 else prompt.no_finding


def _says_yes(scores: Sequence[Score]) -> bool:
    return scores[0].answer == "yes"


def average(answers: Sequence[str], scores: Sequence[Score]) -> dict[str, float]:
    """Return the mean probability of each answer over the scores that have any."""
    given = [score.probabilities for score in scores if score.probabilities]
    if not given:
        return {}
    return {answer: sum(p[answer] for p in given) / len(given) for answer in answers}
