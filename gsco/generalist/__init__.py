"""The generalist: a vision-language model that reads a case with its evidence, and decides.

`served` asks an OpenAI-style server (vLLM), `embedded` runs a model in process (transformers),
`scripted` answers in unit tests. All three read a prompt in several option orders and average,
because order alone moves probabilities; that happens in `reading`.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

from gsco.case import Reading
from gsco.prompts import Form, Prompt

__all__ = ["Generalist"]


class Generalist(Protocol):
    """Whoever reads prompts."""

    name: str
    """Name of the model, as records show it."""
    answer_form: Form
    """The form of answer that suits it: small models cannot bind letters to labels."""
    writes: bool
    """Whether it can write free text: small models can only choose."""
    seen: frozenset[str]
    """Beginnings of the content hashes of images it learnt from; empty where nobody knows."""

    @property
    def identity(self) -> str:
        """What tells its weights from others of that name; the name alone where nothing can."""
        ...

    def spent(self) -> int | None:
        """Return the tokens read and written since the last call; None where nobody counts."""
        ...

    def read(self, prompts: Sequence[Prompt], permutations: int = 2) -> list[Reading]:
        """Return one reading a prompt, averaged over that many option orders."""
        ...

    def write(self, prompt: Prompt, *, whole: bool = False) -> Iterator[str]:
        """Stream free text, piece by piece; in one piece if it can and `whole` is asked for.

        Raises:
            TextCutError: after the last piece: the text lacks its end.
        """
        ...
