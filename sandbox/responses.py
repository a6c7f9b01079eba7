"""Build the stand-ins' HTTP responses: check credentials, apply the active faults, send."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from fastapi import HTTPException, Request, Response
from starlette.types import Receive, Scope, Send

from sandbox.faults import Rule

_HTML = b"<!DOCTYPE html><html><head><title>Maintenance</title></head><body>Back soon.</body></html>"


@dataclass(frozen=True)
class PlannedResponse:
    """The response of a service before faults change it."""

    body: bytes
    status: int = 200
    media_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


def _error_body(status: int, message: str) -> object:
    return {"status": status, "detail": message}


def check_access(request: Request, service: str, credentials: Mapping[str, str]) -> None:
    """Check Basic authentication, if `credentials` has an entry (`user:password`) for the service.

    Raises:
        HTTPException: the credentials are missing or wrong; the status is 401.
    """
    expected = credentials.get(service)
    if expected is None:
        return
    token = base64.b64encode(expected.encode()).decode()
    if request.headers.get("authorization") != f"Basic {token}":
        raise HTTPException(401, "credentials needed", {"WWW-Authenticate": f'Basic realm="{service}"'})


async def send(planned: PlannedResponse, active: dict[str, Rule]) -> Response:
    """Return the HTTP response, delayed and damaged as the active faults say (`status` excepted)."""
    if delay := active.get("delay"):
        await asyncio.sleep(delay.seconds)
    if "empty_body" in active:
        planned = replace(planned, body=b"")
    if "empty_object" in active:
        planned = replace(planned, body=b"{}")
    if "truncated_json" in active:
        planned = replace(planned, body=planned.body[: len(planned.body) // 2])
    if "html" in active:
        planned = replace(planned, body=_HTML, media_type="text/html")
    response = _CutResponse if "cut" in active else Response
    return response(planned.body, planned.status, planned.headers, planned.media_type)


def error_response(
    active: dict[str, Rule], error_body: Callable[[int, str], object] = _error_body
) -> PlannedResponse | None:
    """Return the error response that an active `status` fault demands, or None if there is no such fault.

    `error_body` builds the service's own error format from the status and a message.
    """
    rule = active.get("status")
    if rule is None:
        return None
    headers = {}
    if rule.retry_after is not None:
        # An HTTP date has whole seconds. Round up: a client that waits until then has waited long enough.
        at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=rule.retry_after + 1)
        headers["Retry-After"] = format_datetime(at, usegmt=True) if rule.as_date else str(rule.retry_after)
    return PlannedResponse(json.dumps(error_body(rule.status, "on request")).encode(), rule.status, headers=headers)


class _CutResponse(Response):
    """Announces the whole body, sends half of it and ends: uvicorn then closes the connection."""

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        half = self.body[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
