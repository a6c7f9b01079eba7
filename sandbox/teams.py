"""Stand-in for a Teams workflow that posts webhook messages to a channel, and for the channel.

`POST /workflows/{id}/triggers/manual/paths/invoke?api-version=…&sp=…&sv=…&sig=…` accepts a message of Adaptive Cards:
https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using. It responds with
202; `sig` is the credential. `/sandbox/teams` and `/sandbox/teams.html` show the cards.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from html import escape
from typing import Any

from fastapi import APIRouter, Request, Response

from sandbox.faults import Faults, Service
from sandbox.responses import PlannedResponse, error_response, send

SERVICE = "teams"
FAULTS = Service()

_MAX_BYTES = 28 * 1024
_MAX_CARDS = 1000
_CARD = "application/vnd.microsoft.card.adaptive"
_CONTAINERS = ("body", "columns", "items", "inlines")  # keys of a card element that hold further elements
_CODES = {400: "InvalidRequestContent", 401: "Unauthorized", 413: "RequestEntityTooLarge"}

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; color: #242424 }
article { border: 1px solid #d1d1d1; border-left: 4px solid #5b5fc7; border-radius: 6px; padding: .6rem 1rem }
article { margin: 1rem 0 }
article p:first-of-type { font-weight: 600; font-size: 1.1rem }
time { color: #616161; font-size: .85em }
p, dl { margin: .3rem 0; white-space: pre-line }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem }
dt { font-weight: 600 }
dd { margin: 0 }
"""


class Teams:
    """The channel: the cards that were posted, oldest first."""

    def __init__(self, signature: str) -> None:
        self._signature = signature
        self.cards: deque[dict[str, Any]] = deque(maxlen=_MAX_CARDS)

    def reset(self) -> None:
        """Forget the cards."""
        self.cards.clear()

    def post(self, query: dict[str, str], body: bytes) -> PlannedResponse:
        """Add the cards of a message to the channel; return 202, or an error if the message is invalid."""
        if query.get("sig") != self._signature:
            return _error(401, "The signature (sig) is wrong.")
        if "api-version" not in query:
            return _error(400, "The query parameter api-version is missing.")
        if len(body) > _MAX_BYTES:
            return _error(413, f"The message is too large: {len(body)} bytes; the limit is {_MAX_BYTES}.")
        try:
            self.cards.extend([_summary(card) for card in _cards(json.loads(body))])
        except (ValueError, RecursionError) as error:
            return _error(400, str(error))
        return PlannedResponse(b"", 202)


def _summary(card: dict[str, Any]) -> dict[str, Any]:
    title, *texts = _texts(card) or [""]
    return {"at": time.time(), "title": title, "text": "\n".join(texts), "card": card}


def _cards(message: Any) -> list[dict[str, Any]]:
    attachments = message.get("attachments") if isinstance(message, dict) else None
    if not isinstance(attachments, list) or not attachments or message.get("type") != "message":
        raise ValueError("The body is not a message with attachments.")
    found = []
    for attachment in attachments:
        card = attachment.get("content") if isinstance(attachment, dict) else None
        if not isinstance(card, dict) or attachment.get("contentType") != _CARD or card.get("type") != "AdaptiveCard":
            raise ValueError("An attachment is not an Adaptive Card.")
        if not isinstance(card.get("version"), str) or not isinstance(card.get("body", []), list):
            raise ValueError("An Adaptive Card has no version, or its body is not a list.")
        found.append(card)
    return found


def _error_body(status: int, message: str) -> object:
    return {"error": {"code": _CODES.get(status, "RequestFailed"), "message": message}}


def _error(status: int, message: str) -> PlannedResponse:
    return PlannedResponse(json.dumps(_error_body(status, message)).encode(), status)


def router(teams: Teams, faults: Faults) -> APIRouter:
    """Return the routes of the service and of the channel."""
    routes = APIRouter()
    path = "/workflows/{workflow}/triggers/manual/paths/invoke"

    @routes.post(path)
    @routes.post(f"/powerautomate/automations/direct{path}")
    async def invoke(workflow: str, request: Request) -> Response:  # noqa: ARG001
        active = faults.inject(request, SERVICE)
        body = await request.body()
        return await send(error_response(active, _error_body) or teams.post(dict(request.query_params), body), active)

    @routes.get("/sandbox/teams")
    async def list_cards() -> list[dict[str, Any]]:
        return list(teams.cards)

    @routes.delete("/sandbox/teams")
    async def forget_cards() -> list[dict[str, Any]]:
        teams.reset()
        return []

    @routes.get("/sandbox/teams.html")
    async def show_cards() -> Response:
        return Response(_page(teams), media_type="text/html")

    return routes


def _texts(part: Any) -> list[str]:
    """Return the texts and facts of a card, in order."""
    if isinstance(part, list):
        return [text for each in part for text in _texts(each)]
    if not isinstance(part, dict):
        return []
    own = [str(part["text"])] if part.get("text") else []
    own += [f"{title}: {value}" for title, value in _facts(part)]
    return [*own, *(text for name in _CONTAINERS for text in _texts(part.get(name)))]


def _facts(part: dict[str, Any]) -> list[tuple[str, str]]:
    facts = part.get("facts")
    found = [fact for fact in facts if isinstance(fact, dict)] if isinstance(facts, list) else []
    return [(str(fact.get("title", "")), str(fact.get("value", ""))) for fact in found]


def _page(teams: Teams) -> str:
    articles = "\n".join(map(_article, reversed(teams.cards))) or "<p>No cards yet.</p>"
    head = f'<meta charset="utf-8"><title>Teams</title><style>{_STYLE}</style>'
    return f'<!DOCTYPE html><html lang="en"><head>{head}</head><body><h1>Teams</h1>\n{articles}\n</body></html>'


def _article(summary: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(summary["at"], UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"<article><time>{at}</time>{''.join(_render(summary['card']))}</article>"


def _render(part: Any) -> Iterator[str]:
    """Render the texts, facts and links of a card as HTML."""
    if isinstance(part, list):
        for each in part:
            yield from _render(each)
    elif isinstance(part, dict):
        if part.get("text"):
            yield f"<p>{escape(str(part['text']))}</p>"
        if facts := _facts(part):
            pairs = [f"<dt>{escape(title)}</dt><dd>{escape(value)}</dd>" for title, value in facts]
            yield f"<dl>{''.join(pairs)}</dl>"
        for name in (*_CONTAINERS, "actions"):
            yield from _render(part.get(name))
        if part.get("type") == "Action.OpenUrl":
            yield _link(str(part.get("url", "")), str(part.get("title", "")))


def _link(url: str, title: str) -> str:
    if not url.startswith(("http://", "https://")):
        return f"<p>{escape(title)}</p>"
    return f'<p><a href="{escape(url)}">{escape(title or url)}</a></p>'
