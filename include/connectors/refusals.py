"""The errors of requests that failed: each names the cause, the Airflow connection, and what to do.

The functions return an error of the tree in `include.errors`; its class says whether a retry may help. The body of a
response comes last in a message: a long one must not cut off what to do.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import IncompleteRead

import requests
import urllib3
from urllib3.util import parse_url

from include.connectors.messages import RawResponse
from include.connectors.redaction import Redactor
from include.errors import (
    AccessRefused,
    ConfigurationError,
    ProviderSyncError,
    RateLimited,
    RequestRefused,
    ServiceUnavailable,
    UndecodableBody,
    Unreachable,
)

MAX_RETRY_AFTER = 86_400.0
"""Longest wait obeyed, a day: a broken header must not stop a service for longer."""
WAIT_HEADERS = ("Retry-After", "RateLimit-Reset", "x-sib-ratelimit-reset")
"""The standard header, its draft companion, and Brevo's (https://developers.brevo.com/docs/limit-headers): seconds."""
UNKNOWN_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
"""Codes of a resolver for a name that does not exist; it returns EAI_AGAIN if it cannot tell."""
_HTML = re.compile(rb"<(!doctype html|html|head|body)\b", re.IGNORECASE)
NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE")


def named_connection(conn_id: str) -> str:
    """Return the words by which messages name an Airflow connection."""
    return f"the Airflow connection {conn_id}" if conn_id else "the connection"


def refused_by_status(request: str, response: RawResponse, *, redact: Redactor, conn_id: str) -> ProviderSyncError:
    """Return the error for a response that is neither good nor a redirect; `request` is its method and URL."""
    status, body = response.status, preview(response.body, redact)
    message, place = f"{request} responded with {status}", named_connection(conn_id)
    if status in {408, 429} or status >= 500:
        kind = RateLimited if status == 429 else ServiceUnavailable
        return kind(f"{message}{f': {body!r}' if body else ''}", retry_after=retry_after(response.headers))
    shown = f". The response begins {body!r}" if body else ""
    if status in {401, 403}:
        return AccessRefused(f"{message}: check the credentials of {place}{shown}")
    if status in {404, 410}:
        return RequestRefused(f"{message}: check the id in the URL, and the address of {place}{shown}", status=status)
    if status == 407:
        return RequestRefused(f"{message}: the proxy refuses access, check its credentials{shown}", status=status)
    return RequestRefused(
        f"{message}: the service does not accept this request, check the address of {place} and what is sent{shown}",
        status=status,
    )


def undecodable_body(
    request: str, response: RawResponse, reason: str, *, redact: Redactor, conn_id: str
) -> UndecodableBody:
    """Return the error for a good response whose body cannot be decoded, which `reason` explains."""
    kind = redact(response.headers.get("Content-Type", "no content type"))
    shown = f"it begins {preview(response.body, redact)!r}" if response.body else "it is empty"
    hint = ", which looks like HTML" if _HTML.search(response.body[:1024]) else ""
    return UndecodableBody(
        f"{request} responded with {response.status} ({kind}) and a body that cannot be decoded: {reason}; check the "
        f"address of {named_connection(conn_id)}. The body: {shown}{hint}"
    )


def preview(body: bytes, redact: Redactor) -> str:
    """Return the first printable characters of a body, redacted."""
    text = redact(body[:4096].decode(errors="replace"))[:80]
    return "".join(letter if letter.isprintable() else " " for letter in text)


def failed_to_connect(
    request: str, url: str, error: Exception, *, timeouts: tuple[float, float], redact: Redactor, conn_id: str
) -> ProviderSyncError:
    """Return the error for a request without a complete response."""
    place, root = named_connection(conn_id), _root(error)
    if isinstance(root, socket.gaierror) and root.errno in UNKNOWN_NAME:
        if isinstance(error, requests.exceptions.ProxyError):
            return Unreachable(f"{request} failed: the host of the proxy is unknown, check the proxy's address")
        return Unreachable(f"{request} failed: the host {_host(url)} is unknown, check the address of {place}")
    if isinstance(root, ssl.SSLCertVerificationError):
        return Unreachable(
            f"{request} failed: the certificate of {_host(url)} cannot be verified ({root.verify_message}). Check the "
            f"address of {place}; for a certificate authority of your own, set verify in its extra to the file of it"
        )
    if isinstance(root, ssl.SSLError) and root.reason in NOT_TLS:
        return Unreachable(
            f"{request} failed: {_host(url)} does not speak TLS at this port, check https and the port in the address "
            f"of {place}"
        )
    if isinstance(error, ValueError):
        return ConfigurationError(f"{request} cannot be sent: {redact(error)}; check {place}")
    reason = _reason(error, root, url, timeouts, redact)
    via = f" (Airflow connection {conn_id})" if conn_id else ""
    return ServiceUnavailable(f"{request} failed: {reason}{via}")


def _reason(error: Exception, root: BaseException, url: str, timeouts: tuple[float, float], redact: Redactor) -> str:
    cause = redact(root) or type(root).__name__
    if isinstance(error, requests.exceptions.ProxyError):
        reason = f"the proxy gives no connection ({cause})"
    elif isinstance(root, socket.gaierror):
        reason = f"the host {_host(url)} cannot be resolved at the moment ({cause})"
    elif isinstance(error, requests.ConnectTimeout):
        reason = f"no connection within {timeouts[0]:g} s"
    elif isinstance(error, requests.ReadTimeout | urllib3.exceptions.ReadTimeoutError):
        reason = f"no data came for {timeouts[1]:g} s"
    elif isinstance(root, ConnectionRefusedError):
        reason = "Connection refused: nothing listens at this host and port"
    elif isinstance(error, urllib3.exceptions.DecodeError):
        reason = "the compressed body is broken"
    elif isinstance(error, urllib3.exceptions.ProtocolError):
        shown = str(root) if isinstance(root, IncompleteRead) else cause
        reason = f"the connection was cut in the middle of the response ({shown})"
    else:
        reason = cause
    return reason


def _host(url: str) -> str:
    try:
        return parse_url(url).host or "?"
    except urllib3.exceptions.LocationParseError:
        return "?"


def _root(error: BaseException) -> BaseException:
    """Return the first cause: the messages above it repeat the whole address."""
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    return error


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait from a Retry-After header in either form, or from one of `WAIT_HEADERS`.

    None if there is none or it is invalid. A date is compared with the service's own clock if `Date` is sent too.
    """
    value = next((headers[name] for name in WAIT_HEADERS if headers.get(name)), "").strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
        return min(float(value), MAX_RETRY_AFTER)
    until = _http_date(value)
    if until is None:
        return None
    now = _http_date(headers.get("Date", "")) or datetime.now(UTC)
    return min(max(0.0, (until - now).total_seconds()), MAX_RETRY_AFTER)


def _http_date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
