"""Hide secrets in log lines and error messages.

Two rules apply together: known secrets are hidden wherever they occur, and values with a secret-looking name
(`token=…`, `X-Api-Key: …`, `"password": "…"`, the user part of a URL) are hidden without having been declared. Hiding
too much only makes a message harder to read; hiding too little leaks a password. So the list of names is broad.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, quote_plus, unquote

HIDDEN = "***"

_ANYWHERE = ("token", "secret", "password", "passwd", "apikey", "authorization", "signature", "credential", "cookie")
_WHOLE_PARTS = {"key", "auth", "pwd", "pass", "sig", "bearer", "login"}

_USERINFO = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)[^/?#\s\"'<>]*@", re.IGNORECASE)
_ASSIGNED = re.compile(r"(?P<name>[\w.%\[\]-]+)=(?P<value>[^&\s\"'<>]+)")
_NAMED = re.compile(
    r"(?P<name>[A-Za-z][\w-]*)[\"']?\s*:\s*"
    r"(?P<value>\"(?:[^\"\\]|\\.)*\"?|b?'[^']*'?|(?:(?:basic|bearer|digest|token)\s+)?[^\s\"',;}]+)",
    re.IGNORECASE,
)


def looks_secret(name: str) -> bool:
    """Whether a header, query parameter or field of this name is likely to contain a secret."""
    lowered = unquote(name).lower()
    parts = re.split(r"[^a-z0-9]+", lowered)
    joined = "".join(parts)
    return joined.endswith("key") or any(word in joined for word in _ANYWHERE) or not _WHOLE_PARTS.isdisjoint(parts)


def _hide(match: re.Match[str]) -> str:
    return match[0].removesuffix(match["value"]) + HIDDEN if looks_secret(match["name"]) else match[0]


class Redactor:
    """Called with any text, returns it without secrets.

    `secrets` are hidden wherever they occur, also percent-encoded or JSON-escaped.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {
            form
            for secret in secrets
            if secret
            for form in (secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1])
        }
        # A very short secret may be part of a name such as "token": replace it after the names were checked.
        self._known = _any_of(form for form in forms if len(form) >= 4)
        self._short = _any_of(form for form in forms if len(form) < 4)

    def __call__(self, text: object) -> str:
        """Return `text` as a string with every secret replaced by three stars."""
        shown = self._known.sub(HIDDEN, str(text))
        shown = _USERINFO.sub(rf"\g<scheme>{HIDDEN}@", shown)
        shown = _ASSIGNED.sub(_hide, shown)
        shown = _NAMED.sub(_hide, shown)
        return self._short.sub(HIDDEN, shown)


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    longest_first = sorted(texts, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) if longest_first else r"(?!)")


redact = Redactor()
"""For texts without known secrets: only names decide."""


def redact_log_record(record: logging.LogRecord) -> bool:
    """Hide secrets in the arguments of a log record; a filter for `Logger.addFilter` that keeps every record."""
    if isinstance(record.args, tuple):
        record.args = tuple(_redact_argument(value) for value in record.args)
    return True


def _redact_argument(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float) else redact(value)
