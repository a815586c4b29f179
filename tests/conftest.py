"""Where real images are: the folder that GSCO_DATA names. Without it those tests are skipped."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Return the folder of real data sets."""
    named = os.environ.get("GSCO_DATA")
    if not named or not Path(named).is_dir():
        pytest.skip("GSCO_DATA names no folder of real images")
    return Path(named)
