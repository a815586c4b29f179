"""How long work tells how far it is, whoever listens: a bar, a log, nobody."""

from collections.abc import Callable

Say = Callable[[str], None]
"""Told a sentence."""
Progress = Callable[[str, int, int], None]
"""Told a step's name, how much is done, and of how much."""
