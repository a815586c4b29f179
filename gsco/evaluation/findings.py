"""Which findings a chest report states, by phrases and negations.

These are rules of ours, after those of the CheXpert labeller (Irvin et al. 2019), made to be read
and checked: not that labeller, and not CheXbert. Figures may be compared with each other, not with
published ones. A finding that is only possible counts as stated.
"""

import re
import tomllib
from importlib import resources

_FILE = resources.files("gsco.evaluation") / "findings.toml"
FINDINGS: dict[str, tuple[str, ...]] = {
    name: tuple(phrases)
    for name, phrases in tomllib.loads(_FILE.read_text(encoding="utf-8")).items()
}
"""CheXpert's findings, and how reports speak of them."""

# A negation holds up to the next "but", or to a part with a verb of its own; a full stop inside a
# number ends no sentence, nor does a line that is wrapped.
_CLAUSE = re.compile(
    r"[;:]|\n\s*\n|\.(?!\d)|\bbut\b|\bhowever\b|\bexcept\b|\balthough\b"
    r"|(?:,\s*(?:and\s+)?|\band\s+)(?!\s*(?:or|nor|and|which|that)\b)"
    r"(?=[^,;:.]*\b(?:is|are|was|were|has|have)\b)"
)
# What is only possible counts as stated, however it is put.
_POSSIBLE = re.compile(
    r"\b(can ?not|could not|not|difficult to)( be| been| entirely)* (ruled? out|excluded?)\b"
)
# "No change in the effusion" denies no effusion.
_UNCHANGED = re.compile(r"\b(no|not|without) (\w+ )?(interval |significant )?chang(e|ed)\b")
_BEFORE = re.compile(
    r"\b(no|not|without|absent|absence of|free of|clear of|negative for|never|denies|neither|nor|"
    r"rather than|resolved|resolution of|rules? out|ruled out|unlikely)\b"
)
_AFTER = re.compile(
    r"^[\w\s,-]{0,40}?\b((is|are|was|were|has|have) (not|no longer|been (excluded|ruled out))|"
    r"(is|are|was|were) (absent|excluded|ruled out|unlikely)|(has|have) resolved)\b"
)


def findings_of(report: str) -> frozenset[str]:
    """Return the findings that a report states, without those that it denies."""
    found = set()
    text = _POSSIBLE.sub("possible", _UNCHANGED.sub("unchanged", report.lower()))
    for clause in _CLAUSE.split(text):
        for name, phrases in FINDINGS.items():
            if any(_stated(clause, phrase) for phrase in phrases):
                found.add(name)
    return frozenset(found)


def _stated(clause: str, phrase: str) -> bool:
    """Whether a phrase stands in a clause that does not deny it."""
    ending = r"\w*" if phrase.endswith("*") else "(s|es)?"
    return any(
        not _BEFORE.search(clause[: match.start()]) and not _AFTER.search(clause[match.end() :])
        for match in re.finditer(rf"\b{re.escape(phrase.rstrip('*'))}{ending}\b", clause)
    )
