"""The HTTP service: an upload comes in, a Diagnosis or a problem document goes out.

    app = application(GSCo.open("workspace"), Rules(token="..."))

Cases are diagnosed one request at a time, in a thread of their own: the models are shared.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, Form, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse

import gsco
from gsco.agent import GSCo
from gsco.case import NOTICE
from gsco.errors import unknown
from gsco.listing import tasks_of
from gsco.service import counts, page
from gsco.service.answering import batched, diagnosed
from gsco.service.bodies import BatchBody, DiagnosisBody, HealthBody, ProblemBody, TasksBody
from gsco.service.form import Asked
from gsco.service.gate import Gate, Rules
from gsco.service.problems import KINDS, MEDIA_TYPE, Problem, answered

T = TypeVar("T")
Uploaded = Annotated[Asked, Form(media_type="multipart/form-data")]
DESCRIPTION = f"Ask a generalist, specialists and similar cases about a medical image. {NOTICE}"
BATCH_VERSION = TASKS_VERSION = 1


def application(agent: GSCo, rules: Rules | None = None) -> FastAPI:
    """Return the ASGI application over an open workspace."""
    rules = rules or Rules()
    counted = counts.Counts()
    worker = ThreadPoolExecutor(1, thread_name_prefix="gsco")
    app = FastAPI(
        title="GSCo",
        version=gsco.__version__,
        description=DESCRIPTION,
        # The framework's own page loads scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # For the page only: the gate checks the token before any body is read.
        dependencies=[Security(HTTPBearer(auto_error=False))] if rules.token else [],
    )
    app.add_exception_handler(HTTPException, answered)
    app.add_exception_handler(RequestValidationError, answered)
    app.add_middleware(Gate, rules=rules, counts=counted)
    _add_cases(app, agent, rules, counted, worker)
    _add_facts(app, agent, counted)
    return app


def _add_cases(
    app: FastAPI, agent: GSCo, rules: Rules, counted: counts.Counts, worker: ThreadPoolExecutor
) -> None:
    """Add the addresses that diagnose."""
    refusals = _described(400, 401, 404, 408, 413, 415, 421, 422, 429, 500, 503)

    async def take(asked: Asked, work: Callable[[GSCo, Asked], T]) -> T:
        if asked.task not in (tasks := agent.tasks):
            raise Problem("unknown-task", unknown("task", asked.task, tasks, "/v1/tasks"))
        if (number := len(asked.images)) > rules.limits.images:
            raise Problem(
                "too-large",
                f"The form has {number} images; at most {rules.limits.images} are read. "
                "Send the rest in another request.",
            )
        return await asyncio.wrap_future(worker.submit(work, agent, asked))

    @app.post("/v1/diagnose", response_model=DiagnosisBody, responses=refusals)
    async def diagnose(asked: Uploaded) -> JSONResponse:
        """Diagnose one case of one or more images; specialists and index see the first."""
        try:
            made = await take(asked, diagnosed)
        except Problem:
            counted.cases("failed")
            raise
        counted.cases("failed" if made.answer is None else "answered")
        return JSONResponse(made.to_dict())

    @app.post("/v1/batch", response_model=BatchBody, responses=refusals)
    async def batch(asked: Uploaded) -> JSONResponse:
        """Diagnose images, each a case; one that cannot be read is listed with its problem."""
        rows = await take(asked, batched)
        failures = sum(row["diagnosis"] is None for row in rows)
        counted.cases("failed", failures)
        counted.cases("answered", len(rows) - failures)
        told = {"version": BATCH_VERSION, "cases": rows, "failures": failures, "notice": NOTICE}
        return JSONResponse(told)


def _add_facts(app: FastAPI, agent: GSCo, counted: counts.Counts) -> None:
    """Add the addresses that tell about the service."""
    refusals = _described(400, 401, 421, 429, 500)

    @app.get("/v1/tasks", response_model=TasksBody, responses=refusals)
    def tasks() -> JSONResponse:
        """List the tasks that can be asked for."""
        told = {"version": TASKS_VERSION, "tasks": tasks_of(agent), "notice": NOTICE}
        return JSONResponse(told)

    @app.get("/health", response_model=HealthBody, responses=_described(400, 421, 500))
    def health() -> JSONResponse:
        """Say that the service runs; needs no token."""
        return JSONResponse({"status": "ok", "version": gsco.__version__, "notice": NOTICE})

    @app.get("/metrics", response_class=PlainTextResponse, responses=refusals)
    def metrics() -> Response:
        """Return counts for Prometheus."""
        return Response(counted.text(), media_type=counts.MEDIA_TYPE)

    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    def docs(request: Request) -> HTMLResponse:
        return HTMLResponse(page.docs(app.openapi(), str(request.base_url)))


# Any: the framework's own type of these descriptions.
def _described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the problem documents that an address may answer, for the OpenAPI page."""
    content = {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{ProblemBody.__name__}"}}}
    return {
        status: {
            "description": "; ".join(k.title for k in KINDS.values() if k.status == status),
            "content": content,
        }
        for status in statuses
    }
