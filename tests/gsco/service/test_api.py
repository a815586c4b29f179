"""The HTTP service: the answers of GSCo, and a problem document for everything else."""

import gzip
import io
import logging
import re
import tempfile
import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path

import httpx2
import pytest
from PIL import Image
from starlette.testclient import TestClient

from gsco.agent import GSCo
from gsco.case import NOTICE, Case, Diagnosis
from gsco.service.bodies import DiagnosisBody, NeighbourBody
from gsco.service.gate import ROUTES, Rules
from gsco.service.limits import Limits
from gsco.settings import Settings
from retrieval import Neighbour

Make = Callable[..., TestClient]
Draw = Callable[..., bytes]
TASK = "pneumonia-cxr"
FORM = {"task": TASK, "system": "stack"}


def asked(
    client: TestClient,
    *files: bytes,
    route: str = "/v1/diagnose",
    name: str = "scan.png",
    **form: str,
) -> httpx2.Response:
    """Send files and a form; `stack` is asked unless the form says otherwise."""
    images = [("images", (name, data)) for data in files]
    return client.post(route, files=images, data={**FORM, **form})


def problem(response: httpx2.Response, status: int, name: str) -> str:
    """Check that a response is a problem document of that kind; return its sentence."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    found = response.json()
    assert set(found) - {"errors"} == {"type", "title", "status", "detail", "instance"}
    assert (found["type"], found["status"]) == (f"/docs#{name}", status)
    assert found["instance"].startswith("urn:uuid:")
    return str(found["detail"])


def without_seconds(data: object) -> object:
    assert isinstance(data, dict)
    return {key: value for key, value in data.items() if key != "seconds"}


def test_a_diagnosis_is_the_one_that_gsco_gives(
    client: TestClient, starter_agent: GSCo, picture: Draw
) -> None:
    response = asked(client, picture(1))
    assert response.status_code == 200
    image = Image.open(io.BytesIO(picture(1)))
    direct = starter_agent.diagnose(Case(images=(image,), task=TASK), "stack")
    found = DiagnosisBody.model_validate(response.json()).model_dump()
    expected = DiagnosisBody.model_validate(direct.to_dict()).model_dump()
    assert without_seconds(found) == without_seconds(expected)
    assert found["notice"] == NOTICE


def test_the_shapes_on_the_page_are_those_of_the_values() -> None:
    assert set(DiagnosisBody.model_fields) == {f.name for f in fields(Diagnosis)} | {"version"}
    assert set(NeighbourBody.model_fields) == set(Neighbour._fields)


def test_a_case_may_have_several_images(client: TestClient, picture: Draw) -> None:
    one, two = asked(client, picture(1)).json(), asked(client, picture(1), picture(2)).json()
    assert two["case"] == one["case"]
    assert two["probabilities"] == one["probabilities"]


def test_dicom_and_nifti_are_known_by_their_bytes_and_leave_no_file(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nibabel
    import pydicom

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    slice_ = Path(pydicom.__file__).parent / "data" / "test_files" / "CT_small.dcm"
    volume = Path(nibabel.__file__).parent / "tests" / "data" / "example4d.nii.gz"
    packed = volume.read_bytes()
    for data in (slice_.read_bytes(), packed, gzip.decompress(packed)):
        assert asked(client, data, name="whatever.txt").json()["answer"] in {"normal", "pneumonia"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["../../../tmp/escaped.png", "/etc/passwd", "a" * 3000, "C:\\x.png", "Jane Doe.png"]
)
def test_the_name_of_a_file_does_nothing(
    client: TestClient,
    picture: Draw,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.DEBUG):
        response = asked(client, picture(1), name=name, question="Has Jane Doe pneumonia?")
    assert response.json()["probabilities"] == asked(client, picture(1)).json()["probabilities"]
    assert list(tmp_path.iterdir()) == []
    assert "POST /v1/diagnose 200" in caplog.text
    assert name not in caplog.text
    assert "Jane" not in caplog.text
    assert name not in response.text


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("scan.png", b"x")
    return buffer.getvalue()


def deflated_dicom() -> bytes:
    return bytes(128) + b"DICM" + b"1.2.840.10008.1.2.1.99"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty (0 bytes)"),
        (b"not an image", "is not an image that can be read"),
        (b"<html><script>alert(1)</script>", "is not an image that can be read"),
        (zipped(), "is not an image that can be read"),
        (gzip.compress(b"x" * 500), "is not an image that can be read"),
        (deflated_dicom(), "is deflated"),
    ],
)
def test_what_is_no_image_is_refused_with_a_sentence(
    client: TestClient, data: bytes, says: str
) -> None:
    told = problem(asked(client, data), 422, "unreadable-image")
    assert told.startswith("Image 1 of 1: ")
    assert says in told


def test_a_file_that_is_cut_off_is_refused_and_counted_from_one(
    client: TestClient, picture: Draw
) -> None:
    told = problem(asked(client, picture(1), picture(2)[:200]), 422, "unreadable-image")
    assert told.startswith("Image 2 of 2: the given file is damaged or cut off")


def test_a_volume_that_is_cut_off_or_unpacks_too_far_is_refused(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nibabel

    volume = Path(nibabel.__file__).parent / "tests" / "data" / "example4d.nii.gz"
    cut = volume.read_bytes()[:-2000]
    assert "cut off" in problem(asked(client, cut), 422, "unreadable-image")
    monkeypatch.setattr("gsco.service.uploads.UNPACKED", 100_000)
    told = problem(asked(client, volume.read_bytes()), 422, "unreadable-image")
    assert "unpacks to more than 100,000 bytes" in told


def test_images_with_too_many_pixels_together_are_refused(
    client: TestClient, picture: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gsco.service.uploads.LARGEST", 64 * 64 + 1)
    assert asked(client, picture(1)).status_code == 200
    told = problem(asked(client, picture(1), picture(2)), 413, "too-large")
    assert "8,192 pixels together; at most 4,097" in told


@pytest.mark.parametrize(
    ("form", "status", "name", "says"),
    [
        ({"task": "pneumonia-cx"}, 404, "unknown-task", "Did you mean 'pneumonia-cxr'?"),
        ({"task": ""}, 404, "unknown-task", "Unknown task ''."),
        ({"task": "../.."}, 404, "unknown-task", "See `/v1/tasks`."),
        ({"system": "stak"}, 422, "wrong-fields", "system: Input should be 'generalist'"),
        ({"style": "bold"}, 422, "wrong-fields", "style: Input should be"),
        ({"question": "x" * 2001}, 422, "wrong-fields", "question: String should have at most"),
        ({"sytem": "stack"}, 422, "wrong-fields", "sytem: Extra inputs are not permitted"),
    ],
)
def test_a_form_that_cannot_be_right_is_refused(
    client: TestClient, picture: Draw, form: dict[str, str], status: int, name: str, says: str
) -> None:
    assert says in problem(asked(client, picture(1), **form), status, name)


def test_a_form_without_a_file_or_with_text_for_one_is_refused(client: TestClient) -> None:
    boundary = {"content-type": "multipart/form-data; boundary=b"}
    body = '--b\r\nContent-Disposition: form-data; name="task"\r\n\r\nmodality\r\n--b--\r\n'
    response = client.post("/v1/diagnose", content=body.encode(), headers=boundary)
    assert problem(response, 422, "wrong-fields").startswith("images: Field required")
    text = body.replace("--b--", '--b\r\nContent-Disposition: form-data; name="images"\r\n\r\nJane')
    response = client.post("/v1/diagnose", content=f"{text}\r\n--b--\r\n", headers=boundary)
    assert "images" in problem(response, 422, "wrong-fields")
    assert "Jane" not in response.text


@pytest.mark.parametrize(
    ("kind", "body", "status", "name"),
    [
        ("application/json", b"{}", 415, "wrong-type"),
        ("application/x-www-form-urlencoded", b"task=modality", 415, "wrong-type"),
        ("", b"", 415, "wrong-type"),
        ("multipart/form-data", b"", 400, "bad-request"),
        ("multipart/form-data; boundary=b", b"no boundary here", 400, "bad-request"),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\nX-Long: " + b"x" * 200_000 + b"\r\n\r\n",
            400,
            "bad-request",
        ),
    ],
)
def test_a_body_that_is_no_form_is_refused(
    client: TestClient, kind: str, body: bytes, status: int, name: str
) -> None:
    response = client.post("/v1/diagnose", content=body, headers={"content-type": kind})
    problem(response, status, name)


def test_markup_in_a_question_comes_back_as_data_of_a_type_that_no_browser_runs(
    client: TestClient, picture: Draw
) -> None:
    response = asked(client, picture(1), question="<script>alert(1)</script>")
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-store"
    assert "<script>" not in response.text


def test_a_batch_lists_what_failed_and_goes_on(
    client: TestClient, starter_agent: GSCo, picture: Draw
) -> None:
    response = asked(client, picture(1), b"no image", picture(2), route="/v1/batch")
    assert response.status_code == 200
    found = response.json()
    assert (found["failures"], found["notice"]) == (1, NOTICE)
    assert [row["number"] for row in found["cases"]] == [1, 2, 3]
    first, second, third = found["cases"]
    assert second["diagnosis"] is None
    assert second["problem"]["type"] == "/docs#unreadable-image"
    assert second["problem"]["detail"].startswith("Image 2 of 3: ")
    for row, seed in ((first, 1), (third, 2)):
        alone = asked(client, picture(seed)).json()
        assert row["problem"] is None
        assert row["diagnosis"]["case"] == alone["case"]
        assert row["diagnosis"]["probabilities"] == pytest.approx(alone["probabilities"], abs=1e-5)


def test_a_batch_in_groups_keeps_the_order(
    client: TestClient, picture: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [picture(seed) for seed in range(5)]
    whole = asked(client, *files, route="/v1/batch").json()["cases"]
    monkeypatch.setattr("gsco.service.answering.BATCH", 2)
    parts = asked(client, *files, route="/v1/batch").json()["cases"]
    assert [r["diagnosis"]["case"] for r in parts] == [r["diagnosis"]["case"] for r in whole]


def test_more_images_than_are_read_are_refused(service: Make, picture: Draw) -> None:
    client = service(Rules(Limits(images=2)))
    told = problem(asked(client, *[picture(1)] * 3, route="/v1/batch"), 413, "too-large")
    assert told.startswith("The form has 3 images; at most 2 are read.")


def test_the_tasks_are_those_of_the_workspace(client: TestClient, starter_agent: GSCo) -> None:
    found = client.get("/v1/tasks").json()
    assert [task["id"] for task in found["tasks"]] == list(starter_agent.tasks)
    assert found["notice"] == NOTICE


@pytest.mark.parametrize(
    ("method", "path", "status", "name"),
    [
        ("GET", "/nowhere", 404, "not-found"),
        ("GET", "/v1/tasks/", 404, "not-found"),
        ("GET", "/v1/diagnose", 405, "wrong-method"),
        ("DELETE", "/v1/tasks", 405, "wrong-method"),
        ("POST", "/health", 405, "wrong-method"),
    ],
)
def test_a_wrong_address_or_method_is_a_problem_document(
    client: TestClient, method: str, path: str, status: int, name: str
) -> None:
    response = client.request(method, path)
    problem(response, status, name)
    assert ("allow" in response.headers) == (status == 405)


@pytest.mark.parametrize(
    "header", [None, "Bearer wrong", "Bearer ", "secret", "Basic secret", "Bearer sécret"]
)
def test_without_the_token_nothing_but_health_answers(service: Make, header: str | None) -> None:
    client = service(Rules(token="secret"))
    headers = {"authorization": header.encode("latin-1")} if header else {}
    for route in ROUTES:
        response = client.get(route, headers=headers)
        if route == "/health":
            assert response.status_code == 200
        else:
            problem(response, 401, "wrong-token")
            assert response.headers["www-authenticate"] == 'Bearer realm="gsco"'
            assert "secret" not in response.text


def test_with_the_token_all_answers(service: Make, picture: Draw) -> None:
    client = service(Rules(token="secret"))
    client.headers["authorization"] = "Bearer secret"
    assert asked(client, picture(1)).status_code == 200
    assert client.get("/docs").status_code == 200
    assert client.get("/openapi.json").json()["components"]["securitySchemes"]


def test_over_the_rate_is_a_problem_that_says_when_to_ask_again(
    service: Make, picture: Draw
) -> None:
    client = service(Rules(Limits(per_minute=2)))
    assert [client.get("/v1/tasks").status_code for _ in range(2)] == [200, 200]
    response = asked(client, picture(1))
    assert "Ask again in" in problem(response, 429, "too-many-requests")
    assert 0 < int(response.headers["retry-after"]) <= 31
    assert client.get("/health").status_code == 200


def test_a_name_that_is_not_ours_is_refused(service: Make) -> None:
    client = service(Rules(hosts=("127.0.0.1", "::1")))
    assert client.get("/health", headers={"host": "[::1]:8765"}).status_code == 200
    for host in ("evil.example:8765", "", "[::1", "127.0.0.1.evil.example"):
        response = client.get("/health", headers={"host": host})
        assert problem(response, 421, "wrong-host") == "Address this service as '127.0.0.1'."


def test_a_generalist_that_cannot_be_reached_is_a_problem(service: Make, picture: Draw) -> None:
    agent = GSCo.open(generalist="http://127.0.0.1:9/v1", settings=Settings())
    client = service(agent=agent)
    problem(asked(client, picture(1), system="gsco"), 503, "no-generalist")
    problem(asked(client, picture(1), system="gsco", route="/v1/batch"), 503, "no-generalist")
    assert asked(client, picture(1)).status_code == 200


def test_a_task_that_is_half_constructed_is_a_problem(
    service: Make, starter_agent: GSCo, tmp_path: Path, picture: Draw
) -> None:
    begun = tmp_path / "tasks" / TASK
    begun.mkdir(parents=True)
    card = starter_agent.workspace / "tasks" / TASK / "task.toml"
    (begun / "task.toml").write_text(card.read_text())
    client = service(agent=GSCo.open(tmp_path, settings=Settings()))
    assert client.get("/v1/tasks").json()["tasks"] == []
    told = problem(asked(client, picture(1)), 503, "not-ready")
    assert "its construction stopped early" in told


class Broken(GSCo):
    """An agent with a bug whose message repeats what a person wrote."""

    def diagnose(self, case: Case, *given: object, **named: object) -> Diagnosis:  # type: ignore[override]  # fails anyhow
        raise KeyError("Jane Doe")


def test_a_bug_is_a_problem_that_tells_nothing_and_a_log_that_tells_where(
    service: Make, starter_agent: GSCo, picture: Draw, caplog: pytest.LogCaptureFixture
) -> None:
    client = service(agent=Broken(starter_agent.workspace, Settings()))
    response = asked(client, picture(1))
    assert problem(response, 500, "bug").startswith("This is a bug.")
    assert "KeyError" not in response.text
    assert "Traceback" not in response.text
    assert "Jane" not in caplog.text + response.text
    assert f"KeyError < diagnose ({__file__}:" in caplog.text
    assert response.json()["instance"] in caplog.text
    assert client.get("/health").status_code == 200


class Waiting(GSCo):
    """An agent that answers when it is let."""

    begun = threading.Event()
    go_on = threading.Event()

    def diagnose(self, case: Case, *given: object, **named: object) -> Diagnosis:  # type: ignore[override]  # waits, then the same
        self.begun.set()
        assert self.go_on.wait(20)
        return super().diagnose(case, "stack")


def test_while_a_case_is_diagnosed_others_are_told_to_wait_and_health_answers(
    service: Make, starter_agent: GSCo, picture: Draw
) -> None:
    agent = Waiting(starter_agent.workspace, Settings())
    client = service(Rules(Limits(waiting=1)), agent)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(asked, client, picture(1))
        assert agent.begun.wait(20)
        assert client.get("/health").status_code == 200
        response = asked(client, picture(1))
        problem(response, 503, "busy")
        assert response.headers["retry-after"] == "5"
        agent.go_on.set()
        assert first.result().status_code == 200
    assert asked(client, picture(1)).status_code == 200


def test_two_who_ask_at_once_get_what_each_gets_alone(client: TestClient, picture: Draw) -> None:
    seeds = [1, 2, 3, 4, 5, 6]
    alone = [without_seconds(asked(client, picture(seed)).json()) for seed in seeds]
    with ThreadPoolExecutor(2) as pool:
        together = pool.map(lambda seed: asked(client, picture(seed)).json(), seeds)
        assert [without_seconds(one) for one in together] == alone


def test_metrics_count_by_route_and_status_and_know_no_patient(
    client: TestClient, picture: Draw
) -> None:
    asked(client, picture(1), name="Jane.png")
    asked(client, b"no image")
    asked(client, picture(1), b"no image", route="/v1/batch")
    client.get("/Jane")
    client.request("JANE", "/health")
    response = client.get("/metrics")
    lines = response.text.splitlines()
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'gsco_requests_total{route="/v1/diagnose",method="POST",status="200"} 1' in lines
    assert 'gsco_requests_total{route="/v1/diagnose",method="POST",status="422"} 1' in lines
    assert 'gsco_requests_total{route="other",method="GET",status="404"} 1' in lines
    assert 'gsco_cases_total{outcome="answered"} 2' in lines
    assert 'gsco_cases_total{outcome="failed"} 2' in lines
    assert 'gsco_request_seconds_count{route="/v1/diagnose"} 2' in lines
    assert "jane" not in response.text.lower()
    sample = re.compile(r'[a-z_]+(\{([a-z]+="[^"]*",?)+\})? [0-9.]+')
    assert all(sample.fullmatch(line) for line in lines if not line.startswith("#"))


def test_the_page_loads_nothing_and_describes_every_address_and_problem(
    client: TestClient,
) -> None:
    text = client.get("/docs").text
    assert not re.search(r"<script|<link|<img|src=|@import|url\(", text)
    assert NOTICE in text
    assert f"{client.base_url}/v1/diagnose</code>" in text
    for route in set(ROUTES) - {"/docs", "/openapi.json"}:
        assert f"{route}</code></h2>" in text
    kinds = {"wrong-token", "unknown-task", "too-large", "unreadable-image", "busy", "bug"}
    assert [kind for kind in kinds if f'id="{kind}"' not in text] == []


def test_every_answer_is_described_problems_included(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    assert set(schema["paths"]) == set(ROUTES) - {"/docs", "/openapi.json"}
    for methods in schema["paths"].values():
        for said in methods.values():
            for status, response in said["responses"].items():
                kinds = set(response["content"])
                assert (kinds == {"application/problem+json"}) == (not status.startswith("2"))
    refused = set(schema["paths"]["/v1/diagnose"]["post"]["responses"])
    assert {"401", "404", "413", "415", "422", "429", "500", "503"} <= refused
