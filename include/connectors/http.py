"""Ask a service over HTTP: time-outs, retries, pace, and errors that say what to do.

One `HttpConnector` stands for one service, which may have several addresses. It asks again by itself after what usually
passes (429, 408, 5xx, a connection that failed or was cut, time-outs, a body that cannot be decoded), with exponential
back-off and full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), and obeys
`Retry-After` (https://www.rfc-editor.org/rfc/rfc9110#field.retry-after). It never sleeps longer than `longest_sleep`: a
longer wait is raised as `RateLimited`, so that the caller can give its worker slot back.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import IncompleteRead
from threading import Lock
from types import TracebackType
from typing import Any, Generic, Self, TypeVar
from urllib.parse import urlencode, urljoin

import msgspec
import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth
from requests.cookies import RequestsCookieJar
from requests.structures import CaseInsensitiveDict
from requests.utils import get_auth_from_url, urldefragauth
from urllib3.util import parse_url

from include.connectors import stopping
from include.connectors.pace import Pace
from include.connectors.redaction import Redactor, basic_credentials, looks_secret, redact_log_record
from include.errors import (
    AccessRefused,
    BodyTooLarge,
    ConfigurationError,
    RateLimited,
    RedirectsElsewhere,
    RequestRefused,
    RetryableError,
    ServiceUnavailable,
    UndecodableBody,
)

log = logging.getLogger(__name__)

T = TypeVar("T")
Auth = AuthBase | tuple[str, str]

READ_SIZE = 256 * 1024
MOST_REDIRECTS = 5
MOST_CONNECTIONS = 64
"""Of so many at once each is kept open for the next request; requests by itself keeps ten, and closes the others."""
MOST_PREPARED = 32
LONGEST_RETRY_AFTER = 86_400.0
"""A service that asks for more than a day is asked again after one: a broken header must not stop it for good."""
WAIT_HEADERS = ("Retry-After", "RateLimit-Reset", "x-sib-ratelimit-reset")
"""The standard, its draft companion, and Brevo's (https://developers.brevo.com/docs/limit-headers): seconds to wait."""
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What a service answered. `asked_at` is the time just before the request that succeeded, `size` is in bytes."""

    value: T
    asked_at: datetime
    status: int
    size: int


@dataclass(slots=True)
class Stats:
    """What a connector did so far. `seconds` went into asking, `waited` into pace, back-off and Retry-After."""

    requests: int = 0
    retries: int = 0
    bytes: int = 0
    seconds: float = 0.0
    waited: float = 0.0


@dataclass(frozen=True, slots=True)
class _Call:
    method: str
    path: str
    params: Mapping[str, Any] | None
    body: bytes | None
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


class HttpConnector:
    """How to ask one service. Safe to share between threads.

    - `session`: one that is already set up, say by Airflow's HttpHook; it stays open on `close`, and its adapters
      should not retry by themselves. Without it the connector has its own.
    - `read_timeout` is the longest silence, `answer_timeout` the longest that one answer may take, however it trickles.
    - `attempts` counts the first one. `longest_sleep` bounds every single wait.
    - `mirrors` are further addresses of the same service: when one is down or silent, the next is asked at once.
    - `secrets` are hidden in logs and errors, beside the credentials in `auth`, `headers`, `session` and `base_url`,
      and whatever has a secret-looking name.
    """

    def __init__(
        self,
        base_url: str,
        *,
        mirrors: Sequence[str] = (),
        session: requests.Session | None = None,
        headers: Mapping[str, str] | None = None,
        auth: Auth | None = None,
        connect_timeout: float = 5.0,
        read_timeout: float = 60.0,
        answer_timeout: float = 600.0,
        attempts: int = 5,
        longest_sleep: float = 60.0,
        pace: Pace | None = None,
        max_body_bytes: int = 256 * 2**20,
        secrets: Iterable[str] = (),
        sleep: Callable[[float], None] = stopping.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        if attempts < 1:
            raise ConfigurationError(f"attempts is {attempts}, it must be at least 1")
        user, password = get_auth_from_url(base_url)
        self._owns_session = session is None
        self._session = session or requests.Session()
        self._headers = dict(headers or {})
        self._auth = auth or ((user, password) if user or password else None)
        if self._auth is None and self._owns_session:
            self._auth = _NoAuth()
        self._redact = Redactor(
            [
                *secrets,
                *_secret_headers(self._headers),
                *_secret_headers(self._session.headers),
                *_secrets_of(self._auth),
                *_secrets_of(self._session.auth),
            ]
        )
        self._base_url = _checked(urldefragauth(base_url) if user or password else base_url, self._redact)
        self._base_urls = (self._base_url, *(_checked(mirror, self._redact) for mirror in mirrors))
        # Proxies and certificates of the environment. Read once: it costs a quarter of a request.
        self._transport = self._session.merge_environment_settings(self._base_url, {}, True, None, None)
        self._has_plain_auth = {type(self._auth), type(self._session.auth)} <= _PLAIN_AUTHS
        self._prepared: dict[tuple[Any, ...], CaseInsensitiveDict[str | bytes]] = {}
        for prefix, adapter in list(self._session.adapters.items()):
            if type(adapter) is HTTPAdapter:
                self._session.mount(prefix, HTTPAdapter(pool_maxsize=MOST_CONNECTIONS, max_retries=adapter.max_retries))
        self._timeouts = (connect_timeout, read_timeout)
        self._answer_timeout = answer_timeout
        self._attempts = attempts
        self._longest_sleep = longest_sleep
        self._pace = pace
        self._max_body_bytes = max_body_bytes
        self._sleep = sleep
        self._jitter = jitter
        self._lock = Lock()
        self.stats = Stats()
        # At DEBUG, urllib3 writes every address with its query.
        logging.getLogger("urllib3.connectionpool").addFilter(redact_log_record)

    def get(
        self, path: str = "", params: Mapping[str, Any] | None = None, *, decode: Callable[[bytes], T]
    ) -> Answer[T]:
        """Ask for `path` below the base URL, and decode the body of the answer.

        `decode` may raise `msgspec.DecodeError`, `UnicodeDecodeError` or `json.JSONDecodeError`: the service is then
        asked again. It gets the body of every 2xx answer, also an empty one (b""): what that means, it alone can tell.
        A path is used as it is: quote what comes from outside.
        """
        return self.request("GET", path, params, decode=decode)

    def request(
        self,
        method: str,
        path: str = "",
        params: Mapping[str, Any] | None = None,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        decode: Callable[[bytes], T],
    ) -> Answer[T]:
        """Send a request of any method, with `body` as it is; `headers` go beside those of the connector.

        Only for requests that may be repeated: one that was answered by a cut connection may have been carried out,
        and is sent again. What was said of `get` holds here too.
        """
        call = _Call(method, path, params, body, headers or {})
        attempt = 1
        mirror = 0
        while True:
            base_url = self._base_urls[mirror % len(self._base_urls)]
            outcome = self._ask(call, f"{base_url.rstrip('/')}/{path.lstrip('/')}" if path else base_url, decode)
            if isinstance(outcome, Answer):
                return outcome
            if isinstance(outcome, ServiceUnavailable):
                mirror += 1
                if mirror % len(self._base_urls):
                    log.warning("%s; asking at the next address", outcome.message)
                    self._count(retries=1)
                    continue
            asked_wait = outcome.retry_after or 0.0
            if asked_wait and self._pace is not None:
                self._pace.hold(asked_wait)
            if asked_wait > self._longest_sleep:
                raise RateLimited(
                    f"{outcome.message}; it asks for a wait of {asked_wait:.0f} s, longer than the "
                    f"{self._longest_sleep:.0f} s that are slept through",
                    retry_after=asked_wait,
                )
            if attempt == self._attempts:
                outcome.message += f"; asked {attempt} times" if attempt > 1 else ""
                raise outcome
            backoff = self._jitter() * min(self._longest_sleep, 2.0 ** (attempt - 1))
            wait = max(asked_wait, backoff)
            log.warning("%s; attempt %d of %d, next in %.1f s", outcome.message, attempt, self._attempts, wait)
            self._wait(wait)
            self._count(retries=1)
            attempt += 1

    def close(self) -> None:
        """Close the connections, unless the session was handed in."""
        if self._owns_session:
            self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, call: _Call, url: str, decode: Callable[[bytes], T]) -> Answer[T] | RetryableError:
        """Ask once. Returns what may pass by itself as an error, raises what will not.

        Errors are made here and raised by the caller, outside of `except`: requests' own errors hold the whole
        address, and must not hang on ours as their context.
        """
        redirects = 0
        while True:
            self._wait_for_turn()
            stopping.check()
            asked_at = datetime.now(UTC)
            reply = self._send(call, url)
            if isinstance(reply, RetryableError):
                return reply
            if isinstance(reply, ConfigurationError):
                raise reply
            if reply.status in {301, 302, 303, 307, 308} and "location" in reply.headers:
                redirects += 1
                if redirects > MOST_REDIRECTS:
                    raise RequestRefused(
                        f"{call.method} {self._redact(url)} redirects more than {MOST_REDIRECTS} times",
                        status=reply.status,
                    )
                url = self._redirected(call, reply)
                call = replace(call, params=None)
                continue
            if 200 <= reply.status < 300:
                return self._decoded(call, reply, asked_at, decode)
            return self._refused(call, reply)

    def _send(self, call: _Call, url: str) -> _Reply | RetryableError | ConfigurationError:
        began = time.perf_counter()
        size = 0
        try:
            with self._session.send(
                self._prepare(call, url),
                timeout=self._timeouts,
                allow_redirects=False,
                **self._transport,
            ) as response:
                is_good = 200 <= response.status_code < 300
                body = self._read(call, response) if is_good else _glimpse(response)
                size = len(body)
                reply = _Reply(response.status_code, response.headers, body, response.url)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            asked = self._redact(f"{call.method} {_with_query(url, call.params)}")
            if isinstance(error, ValueError):
                return ConfigurationError(f"{asked} cannot be sent: {self._redact(error)}")
            return ServiceUnavailable(f"{asked} failed: {self._reason(error)}")
        finally:
            seconds = time.perf_counter() - began
            self._count(requests=1, size=size, seconds=seconds)
        if log.isEnabledFor(logging.DEBUG):
            log.debug(
                "%s %s: %d, %d bytes in %.3f s", call.method, self._redact(reply.url), reply.status, size, seconds
            )
        return reply

    def _prepare(self, call: _Call, url: str) -> requests.PreparedRequest:
        """As requests prepares it. Headers that are the same each time are put together once: that is a fifth of it."""
        session = self._session
        if call.params or session.params or session.cookies or session.hooks["response"] or not self._has_plain_auth:
            return self._prepare_anew(call, url)
        origin = url[: url.find("/", url.index("//") + 2)]
        key = (origin, *call.headers.items(), None, *session.headers.items())
        headers: Any = self._prepared.get(key)
        if headers is None:
            if len(self._prepared) >= MOST_PREPARED:
                self._prepared.clear()
            headers = self._prepare_anew(replace(call, method="GET", body=None), url).headers
            if "Cookie" not in headers:  # one that came meanwhile may be another the next time
                self._prepared[key] = headers
        prepared: Any = requests.PreparedRequest()
        prepared.prepare_method(call.method)
        prepared.prepare_url(url, None)
        prepared.headers = headers.copy()
        prepared._cookies = RequestsCookieJar()  # which redirects look into
        prepared.body = call.body or None
        prepared.prepare_content_length(prepared.body)
        done: requests.PreparedRequest = prepared
        return done

    def _prepare_anew(self, call: _Call, url: str) -> requests.PreparedRequest:
        headers = {**self._headers, **call.headers}
        request = requests.Request(
            call.method, url, headers=headers, params=call.params, data=call.body, auth=self._auth
        )
        return self._session.prepare_request(request)

    def _read(self, call: _Call, response: requests.Response) -> bytes:
        """Read the body in large pieces. urllib3 decompresses it, and raises when it is shorter than announced."""
        deadline = time.monotonic() + self._answer_timeout
        parts = []
        size = 0
        while part := response.raw.read1(READ_SIZE, decode_content=True):
            parts.append(part)
            size += len(part)
            if size > self._max_body_bytes:
                raise BodyTooLarge(
                    f"{call.method} {self._redact(response.url)} answered with more than {self._max_body_bytes} bytes: "
                    "ask for smaller pages, or raise max_body_bytes"
                )
            if time.monotonic() > deadline:
                raise TimeoutError(f"the answer took longer than {self._answer_timeout:g} s")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _decoded(
        self, call: _Call, reply: _Reply, asked_at: datetime, decode: Callable[[bytes], T]
    ) -> Answer[T] | UndecodableBody:
        try:
            return Answer(decode(reply.body), asked_at, reply.status, len(reply.body))
        except (msgspec.DecodeError, UnicodeDecodeError, json.JSONDecodeError) as error:
            reason = self._redact(error)
        kind = reply.headers.get("Content-Type", "no content type")
        shown = f"it begins {self._preview(reply.body)!r}" if reply.body else "it is empty"
        hint = ", which looks like HTML" if _looks_like_html(reply.body) else ""
        return UndecodableBody(
            f"{call.method} {self._redact(reply.url)} answered {reply.status} ({self._redact(kind)}) with a body that "
            f"cannot be decoded: {reason}; {shown}{hint}"
        )

    def _refused(self, call: _Call, reply: _Reply) -> RetryableError:
        """Return the error for a status that may pass, raise the one for a status that will not."""
        shown = f": {self._preview(reply.body)!r}" if reply.body else ""
        message = f"{call.method} {self._redact(reply.url)} answered {reply.status}{shown}"
        if reply.status == 429:
            return RateLimited(message, retry_after=_retry_after(reply.headers))
        if reply.status >= 500 or reply.status == 408:
            return ServiceUnavailable(message, retry_after=_retry_after(reply.headers))
        if reply.status in {401, 403}:
            raise AccessRefused(f"{message}; check the credentials of the connection")
        raise RequestRefused(f"{message}; check the address and the ids in it", status=reply.status)

    def _redirected(self, call: _Call, reply: _Reply) -> str:
        """Return the new address, which must be the same service: headers with keys would go there too."""
        target = urljoin(reply.url, reply.headers["location"])
        if not _is_same_service(reply.url, target):
            raise RedirectsElsewhere(
                f"{call.method} {self._redact(reply.url)} redirects to another service, {self._redact(target)}, which "
                "would get the credentials of this one; if the service moved, change the connection",
                status=reply.status,
                target=target,
            )
        return target

    def _wait_for_turn(self) -> None:
        if self._pace is None:
            return
        wait = self._pace.reserve(self._longest_sleep)
        if wait > self._longest_sleep:
            raise RateLimited(
                f"the next request to {self._redact(self._base_url)} may be sent in {wait:.0f} s, longer than the "
                f"{self._longest_sleep:.0f} s that are slept through",
                retry_after=wait,
            )
        self._wait(wait)

    def _wait(self, seconds: float) -> None:
        if seconds > 0:
            self._sleep(seconds)
            self._count(waited=seconds)

    def _count(
        self, *, requests: int = 0, retries: int = 0, size: int = 0, seconds: float = 0.0, waited: float = 0.0
    ) -> None:
        with self._lock:
            self.stats.requests += requests
            self.stats.retries += retries
            self.stats.bytes += size
            self.stats.seconds += seconds
            self.stats.waited += waited

    def _reason(self, error: Exception) -> str:
        connect, read = self._timeouts
        root = _root(error)
        if isinstance(error, requests.ConnectTimeout):
            return f"no connection within {connect:g} s"
        if isinstance(error, requests.ReadTimeout | urllib3.exceptions.ReadTimeoutError):
            return f"nothing came for {read:g} s"
        if isinstance(error, urllib3.exceptions.DecodeError):
            return "the compressed body is broken"
        if isinstance(error, urllib3.exceptions.ProtocolError):
            shown = str(root) if isinstance(root, IncompleteRead) else self._redact(root)
            return f"the connection was cut in mid-answer ({shown})"
        return self._redact(root) or type(root).__name__

    def _preview(self, body: bytes) -> str:
        text = self._redact(body[:4096].decode(errors="replace"))[:80]
        return "".join(letter if letter.isprintable() else " " for letter in text)


class _NoAuth(AuthBase):
    """Keeps requests from putting credentials of a .netrc file over the headers that were set."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


_PLAIN_AUTHS = {type(None), tuple, HTTPBasicAuth, _NoAuth}
"""What adds the same header to every request."""


def _checked(url: str, redact: Redactor) -> str:
    if not re.match(r"https?://[^/?#]", url, re.IGNORECASE):
        raise ConfigurationError(f"{redact(url)!r} is no address of a service: it must start with http:// or https://")
    return url


def _secret_headers(headers: Mapping[str, str | bytes]) -> list[str]:
    """Return values of headers with secret-looking names, whole and without a leading word such as Bearer."""
    values = [
        value.decode("latin-1") if isinstance(value, bytes) else value
        for name, value in headers.items()
        if looks_secret(name)
    ]
    return values + [value.split()[-1] for value in values if value.strip()]


def _secrets_of(auth: object) -> list[str]:
    if isinstance(auth, tuple):
        user, password = auth
    else:
        user, password = getattr(auth, "username", None), getattr(auth, "password", None)
    return [str(password), basic_credentials(str(user), str(password))] if password else []


def _glimpse(response: requests.Response) -> bytes:
    """Return the beginning of a body that only serves a message."""
    with contextlib.suppress(urllib3.exceptions.HTTPError, OSError):
        return bytes(response.raw.read1(READ_SIZE, decode_content=True))
    return b""


def _with_query(url: str, params: Mapping[str, Any] | None) -> str:
    given = {name: value for name, value in (params or {}).items() if value is not None}
    return f"{url}?{urlencode(given, doseq=True)}" if given else url


def _is_same_service(old: str, new: str) -> bool:
    """Compare as urllib3 reads addresses, since it is what connects. A step up from http to https is fine."""
    try:
        a, b = parse_url(old), parse_url(new)
    except urllib3.exceptions.LocationParseError:
        return False
    if a.host != b.host:
        return False
    a_port, b_port = a.port or _DEFAULT_PORTS.get(a.scheme or ""), b.port or _DEFAULT_PORTS.get(b.scheme or "")
    return (a.scheme, a_port) == (b.scheme, b_port) or (a.scheme, a_port, b.scheme, b_port) == (
        "http",
        80,
        "https",
        443,
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of a Retry-After header in either form, or of one that says when a limit is lifted.

    None when there is none or it makes no sense. A date is compared with the service's own clock when it sent that too.
    """
    value = next((headers[name] for name in WAIT_HEADERS if headers.get(name)), "").strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
        return min(float(value), LONGEST_RETRY_AFTER)
    until = _http_date(value)
    if until is None:
        return None
    now = _http_date(headers.get("Date", "")) or datetime.now(UTC)
    return min(max(0.0, (until - now).total_seconds()), LONGEST_RETRY_AFTER)


def _http_date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _looks_like_html(body: bytes) -> bool:
    return re.search(rb"<(!doctype html|html|head|body)\b", body[:1024], re.IGNORECASE) is not None


def _root(error: BaseException) -> BaseException:
    """Return what lies at the bottom: the texts above it repeat the whole address."""
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    return error
