"""Readings: a prompt is asked in several option orders, and what comes back is averaged.

In a multi-label task each label is asked by itself, yes or no, because a list has no probability
for a label that it leaves out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gsco.case import Reading
from gsco.errors import GeneralistError, PromptTooLongError, UsageError
from gsco.prompts import Prompt


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
    chances = {
        label: average(("yes", "no"), group)["yes"]
        for label, group in zip(prompt.options, groups, strict=True)
        if any(score.probabilities for score in group)
    }
    raw = "\n".join(f"{p}: {g[0].raw}" for p, g in zip(prompt.options, groups, strict=True))
    return Reading(_best(prompt, chances, groups), chances, raw, model, prompt.hash, each)


def unread(prompt: Prompt, model: str, error: GeneralistError) -> Reading:
    """Return the reading of a prompt that a model could not read: no answer, and why."""
    too_long = isinstance(error, PromptTooLongError)
    return Reading(None, {}, "", model, prompt.hash, failure=str(error), too_long=too_long)


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
