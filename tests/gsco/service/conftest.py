"""The service over the starter workspace, asked in process as a browser or a program would."""

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from gsco.agent import GSCo
from gsco.service.api import application
from gsco.service.gate import Rules
from gsco.settings import Settings

HERE = "http://127.0.0.1:8765"


def png(seed: int = 0, size: int = 64) -> bytes:
    """A drawn picture, different for every seed, as a PNG file."""
    pixels = np.random.default_rng(seed).integers(40, 200, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def picture() -> Callable[..., bytes]:
    return png


@pytest.fixture(scope="session")
def starter_agent() -> GSCo:
    return GSCo.open(settings=Settings())


@pytest.fixture
def service(starter_agent: GSCo) -> Iterator[Callable[..., TestClient]]:
    """Make clients of a service with the rules given."""
    with ExitStack() as stack:

        def make(rules: Rules | None = None, agent: GSCo = starter_agent) -> TestClient:
            app = application(agent, rules)
            return stack.enter_context(TestClient(app, base_url=HERE))

        yield make


@pytest.fixture
def client(service: Callable[..., TestClient]) -> TestClient:
    return service()
