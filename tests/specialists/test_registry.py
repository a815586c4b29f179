"""Specialists of other packages join by an entry point."""

import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from specialists import Opinion, SpecialistError, registry
from specialists.registry import installed, ordered


class Foreign:
    """As little as a specialist needs."""

    name = "foreign"
    weights_hash = "f00d"

    def predict(self, images: Sequence[Image.Image]) -> list[Opinion]:
        return [Opinion(self.name, ("blue spot", "red spot"), (0.8, 0.2)) for _ in images]

    def embed(self, images: Sequence[Image.Image]) -> np.ndarray:
        return np.ones((len(images), 1), np.float32)


def offer(monkeypatch: pytest.MonkeyPatch, *values: str) -> None:
    """Install a package whose function offers a specialist for `spots` only."""
    package = ModuleType("their_package")
    package.specialist = lambda task: Foreign() if task == "spots" else None  # type: ignore[attr-defined]  # made here
    monkeypatch.setitem(sys.modules, "their_package", package)
    entries = [EntryPoint(f"entry-{n}", value, registry.GROUP) for n, value in enumerate(values)]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries)


def test_a_package_offers_a_specialist_for_the_tasks_it_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offer(monkeypatch, "their_package:specialist")
    assert list(installed("spots")) == ["foreign"]
    assert installed("other") == {}


def test_a_package_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "their_package:gone")
    with pytest.raises(SpecialistError, match=r"'entry-0'.*Mend or uninstall"):
        installed("spots")


def test_two_packages_may_not_offer_the_same_name(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "their_package:specialist", "their_package:specialist")
    with pytest.raises(SpecialistError, match="Two installed packages"):
        installed("spots")


def test_an_opinion_is_put_into_the_order_of_the_task() -> None:
    said = ordered(Opinion("x", ("b", "a"), (0.7, 0.3)), ("a", "b"))
    assert said == Opinion("x", ("a", "b"), (0.3, 0.7))


def test_an_opinion_over_other_labels_is_refused() -> None:
    with pytest.raises(SpecialistError, match=r"knows the labels \['b', 'c'\]"):
        ordered(Opinion("x", ("b", "c"), (0.7, 0.3)), ("a", "b"))
