"""A stand-in for the workflow that posts to a channel of Teams what a webhook gets, and the channel to look at.

`POST /workflows/{id}/triggers/manual/paths/invoke?api-version=…&sp=…&sv=…&sig=…` takes a message of Adaptive Cards, as
https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using tells. The answer is
202, and `sig` is what lets in. `/sandbox/teams` and `/sandbox/teams.html` show the cards.
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

from sandbox.answers import Answer, refusal, send
from sandbox.faults import Faults, Service

SERVICE = "teams"
MISHAPS = Service()

_LARGEST = 28 * 1024
_CARDS_KEPT = 1000
_CARD = "application/vnd.microsoft.card.adaptive"
_PARTS = ("body", "columns", "items", "inlines")  # of a card, in which others are
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
    """The channel: the cards that came, the oldest first."""

    def __init__(self, signature: str) -> None:
        self._signature = signature
        self.cards: deque[dict[str, Any]] = deque(maxlen=_CARDS_KEPT)

    def reset(self) -> None:
        """Forget the cards."""
        self.cards.clear()

    def take(self, query: dict[str, str], body: bytes) -> Answer:
        """Keep the cards of a message, or refuse it."""
        if query.get("sig") != self._signature:
            return _refuse(401, "The request's sig is not that of the workflow.")
        if "api-version" not in query:
            return _refuse(400, "The request has no api-version.")
        if len(body) > _LARGEST:
            return _refuse(413, f"The message has {len(body)} bytes; {_LARGEST} are allowed.")
        try:
            self.cards.extend([_summary(card) for card in _cards(json.loads(body))])
        except (ValueError, RecursionError) as error:
            return _refuse(400, str(error))
        return Answer(b"", 202)


def _summary(card: dict[str, Any]) -> dict[str, Any]:
    title, *texts = _texts(card) or [""]
    return {"at": time.time(), "title": title, "text": "\n".join(texts), "card": card}


def _cards(message: Any) -> list[dict[str, Any]]:
    attachments = message.get("attachments") if isinstance(message, dict) else None
    if not isinstance(attachments, list) or not attachments or message.get("type") != "message":
        raise ValueError("This is no message with attachments.")
    found = []
    for attachment in attachments:
        card = attachment.get("content") if isinstance(attachment, dict) else None
        if not isinstance(card, dict) or attachment.get("contentType") != _CARD or card.get("type") != "AdaptiveCard":
            raise ValueError("An attachment is no Adaptive Card.")
        if not isinstance(card.get("version"), str) or not isinstance(card.get("body", []), list):
            raise ValueError("An Adaptive Card has no version, or a body that is no list.")
        found.append(card)
    return found


def _error(status: int, told: str) -> object:
    return {"error": {"code": _CODES.get(status, "RequestFailed"), "message": told}}


def _refuse(status: int, told: str) -> Answer:
    return Answer(json.dumps(_error(status, told)).encode(), status)


def router(teams: Teams, faults: Faults) -> APIRouter:
    """Return the routes of the service and of the channel."""
    routes = APIRouter()
    path = "/workflows/{workflow}/triggers/manual/paths/invoke"

    @routes.post(path)
    @routes.post(f"/powerautomate/automations/direct{path}")
    async def invoke(workflow: str, request: Request) -> Response:  # noqa: ARG001
        fired = faults.fire(request, SERVICE)
        body = await request.body()
        return await send(refusal(fired, _error) or teams.take(dict(request.query_params), body), fired)

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
    """Return the texts and the facts of a card, in their order."""
    if isinstance(part, list):
        return [text for each in part for text in _texts(each)]
    if not isinstance(part, dict):
        return []
    own = [str(part["text"])] if part.get("text") else []
    own += [f"{title}: {value}" for title, value in _facts(part)]
    return [*own, *(text for name in _PARTS for text in _texts(part.get(name)))]


def _facts(part: dict[str, Any]) -> list[tuple[str, str]]:
    facts = part.get("facts")
    found = [fact for fact in facts if isinstance(fact, dict)] if isinstance(facts, list) else []
    return [(str(fact.get("title", "")), str(fact.get("value", ""))) for fact in found]


def _page(teams: Teams) -> str:
    articles = "\n".join(map(_article, reversed(teams.cards))) or "<p>No cards yet.</p>"
    head = f'<meta charset="utf-8"><title>Teams</title><style>{_STYLE}</style>'
    return f'<!DOCTYPE html><html lang="en"><head>{head}</head><body><h1>Teams</h1>\n{articles}\n</body></html>'


def _article(kept: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(kept["at"], UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"<article><time>{at}</time>{''.join(_render(kept['card']))}</article>"


def _render(part: Any) -> Iterator[str]:
    """Write the texts, the facts and the links of a card as HTML."""
    if isinstance(part, list):
        for each in part:
            yield from _render(each)
    elif isinstance(part, dict):
        if part.get("text"):
            yield f"<p>{escape(str(part['text']))}</p>"
        if facts := _facts(part):
            pairs = [f"<dt>{escape(title)}</dt><dd>{escape(value)}</dd>" for title, value in facts]
            yield f"<dl>{''.join(pairs)}</dl>"
        for name in (*_PARTS, "actions"):
            yield from _render(part.get(name))
        if part.get("type") == "Action.OpenUrl":
            yield _link(str(part.get("url", "")), str(part.get("title", "")))


def _link(url: str, title: str) -> str:
    if not url.startswith(("http://", "https://")):
        return f"<p>{escape(title)}</p>"
    return f'<p><a href="{escape(url)}">{escape(title or url)}</a></p>'
