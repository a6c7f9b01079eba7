"""An alert: what people are told, whichever channel it goes through."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Literal

import msgspec

Tone = Literal["good", "bad", "neutral"]


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """A message with a title, a text, facts by name, a tone and a link (empty: none)."""

    title: str
    body: str = ""
    facts: Mapping[str, object] = {}
    tone: Tone = "neutral"
    url: str = ""

    @property
    def text(self) -> str:
        """Everything below the title, as plain text."""
        facts = [f"{name}: {value}" for name, value in self.facts.items()]
        return "\n\n".join(part for part in (self.body, "\n".join(facts), self.url) if part)

    @property
    def html(self) -> str:
        """Everything with the title, as HTML."""
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
