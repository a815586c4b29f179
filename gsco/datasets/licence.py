"""Licences: where a folder states its own, and which let images be shown to others.

    Licence: CC BY 4.0
    Source: J. Yang et al., MedMNIST v2, Scientific Data 10:41, 2023

are lines of SOURCE.md in the folder of a data set; `Original:` says the same as `Source:`.
"""

import re
from pathlib import Path

# The text must begin with an open licence: "states none; a copy says CC BY 4.0" is no permission.
_OPEN = re.compile(
    r"(?P<zero>CC[ -]?0\b)|CC[ -](?P<terms>BY(?:-SA)?)\b(?:[ -](?P<version>\d\.\d))?"
    r"|(?P<mit>MIT\b)|(?P<apache>Apache[ -]2\.0)",
    re.IGNORECASE,
)
_DOUBTED = re.compile(
    r"\bN[CD]\b|non-?commercial|no derivatives|\bGPL|unknown|(?:un|not )certain|credentialed"
    r"|restricted|registration|\bmixed\b|\bcode\b|annotations",
    re.IGNORECASE,
)
_COMMONS = "https://creativecommons.org"


def licence_of(folder: Path) -> str | None:
    """Return the rest of the line `Licence: ...` of SOURCE.md."""
    return _line(folder, "licen[cs]e")


def credit_of(folder: Path) -> str | None:
    """Return the rest of the line `Source: ...` of SOURCE.md: whom to credit."""
    return _line(folder, "source|original")


def _line(folder: Path, name: str) -> str | None:
    file = folder / "SOURCE.md"
    if not file.is_file():
        return None
    text = file.read_text(encoding="utf-8", errors="replace")
    found = re.search(rf"^[-*\s]*(?:{name})\**\s*:\**\s*(.+)$", text, re.IGNORECASE | re.MULTILINE)
    return found[1].replace("**", "").strip() if found else None


def open_licence(licence: str | None) -> str | None:
    """Return the address of the licence by which images may be shown to others; None if none does.

    CC0, CC BY, CC BY-SA, MIT and Apache-2.0 let them. Whatever else a licence says, or says with
    a doubt, does not: a wrong yes would show what nobody may show.
    """
    found = _OPEN.match(licence or "")
    if licence is None or found is None or _DOUBTED.search(licence):
        return None
    if found["zero"]:
        return f"{_COMMONS}/publicdomain/zero/1.0/"
    if found["mit"]:
        return "https://opensource.org/license/mit"
    if found["apache"]:
        return "https://www.apache.org/licenses/LICENSE-2.0"
    if not found["version"]:
        return f"{_COMMONS}/licenses/"
    return f"{_COMMONS}/licenses/{found['terms'].lower()}/{found['version']}/"
