"""The outlook of a run: after every batch, how much time is left, and what was asked so far.

The cost is told in what is known: cases that the generalist has read, and its tokens where they are
counted. A price is not told, as nobody here knows it.
"""

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from gsco.evaluation.ledger import Answer
from gsco.progress import Say

if TYPE_CHECKING:
    from gsco.generalist import Generalist


class Outlook:
    """Counts what this run has done, and tells in a sentence what is left."""

    def __init__(self, left: Mapping[str, int], reading: Collection[str], say: Say) -> None:
        """Begin to count.

        Args:
            left: who is asked, a system or a set, to how many cases there are to ask.
            reading: those of whom the generalist reads each case.
            say: told the sentence.
        """
        self._left, self._done = Counter(left), Counter[str]()
        self._seconds, self._tokens = Counter[str](), Counter[str]()
        self._reading, self._say = [who for who in left if who in reading], say
        self._start = time.perf_counter()

    def note(self, who: str, answers: Sequence[Answer]) -> None:
        """Count answers, and tell the sentence."""
        self._left[who] -= len(answers)
        self._done[who] += len(answers)
        # In thousandths: a counter counts whole things.
        self._seconds[who] += round(1000 * sum(one.seconds for one in answers))
        self._tokens[who] += round(sum(one.tokens or 0 for one in answers))
        self._say(self.sentence(time.perf_counter() - self._start))

    def sentence(self, elapsed: float) -> str:
        """Say what is left after so many seconds."""
        parts = [self._time(elapsed)]
        read, unread = (sum(n[who] for who in self._reading) for n in (self._done, self._left))
        if read + unread:
            parts.append(f"the generalist has read {read:,} of {read + unread:,} cases")
        if tokens := self._tokens.total():
            all_of_them = round(tokens + self._expected(self._tokens, self._reading))
            parts.append(f"{tokens:,} of about {all_of_them:,} tokens")
        return "; ".join(parts) + "."

    def _time(self, elapsed: float) -> str:
        waiting = [who for who, n in self._left.items() if n]
        if not waiting:
            return f"Done in {spelt(elapsed)}"
        if any(self._pace(self._seconds, who) is None for who in waiting):
            return "The time left is known once the generalist has begun"
        # Workers answer side by side: their seconds add up to more than have passed.
        side_by_side = max(1, self._seconds.total()) / 1000 / max(elapsed, 1e-3)
        return f"About {spelt(self._expected(self._seconds, waiting) / 1000 / side_by_side)} left"

    def _expected(self, spent: Counter[str], whose: Collection[str]) -> float:
        return sum(self._left[who] * (self._pace(spent, who) or 0) for who in whose)

    def _pace(self, spent: Counter[str], who: str) -> float | None:
        """Return what a case takes; of who has not begun, what it takes those alike, or None."""
        reads = who in self._reading
        alike = [n for n in self._done if (n in self._reading) == reads]
        known = [who] if self._done[who] else alike
        done = sum(self._done[n] for n in known)
        return sum(spent[n] for n in known) / done if done else None


def tokens_each(generalist: "Generalist | None", cases: int) -> float | None:
    """Return an even share of the tokens since the last call; None where nobody counts them."""
    spent = generalist.spent() if generalist else None
    return None if spent is None else round(spent / cases, 1)


def spelt(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
