"""A generalist that says what a test tells it to."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from gsco.case import Reading
from gsco.generalist.reading import Score, combine, expand
from gsco.prompts import Form, Prompt

Script = Callable[[Prompt], Mapping[str, float]]
"""From a prompt in one option order to a probability for each of its `answers`."""


class ScriptedGeneralist:
    """Answers by a function, and remembers the prompts it was asked."""

    def __init__(
        self,
        script: Script,
        *,
        text: Sequence[str] = ("As ", "scripted."),
        name: str = "scripted",
        answer_form: Form = "letter",
        writes: bool = True,
    ) -> None:
        """Take the function, and the pieces that `write` streams."""
        self.name = self.identity = name
        self.answer_form = answer_form
        self.writes = writes
        self.seen: frozenset[str] = frozenset()
        self.asked: list[Prompt] = []
        self._script = script
        self._text = tuple(text)

    def spent(self) -> None:
        """Return None: there are no tokens."""

    def read(self, prompts: Sequence[Prompt], permutations: int = 2) -> list[Reading]:
        """Return one reading a prompt, averaged over that many option orders."""
        groups = expand(prompts, permutations)
        return [
            combine(prompt, [self._score(asked) for asked in group], self.name)
            for prompt, group in zip(prompts, groups, strict=True)
        ]

    def write(self, prompt: Prompt, *, whole: bool = False) -> Iterator[str]:
        """Stream the given pieces."""
        self.asked.append(prompt)
        yield from self._text

    def _score(self, prompt: Prompt) -> Score:
        self.asked.append(prompt)
        probabilities = dict(self._script(prompt))
        answer = max(probabilities, key=probabilities.__getitem__) if probabilities else None
        return Score(answer, probabilities, answer or "")
