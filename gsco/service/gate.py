"""The gate before every request: who may come in, how often, with how much; and the log line.

It sees addresses and sizes, never a body. What it refuses is refused before the body is read.
"""

import asyncio
import hmac
import logging
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gsco.service.counts import Counts
from gsco.service.limits import Limits, Rate
from gsco.service.problems import Problem

OPEN = "/health"
"""Answers anybody: it says only that the service runs."""
UPLOADS = ("/v1/diagnose", "/v1/batch")
ROUTES = (*UPLOADS, "/v1/tasks", OPEN, "/metrics", "/docs", "/openapi.json")
WAIT = "5"
"""Seconds after which a caller turned away by a full service may ask again."""
HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
}

log = logging.getLogger("gsco.service")


@dataclass(frozen=True)
class Rules:
    """What the gate goes by."""

    limits: Limits = field(default_factory=Limits)
    token: str = ""
    """What callers must show; empty for none."""
    hosts: tuple[str, ...] = ()
    """Names of this host in requests; any if empty. On loopback they keep out web pages that
    have a name of their own resolve to this machine (DNS rebinding)."""


class Gate:
    """ASGI middleware around the whole service."""

    def __init__(self, app: ASGIApp, *, rules: Rules, counts: Counts) -> None:
        self._app = app
        self._rules = rules
        self._counts = counts
        self._rate = Rate(rules.limits.per_minute)
        self._places = threading.BoundedSemaphore(rules.limits.waiting)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in or answer with a problem; count it and log a line."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            await self._answer(scope, receive, told)
        # A bug: the caller gets no traceback, the log gets one without the error's own words,
        # which may repeat what was sent.
        except Exception as error:  # the service's edge
            bug = Problem("bug", "This is a bug. Please report it with what the log says.")
            document = bug.response()
            log.error("%s %s", bytes(document.body).decode(), _place(error))
            if status:
                raise
            await document(scope, receive, told)
        finally:
            route = scope["path"] if scope["path"] in ROUTES else "other"
            seconds = time.perf_counter() - start
            self._counts.request(route, scope["method"], status, seconds)
            log.info("%s %s %d %.0f ms", scope["method"][:8], route, status, seconds * 1000)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_upload = scope["path"] in UPLOADS and scope["method"] == "POST"
        try:
            self._admit(scope)
            if is_upload:
                self._measure(Headers(scope=scope))
        except Problem as problem:
            await problem.response()(scope, receive, send)
            return
        if not is_upload:
            await self._app(scope, receive, send)
        elif self._places.acquire(blocking=False):
            try:
                await self._app(scope, self._weighed(receive), send)
            finally:
                self._places.release()
        else:
            busy = Problem(
                "busy",
                f"{self._rules.limits.waiting} requests wait already. Ask again in {WAIT} s.",
                headers={"Retry-After": WAIT, "Connection": "close"},
            )
            await busy.response()(scope, receive, send)

    def _admit(self, scope: Scope) -> None:
        """Raise a Problem for another host, for too many requests, or without the token."""
        headers = Headers(scope=scope)
        hosts = self._rules.hosts
        if hosts and _host(headers) not in hosts:
            raise Problem("wrong-host", f"Address this service as {hosts[0]!r}.")
        if scope["path"] == OPEN:
            return
        caller = scope["client"][0] if scope.get("client") else ""
        if (wait := self._rate.wait(caller)) > 0:
            seconds = str(int(wait) + 1)
            raise Problem(
                "too-many-requests",
                f"More than {self._rules.limits.per_minute} requests came from your address in a "
                f"minute. Ask again in {seconds} s.",
                headers={"Retry-After": seconds, "Connection": "close"},
            )
        if self._rules.token and not _shows(headers, self._rules.token):
            raise Problem(
                "wrong-token",
                "Send the token of this service in the header `Authorization: Bearer TOKEN`.",
                headers={"WWW-Authenticate": 'Bearer realm="gsco"', "Connection": "close"},
            )

    def _measure(self, headers: Headers) -> None:
        """Raise a Problem for a body of another type, or one that says that it is too large."""
        if headers.get("content-type", "").split(";")[0].strip().lower() != "multipart/form-data":
            raise Problem(
                "wrong-type",
                "Send the images as a form, as `curl --form images=@scan.png` does.",
                headers={"Accept-Post": "multipart/form-data", "Connection": "close"},
            )
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self._rules.limits.bytes:
            raise self._too_large()

    def _too_large(self) -> Problem:
        return Problem(
            "too-large",
            f"The body is larger than {self._rules.limits.megabytes} MB. "
            "Send fewer or smaller images.",
            headers={"Connection": "close"},
        )

    def _weighed(self, receive: Receive) -> Receive:
        """Return `receive` that stops at a body that is too large or takes too long."""
        loop, limits = asyncio.get_running_loop(), self._rules.limits
        size, whole, end = 0, False, loop.time() + limits.seconds

        async def weighed() -> Message:
            nonlocal size, whole
            try:
                async with asyncio.timeout_at(None if whole else end):
                    message = await receive()
            except TimeoutError as error:
                raise Problem(
                    "too-slow",
                    f"The body did not arrive within {limits.seconds:.0f} s. Send it again.",
                    headers={"Connection": "close"},
                ) from error
            size += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if size > limits.bytes:
                raise self._too_large()
            return message

        return weighed


def _host(headers: Headers) -> str:
    try:
        return urlsplit(f"//{headers.get('host', '')}").hostname or ""
    # A bracket without its other.
    except ValueError:
        return ""


def _shows(headers: Headers, token: str) -> bool:
    scheme, _, shown = headers.get("authorization", "").partition(" ")
    # Headers arrive as Latin-1; comparing bytes takes the same time wherever they differ.
    same = hmac.compare_digest(shown.strip().encode("latin-1"), token.encode())
    return same and scheme.lower() == "bearer"


def _place(error: BaseException) -> str:
    """Say which error came from where, without its message."""
    frames = traceback.extract_tb(error.__traceback__)
    return " < ".join(
        [type(error).__name__, *(f"{f.name} ({f.filename}:{f.lineno})" for f in reversed(frames))]
    )
