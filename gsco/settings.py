"""Settings: argument beats flag beats `GSCO_*` beats `gsco.toml` beats default.

The only file that reads the environment.
"""

import os
import tomllib
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, fields
from pathlib import Path

from gsco.errors import UsageError, unknown

FILE = "gsco.toml"
SECRETS = ("api_key", "login", "token")


@dataclass(frozen=True)
class Settings:
    """What a person may set once instead of with every command."""

    workspace: str = ""
    """Folder of the workspace; empty for the starter workspace in the package."""
    generalist: str = ""
    """URL(s) of OpenAI-style servers, a model folder or hub id; empty for the shipped gsco-tiny."""
    generalist_model: str = ""
    """Name of the model on the server; empty to take the one it serves."""
    answer_form: str = ""
    """`letter` or `label`: what the generalist is asked to say; empty to take what its card says,
    or for a server on another machine, its name: labels for gsco-tiny, letters for all others."""
    api_key: str = ""
    """Key for the server, if it wants one. Never written to a log or a file."""
    login: str = ""
    """`name:password` of the chat; empty for none. Never written to a log or a file."""
    neighbours: int = 10
    """How many similar cases to recall (the published k is 10)."""
    permutations: int = 2
    """Over how many option orders a reading is averaged."""
    data: str = ""
    """Folder of data sets: of test images for the demo, and of the neighbours' for the chat."""
    token: str = ""
    """What callers of `gsco api` must show; empty to ask for none. Never logged or written."""
    ray_address: str = ""
    """Of a Ray cluster; empty to start one on this machine. Ray's own `RAY_ADDRESS` counts, too."""

    def __repr__(self) -> str:
        """Show everything but what is secret."""
        shown = (
            f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if f.name not in SECRETS
        )
        return f"Settings({', '.join(shown)})"


def process_environment() -> MutableMapping[str, str]:
    """Return the process's variables, for those who start another process or a library."""
    return os.environ


def load_settings(
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    **given: str | int | None,
) -> Settings:
    """Gather the settings.

    Args:
        folder: where `gsco.toml` may lie; the current folder if None.
        environment: variables to read instead of the process's.
        **given: arguments and flags; None means not given.

    Raises:
        UsageError: an unknown key in the file, or a value of the wrong type.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, object] = dict(_from_file((folder or Path.cwd()) / FILE))
    if text := environment.get("RAY_ADDRESS"):
        values["ray_address"] = text
    for field in fields(Settings):
        if text := environment.get(f"GSCO_{field.name.upper()}"):
            values[field.name] = text
    values |= {key: value for key, value in given.items() if value is not None}
    return Settings(**{key: _typed(key, value) for key, value in values.items()})  # type: ignore[arg-type]  # _typed checks


def _from_file(path: Path) -> dict[str, object]:
    if not path.is_file():
        return {}
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{FILE} cannot be read: {error}. Mend or remove it.") from error
    names = {field.name for field in fields(Settings)}
    for key in values:
        if key not in names:
            raise UsageError(unknown("setting", key, names, "gsco --help"))
    return values


def _typed(key: str, value: object) -> str | int:
    default = {field.name: field.default for field in fields(Settings)}[key]
    try:
        if not isinstance(default, int):
            return str(value)
        if (number := int(str(value))) > 0:
            return number
    except ValueError:
        pass
    raise UsageError(f"Setting {key!r} is {value!r}; it must be a whole number, 1 or more.")
