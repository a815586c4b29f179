"""What the service answers when it cannot give a diagnosis: problem documents (RFC 9457).

A `Problem` is raised anywhere in the service; its kind says the status and what it means.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from uuid import uuid4

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True)
class Kind:
    """A kind of problem, as the page at `/docs` lists it."""

    name: str
    """Ends the document's `type`."""
    status: int
    """HTTP status."""
    title: str
    """The same words for every problem of the kind."""


KINDS = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            Kind("bad-request", 400, "The request cannot be understood"),
            Kind("wrong-token", 401, "The token is missing or wrong"),
            Kind("not-found", 404, "There is nothing at this address"),
            Kind("unknown-task", 404, "The workspace has no such task"),
            Kind("wrong-method", 405, "The address does not take this method"),
            Kind("too-slow", 408, "The upload took too long"),
            Kind("too-large", 413, "The upload is larger than is read"),
            Kind("wrong-type", 415, "The body is not multipart/form-data"),
            Kind("wrong-host", 421, "The request was meant for another host"),
            Kind("wrong-fields", 422, "The fields of the form are not as they should be"),
            Kind("unreadable-image", 422, "An image cannot be read"),
            Kind("too-many-requests", 429, "More requests than are answered in a minute"),
            Kind("bug", 500, "The service failed"),
            Kind("busy", 503, "Too many requests wait already"),
            Kind("no-generalist", 503, "The generalist cannot be reached or is not fit"),
            Kind("not-ready", 503, "The task cannot be used as it is"),
        )
    }
)
_BY_STATUS: Mapping[int, str] = {400: "bad-request", 404: "not-found", 405: "wrong-method"}


class Problem(HTTPException):
    """Why there is no answer; becomes a problem document."""

    def __init__(
        self,
        name: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Mapping[str, str]] = (),
    ) -> None:
        """Name a kind and say in a sentence what to do.

        Args:
            name: of the kind.
            detail: for the person who sent the request; holds nothing of other requests.
            headers: of the response, besides the type of its body.
            errors: a field (`at`) and what is wrong with it (`why`), for each wrong field.
        """
        self.kind = KINDS[name]
        super().__init__(self.kind.status, detail, dict(headers or {}))
        self.errors = errors

    def document(self) -> dict[str, object]:
        """Return the problem document; `instance` is a name for this one occurrence."""
        return {
            "type": f"/docs#{self.kind.name}",
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            "instance": uuid4().urn,
            **({"errors": list(self.errors)} if self.errors else {}),
        }

    def response(self) -> JSONResponse:
        """Return the response that carries the document."""
        return JSONResponse(
            self.document(), self.kind.status, headers=self.headers, media_type=MEDIA_TYPE
        )


# Any: the signature that the framework asks of whoever answers an exception.
def answered(request: Any, error: Exception) -> JSONResponse:
    """Turn a Problem, or an error that the framework raises itself, into a problem document."""
    if isinstance(error, Problem):
        return error.response()
    if isinstance(error, RequestValidationError):
        return _of_fields(error).response()
    if isinstance(error, HTTPException):
        return _of_framework(error).response()
    raise error


def _of_framework(error: HTTPException) -> Problem:
    name = _BY_STATUS.get(error.status_code, "bad-request")
    says = {
        "not-found": "Nothing is at this address. The addresses are listed at `/docs`.",
        "wrong-method": "This address does not take this method. See `/docs`.",
    }
    detail = says.get(name, f"{error.detail} Send the form as `/docs` describes it.")
    return Problem(name, detail, headers=error.headers)


def _of_fields(error: RequestValidationError) -> Problem:
    # Without what was sent: it may be about a patient.
    wrong = [
        {"at": ".".join(str(part) for part in one["loc"][1:]) or "body", "why": str(one["msg"])}
        for one in error.errors()
    ]
    told = "; ".join(f"{one['at']}: {one['why']}" for one in wrong[:5])
    return Problem("wrong-fields", f"{told}. See `/docs` for the fields.", errors=wrong)
