"""How a benchmark writes down what it measured: the command, what the figures hang on, and them."""

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import gsco

RESULTS = Path(__file__).parent / "results"
PLACES = {"data": "$GSCO_DATA", "work": "W"}
"""What stands for a folder in the command that is written down."""


def write(name: str, command: str, data: Mapping[str, object]) -> str:
    """Write a result with its command and versions; return it as JSON."""
    RESULTS.mkdir(exist_ok=True)
    head = {"command": command, "commit": COMMIT, "versions": versions()}
    text = json.dumps({**head, **data}, indent=1)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    return text


def command_of(name: str, parser: argparse.ArgumentParser, given: argparse.Namespace) -> str:
    """Return the command of a benchmark, with every option that was given another value."""
    words = [f"python -m benchmarks.{name}"]
    for option, value in vars(given).items():
        if value == parser.get_default(option):
            continue
        words.append(f"--{option.replace('_', '-')}")
        parts = value if isinstance(value, list | tuple) else [] if value is True else [value]
        words += [PLACES.get(option, str(part)) for part in parts]
    return " ".join(words)


def commit() -> str:
    """Return the commit of this code, with a + where it differs from it; `unknown` without git."""
    root = Path(__file__).parents[1]

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        # What is measured, not what was measured before, or written about it.
        differs = git("status", "--porcelain", "--", ".", ":!benchmarks/results", ":!*.md")
        return git("rev-parse", "HEAD") + ("+" if differs else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


COMMIT = commit()
"""Asked at the start: a run takes hours, and there may be another one by its end."""


def versions() -> dict[str, str]:
    """Return what the figures depend on."""
    names = ("torch", "timm", "transformers", "numpy", "scikit-learn")
    return {"gsco": gsco.__version__, "python": platform.python_version()} | {
        name: version(name) for name in names
    }


def show(step: str, done: int, total: int) -> None:
    """Tell now and then how far a step is."""
    if done == total or (step.startswith("train") and done % 10 == 0):
        print(f"  {step}: {done}/{total}", file=sys.stderr, flush=True)
