"""The OpenAPI document against the service: schemathesis asks what nobody thought of."""

from collections import Counter
from collections.abc import Callable

import pytest
import schemathesis
from schemathesis import engine
from schemathesis.engine import events

from gsco.agent import GSCo
from gsco.service.api import application
from gsco.service.gate import Rules
from gsco.service.limits import Limits

CONFIG = """
workers = 1
[generation]
max-examples = 60
deterministic = true
database = "none"
no-shrink = true
[phases.stateful]
enabled = false
"""


@pytest.fixture(scope="module")
def schema(starter_agent: GSCo) -> schemathesis.BaseSchema:
    app = application(starter_agent, Rules(Limits(per_minute=0)))
    config = schemathesis.Config.from_str(CONFIG)
    return schemathesis.openapi.from_asgi("/openapi.json", app, config=config)


@pytest.mark.slow
def test_schemathesis_finds_nothing(schema: schemathesis.BaseSchema) -> None:
    found: list[object] = []
    statuses: Counter[tuple[str | None, int]] = Counter()
    for event in engine.from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            checks = [check for each in event.recorder.checks.values() for check in each]
            found += [
                (event.label, one.name, one.failure_info) for one in checks if one.failure_info
            ]
            for sent in event.recorder.interactions.values():
                assert sent.response is not None, event.label
                statuses[event.label, sent.response.status_code] += 1
        elif isinstance(event, events.NonFatalError | events.FatalError):
            found.append(event)
    assert found == []
    assert not [status for _, status in statuses if status >= 500]
    for route in ("POST /v1/diagnose", "POST /v1/batch"):
        assert statuses[route, 404] >= 5
        assert statuses[route, 422] >= 5
        assert statuses[route, 405] >= 1


@pytest.mark.parametrize(
    "system", ["stack", "neighbours", pytest.param("gsco-fused", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("route", ["/v1/diagnose", "/v1/batch"])
def test_real_answers_are_as_described(
    schema: schemathesis.BaseSchema, picture: Callable[..., bytes], route: str, system: str
) -> None:
    body = {"images": [picture(1), picture(2)], "task": "modality", "system": system}
    sent = schema[route]["POST"].Case(body=body, media_type="multipart/form-data")
    assert sent.call_and_validate(timeout=120).status_code == 200
    body["images"] = [picture(1), b"no image"]
    sent = schema[route]["POST"].Case(body=body, media_type="multipart/form-data")
    assert sent.call_and_validate(timeout=120).status_code == (200 if route == "/v1/batch" else 422)
