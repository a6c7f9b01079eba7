"""An alert, independent of the channel that delivers it."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Literal

import msgspec

Tone = Literal["good", "bad", "neutral"]


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """A message with a title, a body, facts by name, a tone and a URL (empty: no link)."""

    title: str
    body: str = ""
    facts: Mapping[str, object] = {}
    tone: Tone = "neutral"
    url: str = ""

    @property
    def text(self) -> str:
        """Body, facts and URL as plain text, without the title."""
        facts = [f"{name}: {value}" for name, value in self.facts.items()]
        return "\n\n".join(part for part in (self.body, "\n".join(facts), self.url) if part)

    @property
    def html(self) -> str:
        """The whole message as HTML, title included."""
        rows = "".join(
            f'<tr><th align="left" valign="top">{escape(name)}</th><td>{_lines(value)}</td></tr>'
            for name, value in self.facts.items()
        )
        parts = [
            f"<h3>{escape(self.title)}</h3>",
            f"<p>{_lines(self.body)}</p>" if self.body else "",
            f"<table>{rows}</table>" if rows else "",
            f'<p><a href="{escape(self.url)}">Open in Airflow</a></p>' if self.url else "",
        ]
        return "\n".join(part for part in parts if part)


def _lines(value: object) -> str:
    return escape(str(value)).replace("\n", "<br>")
