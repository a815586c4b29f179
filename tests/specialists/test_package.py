"""Importing the package does no work, and it is ours."""

import subprocess
import sys
from pathlib import Path

import pytest

import specialists


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, specialists; specialists.backbones(); "
        "heavy = {'torch', 'torchvision', 'timm', 'numpy', 'PIL', 'sklearn', 'matplotlib'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_package_is_the_one_of_this_tree() -> None:
    assert Path(specialists.__file__).parent == Path(__file__).parents[2] / "specialists"


@pytest.mark.parametrize("name", specialists.__all__)
def test_every_public_name_can_be_had(name: str) -> None:
    assert getattr(specialists, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'predict'"):
        specialists.predict  # noqa: B018
