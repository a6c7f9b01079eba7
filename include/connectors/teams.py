"""Post cards to a Microsoft Teams channel through the URL of a workflow.

https://learn.microsoft.com/en-us/microsoftteams/platform/webhooks-and-connectors/how-to/add-incoming-webhook
and https://adaptivecards.io/explorer/AdaptiveCard.html. The older connectors and their MessageCards no longer work.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from include.connectors.http import HttpConnector
from include.connectors.refusals import named_connection
from include.errors import ConfigurationError
from include.texts import shortened

MAX_BYTES = 28_000
"""Largest message that Teams accepts."""
MAX_TEXT_LENGTH = 4_000
"""Characters of one text or fact; the rest is cut off."""
COLOURS = {"good": "Good", "bad": "Attention", "neutral": "Default"}


def adaptive_card(
    title: str, *, text: str = "", facts: Mapping[str, object] | None = None, tone: str = "neutral", url: str = ""
) -> Any:
    """Return a card with a title in the colour of its tone (good, bad, neutral), a text, facts by name, and a link."""
    body: list[dict[str, Any]] = [
        {"type": "TextBlock", "size": "Medium", "weight": "Bolder", "wrap": True}
        | {"color": COLOURS[tone], "text": shortened(title, MAX_TEXT_LENGTH)}
    ]
    if text:
        body.append({"type": "TextBlock", "wrap": True, "text": shortened(text, MAX_TEXT_LENGTH)})
    if facts:
        shown = [{"title": name, "value": shortened(str(value), MAX_TEXT_LENGTH)} for name, value in facts.items()]
        body.append({"type": "FactSet", "facts": shown})
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": {"width": "full"},
        "body": body,
    }
    return card | {"actions": [{"type": "Action.OpenUrl", "title": "Open in Airflow", "url": url}]} if url else card


def post_card(url: str, card: Mapping[str, Any], extras: Mapping[str, str] | None = None, *, conn_id: str = "") -> None:
    """Post a card to a workflow; a card that is too large loses its last parts.

    Args:
        url: address of the workflow. It is a secret, since anyone who has it can post: no log or error contains it.
        card: an adaptive card, as `adaptive_card` returns.
        extras: fields sent next to the card, for flows that require more (`channelId`).
        conn_id: the Airflow connection that the URL comes from, for errors.

    Raises:
        ProviderSyncError: the card was not accepted, after the connector's own retries.
    """
    message = {
        "type": "message",
        "attachments": [
            {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
        ],
        **(extras or {}),
    }
    body = msgspec.json.encode(message)
    while len(body) > MAX_BYTES and len(card["body"]) > 1:
        card["body"].pop()
        body = msgspec.json.encode(message)
    try:
        query = urlsplit(url).query
    except ValueError:
        raise ConfigurationError(
            f"The URL of the workflow in {named_connection(conn_id)} is not a URL: copy it from the workflow again"
        ) from None
    signature = [*parse_qs(query).get("sig", []), *re.findall(r"(?:^|&)sig=([^&]+)", query)]
    secrets = [*(signature or [url]), (extras or {}).get("apiKey", "")]
    with HttpConnector(
        url, conn_id=conn_id, attempts=3, connect_timeout=5, read_timeout=10, longest_sleep=10, secrets=secrets
    ) as connector:
        headers = {"Content-Type": "application/json; charset=utf-8"}
        connector.request("POST", body=body, headers=headers, decode=bytes)
