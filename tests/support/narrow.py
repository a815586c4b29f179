"""A generalist with so short a context that it takes few neighbours."""

from collections.abc import Sequence

from gsco.case import Reading
from gsco.errors import PromptTooLongError
from gsco.generalist.reading import unread
from gsco.generalist.scripted import ScriptedGeneralist
from gsco.prompts import Prompt


class Narrow(ScriptedGeneralist):
    """A generalist whose context holds so many neighbours."""

    most = 3

    def read(self, prompts: Sequence[Prompt], permutations: int = 2) -> list[Reading]:
        readings = super().read(prompts, permutations)
        error = PromptTooLongError("The prompt has 2000 tokens.")
        return [
            unread(prompt, self.name, error) if neighbours_in(prompt) > self.most else reading
            for prompt, reading in zip(prompts, readings, strict=True)
        ]


def neighbours_in(prompt: Prompt) -> int:
    return sum(line.startswith("- ") for line in prompt.before.splitlines())
