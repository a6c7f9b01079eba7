"""How the stand-ins answer: who is let in, and what faults make of an answer."""

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
class Answer:
    """What a service says when nothing goes wrong."""

    body: bytes
    status: int = 200
    media_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


def _error(status: int, told: str) -> object:
    return {"status": status, "detail": told}


def check_access(request: Request, service: str, credentials: Mapping[str, str]) -> None:
    """Refuse a request without the credentials (`user:password`) that the service asks for, if it does."""
    expected = credentials.get(service)
    if expected is None:
        return
    token = base64.b64encode(expected.encode()).decode()
    if request.headers.get("authorization") != f"Basic {token}":
        raise HTTPException(401, "credentials needed", {"WWW-Authenticate": f'Basic realm="{service}"'})


async def send(answer: Answer, fired: dict[str, Rule]) -> Response:
    """Wait as long as a fault says, then return the answer as the faults but `status` leave it."""
    if delay := fired.get("delay"):
        await asyncio.sleep(delay.seconds)
    if "empty_body" in fired:
        answer = replace(answer, body=b"")
    if "empty_object" in fired:
        answer = replace(answer, body=b"{}")
    if "truncated_json" in fired:
        answer = replace(answer, body=answer.body[: len(answer.body) // 2])
    if "html" in fired:
        answer = replace(answer, body=_HTML, media_type="text/html")
    response = _CutResponse if "cut" in fired else Response
    return response(answer.body, answer.status, answer.headers, answer.media_type)


def refusal(fired: dict[str, Rule], error: Callable[[int, str], object] = _error) -> Answer | None:
    """Return the answer that the fault `status` asks for, with a body as `error` writes it; None: it does not."""
    rule = fired.get("status")
    if rule is None:
        return None
    headers = {}
    if rule.retry_after is not None:
        # A date has whole seconds: rounded up, so that waiting until then is never waiting too short.
        at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=rule.retry_after + 1)
        headers["Retry-After"] = format_datetime(at, usegmt=True) if rule.as_date else str(rule.retry_after)
    return Answer(json.dumps(error(rule.status, "on request")).encode(), rule.status, headers=headers)


class _CutResponse(Response):
    """Promises the whole body, sends half of it and ends: uvicorn then closes the connection."""

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        half = self.body[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
