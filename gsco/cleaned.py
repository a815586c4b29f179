"""Foreign words made harmless for a prompt."""

import re
import unicodedata

# What chat templates and processors read as a token of their own: <image>, <|im_end|>, [gMASK]; a
# bar may be a wide one.
_SPECIAL = re.compile(r"<(?=[A-Za-z/|\uff5c!_])|\[(?=/?[A-Za-z_]+\])")


def cleaned(text: str) -> str:
    """Return one line without control characters, in which nothing reads as a special token."""
    shown = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    return " ".join(_SPECIAL.sub(lambda match: match[0] + " ", shown).split())
