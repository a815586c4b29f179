"""Runs the command line in process."""

import sys

import pytest

from gsco import cli


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run `gsco` as the console script does and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["gsco", *map(str, words)])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0
