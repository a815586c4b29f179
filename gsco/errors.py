"""What can go wrong, as a person can act on it.

GscoError
├── UsageError       an argument that cannot be right: unknown task, label, system
├── DataError        a data set that cannot be read or would mislead
├── WorkspaceError   a workspace that is missing, half written, altered or of another make
├── GeneralistError  the vision-language model cannot be reached or is not what it should be
│   ├── PromptTooLongError
│   ├── RefusedError  a server refuses one request
│   └── TextCutError  free text ended before it was whole
├── FusionError      validation cannot support what was asked
└── ClusterError     a Ray cluster that cannot be reached, or that gave up

`specialists.SpecialistError` and `retrieval.RetrievalError` belong to the leaves; the command line
treats all of them alike: a sentence, no traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class GscoError(Exception):
    """Base of every error that a user of gsco can act on."""


class UsageError(GscoError):
    """An argument that cannot be right."""


class DataError(GscoError):
    """A data set that cannot be read, or that would mislead."""


class WorkspaceError(GscoError):
    """A workspace that is missing, incomplete, altered or made by something else."""


class GeneralistError(GscoError):
    """A generalist that cannot be reached, or is not what it should be."""


class RefusedError(GeneralistError):
    """A server refuses a request, and would again: for what is in it, or who asks."""


class TextCutError(GeneralistError):
    """Free text ended before it was whole; what came before stands."""


class PromptTooLongError(GeneralistError):
    """A prompt is longer than the model reads."""


class FusionError(GscoError):
    """A fusion that the validation cases cannot support."""


class ClusterError(GscoError):
    """A Ray cluster that cannot be reached, or that gave up."""


def unknown(kind: str, name: str, available: Iterable[str], see: str) -> str:
    """Say that `name` is unknown, which names are close, and which exist."""
    names = sorted(available)
    close = get_close_matches(name, names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"Unknown {kind} {name!r}.{hint} Available: {', '.join(names) or 'none'}. See `{see}`."
