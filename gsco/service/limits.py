"""How much the service takes on: sizes, numbers, and requests a minute of one caller."""

import time
from collections.abc import Callable
from dataclasses import dataclass

MINUTE = 60.0
MANY = 10_000
"""Callers remembered before those who have been quiet are forgotten."""


@dataclass(frozen=True)
class Limits:
    """What one request may ask, and how many requests there may be."""

    megabytes: int = 64
    """Size of a request's body, all its images together; one is 1,000,000 bytes."""
    images: int = 64
    """Images of a request."""
    per_minute: int = 120
    """Requests of one address in a minute; 0 for no limit."""
    waiting: int = 32
    """Uploads that may be under way, wait for their turn, or be diagnosed at once."""
    seconds: float = 120.0
    """How long an upload may take."""

    @property
    def bytes(self) -> int:
        """The largest body."""
        return self.megabytes * 1_000_000


class Rate:
    """So many requests a minute for each caller: at once, then evenly (a leaky bucket)."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._step = MINUTE / per_minute if per_minute else 0.0
        self._clock = clock
        self._due: dict[str, float] = {}

    def wait(self, caller: str) -> float:
        """Take a request and return 0, or return in how many seconds it would be taken."""
        if not self._step:
            return 0.0
        now = self._clock()
        due = max(self._due.get(caller, now), now)
        if (over := due + self._step - now - MINUTE) > 1e-9:
            return over
        self._due[caller] = due + self._step
        if len(self._due) > MANY:
            self._due = {one: until for one, until in self._due.items() if until > now}
        return 0.0
