"""Send requests to a service over HTTP: time-outs, retries, rate limit, and errors that say what to do.

One `HttpConnector` stands for one service, which may have several addresses. It retries what usually passes (429, 408,
5xx, a connection that failed or was cut, time-outs, a body that cannot be decoded), with exponential back-off and full
jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), and obeys `Retry-After`
(https://www.rfc-editor.org/rfc/rfc9110#field.retry-after). It never sleeps longer than `longest_sleep`: a longer wait
is raised as `RateLimited`, so that the caller can give its worker slot back.

Requests stay on the service of the connection: a redirect or a link to another one is refused, since the credentials
and headers of the connection would go there.
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

from include.connectors import cancellation
from include.connectors.rate_limit import RateLimiter
from include.connectors.redaction import Redactor, basic_credentials, looks_secret, redact_log_record
from include.connectors.refusals import failed_to_connect, named_connection, refused_by_status
from include.connectors.third_party import PinnedAdapter, ThirdPartyRule, is_same_service
from include.errors import (
    BodyTooLarge,
    ConfigurationError,
    ProviderSyncError,
    RateLimited,
    RedirectsElsewhere,
    RequestRefused,
    RetryableError,
    ServiceUnavailable,
    UndecodableBody,
    Unreachable,
    UntrustedUrl,
)

log = logging.getLogger(__name__)

T = TypeVar("T")
Auth = AuthBase | tuple[str, str]

READ_SIZE = 256 * 1024
MAX_REDIRECTS = 5
MAX_CONNECTIONS = 64
"""Of so many at once each is kept open for the next request; requests by itself keeps ten, and closes the others."""
MAX_PREPARED = 32
UNREACHABLE_ATTEMPTS = 2
"""For a host that does not exist or cannot prove who it is: that hardly ever passes by itself."""


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
    """Sends requests to one service. Safe to share between threads.

    - `conn_id` is the Airflow connection that the service is configured by: errors name it.
    - `session`: one that is already set up, for example by Airflow's HttpHook; it stays open on `close`, and its
      adapters should not retry by themselves. Without it the connector has its own.
    - `read_timeout` is the longest silence, `answer_timeout` the longest that one response may take in all.
    - `attempts` counts the first one. `longest_sleep` bounds every single wait.
    - `mirrors` are further addresses of the same service: when one is down or silent, the next is tried at once.
    - `allow_private_networks` is the setting of the connection for the URLs that this service supplies (an image in a
      listing): `third_party` is the rule for them.
    - `rule`: for a `base_url` that a third party supplied, the rule that it has to follow itself.
    - `secrets` are hidden in logs and errors, as are the credentials in `auth`, `headers`, `session` and `base_url`,
      and whatever has a secret-looking name.
    """

    def __init__(
        self,
        base_url: str,
        *,
        conn_id: str = "",
        mirrors: Sequence[str] = (),
        session: requests.Session | None = None,
        headers: Mapping[str, str] | None = None,
        auth: Auth | None = None,
        connect_timeout: float = 5.0,
        read_timeout: float = 60.0,
        answer_timeout: float = 600.0,
        attempts: int = 5,
        longest_sleep: float = 60.0,
        rate_limiter: RateLimiter | None = None,
        max_body_bytes: int = 256 * 2**20,
        secrets: Iterable[str] = (),
        allow_private_networks: bool = False,
        rule: ThirdPartyRule | None = None,
        sleep: Callable[[float], None] = cancellation.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        if attempts < 1:
            raise ConfigurationError(f"attempts is {attempts}, it must be at least 1")
        self._conn_id = conn_id
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
        self.third_party = ThirdPartyRule(conn_id, self._base_urls, allow_private_networks)
        # Proxies and certificates of the environment. Read once: it costs a quarter of a request.
        self._transport = self._session.merge_environment_settings(self._base_url, {}, True, None, None)
        self._has_plain_auth = {type(self._auth), type(self._session.auth)} <= _PLAIN_AUTHS
        self._prepared: dict[tuple[Any, ...], CaseInsensitiveDict[str | bytes]] = {}
        for prefix, adapter in list(self._session.adapters.items()):
            if type(adapter) is HTTPAdapter:
                self._session.mount(prefix, HTTPAdapter(pool_maxsize=MAX_CONNECTIONS, max_retries=adapter.max_retries))
        if rule is not None and not rule.is_exempt(self._base_url):
            for prefix in ("http://", "https://"):
                self._session.mount(prefix, PinnedAdapter(rule))
        self._timeouts = (connect_timeout, read_timeout)
        self._answer_timeout = answer_timeout
        self._attempts = attempts
        self._longest_sleep = longest_sleep
        self._rate_limiter = rate_limiter
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
        """Send a GET request for `path` below the base URL, and decode the body of the response.

        `decode` may raise `msgspec.DecodeError`, `UnicodeDecodeError` or `json.JSONDecodeError`: the request is then
        sent again. It gets the body of every 2xx response, also an empty one (b""): what that means, it alone can tell.
        A path is used as it is: quote what comes from outside. It may be a whole URL that the service supplied, such as
        the link to the next page, if that leads to the same service.

        Raises:
            UntrustedUrl: it leads to another service.
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
        """Send a request of any method, with `body` as it is; `headers` are added to those of the connector.

        Only for requests that may be repeated: one whose connection was cut may have been carried out, and is sent
        again. `path`, `decode` and the errors are those of `get`.
        """
        call = _Call(method, path, params, body, headers or {})
        attempt = 1
        mirror = 0
        while True:
            base_url = self._base_urls[mirror % len(self._base_urls)]
            outcome = self._ask(call, self._url(base_url, path), decode)
            if isinstance(outcome, Answer):
                return outcome
            if isinstance(outcome, ServiceUnavailable | Unreachable):
                mirror += 1
                if mirror % len(self._base_urls):
                    log.warning("%s; trying the next address of the service", outcome.message)
                    self._count(retries=1)
                    continue
            attempts = self._attempts
            if isinstance(outcome, Unreachable):
                asked_wait, attempts = 0.0, min(attempts, UNREACHABLE_ATTEMPTS)
            else:
                asked_wait = self._wait_asked_for(outcome)
            if attempt >= attempts:
                outcome.message += f" ({attempt} attempts)" if attempt > 1 else ""
                raise outcome
            backoff = self._jitter() * min(self._longest_sleep, 2.0 ** (attempt - 1))
            wait = max(asked_wait, backoff)
            log.warning("Attempt %d of %d, next in %.1f s: %s", attempt, attempts, wait, outcome.message)
            self._wait(wait)
            self._count(retries=1)
            attempt += 1

    def _url(self, base_url: str, path: str) -> str:
        if not re.match(r"https?://", path, re.IGNORECASE):
            return f"{base_url.rstrip('/')}/{path.lstrip('/')}" if path else base_url
        if not any(is_same_service(own, path) for own in self._base_urls):
            raise UntrustedUrl(
                f"The service supplied a link to another service, {self._redact(path)}, which would get the "
                f"credentials of {named_connection(self._conn_id)}: not followed. If it moved, change the address there"
            )
        return path

    def _wait_asked_for(self, error: RetryableError) -> float:
        """Return the seconds that the service asks to wait, which all others have to wait too."""
        wait = error.retry_after or 0.0
        if wait and self._rate_limiter is not None:
            self._rate_limiter.pause(wait)
        if wait > self._longest_sleep:
            raise RateLimited(
                f"{error.message}; the service asks for a wait of {wait:.0f} s, a task sleeps at most "
                f"{self._longest_sleep:.0f} s (longest_sleep) and is retried after it",
                retry_after=wait,
            )
        return wait

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

    def _ask(self, call: _Call, url: str, decode: Callable[[bytes], T]) -> Answer[T] | RetryableError | Unreachable:
        """Try once. Returns what may pass by itself as an error, raises what will not.

        Errors are made here and raised by the caller, outside of `except`: requests' own errors hold the whole
        address, and must not hang on ours as their context.
        """
        redirects = 0
        while True:
            self._wait_for_turn()
            cancellation.raise_if_cancelled()
            asked_at = datetime.now(UTC)
            reply = self._send(call, url)
            if isinstance(reply, RetryableError | Unreachable):
                return reply
            if isinstance(reply, ProviderSyncError):
                raise reply
            if reply.status in {301, 302, 303, 307, 308} and "location" in reply.headers:
                redirects += 1
                if redirects > MAX_REDIRECTS:
                    raise RequestRefused(
                        f"{call.method} {self._redact(url)} redirects more than {MAX_REDIRECTS} times: check the "
                        f"address of {named_connection(self._conn_id)}",
                        status=reply.status,
                    )
                url = self._redirected(call, reply)
                call = replace(call, params=None)
                continue
            if 200 <= reply.status < 300:
                return self._decoded(call, reply, asked_at, decode)
            return self._refused(call, reply)

    def _send(self, call: _Call, url: str) -> _Reply | ProviderSyncError:
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
            return failed_to_connect(
                self._redact(f"{call.method} {_with_query(url, call.params)}"),
                url,
                error,
                timeouts=self._timeouts,
                redact=self._redact,
                conn_id=self._conn_id,
            )
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
            if len(self._prepared) >= MAX_PREPARED:
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
                    f"{call.method} {self._redact(response.url)} responded with more than {self._max_body_bytes:,} "
                    "bytes: request smaller pages, or raise max_body_bytes"
                )
            if time.monotonic() > deadline:
                raise TimeoutError(f"the response took longer than {self._answer_timeout:g} s")
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
            f"{call.method} {self._redact(reply.url)} responded with {reply.status} ({self._redact(kind)}) and a body "
            f"that cannot be decoded: {reason}; check the address of {named_connection(self._conn_id)}. The body: "
            f"{shown}{hint}"
        )

    def _refused(self, call: _Call, reply: _Reply) -> RetryableError:
        """Return the error for a status that may pass, raise the one for a status that will not."""
        error = refused_by_status(
            f"{call.method} {self._redact(reply.url)}",
            reply.status,
            reply.headers,
            body=self._preview(reply.body) if reply.body else "",
            conn_id=self._conn_id,
        )
        if isinstance(error, RetryableError):
            return error
        raise error

    def _redirected(self, call: _Call, reply: _Reply) -> str:
        """Return the new address, which must be the same service: headers with keys would go there too."""
        target = urljoin(reply.url, reply.headers["location"])
        if not is_same_service(reply.url, target):
            raise RedirectsElsewhere(
                f"{call.method} {self._redact(reply.url)} redirects to another service, {self._redact(target)}, which "
                f"would get the credentials of {named_connection(self._conn_id)}: not followed. If the service moved, "
                "change the address there",
                status=reply.status,
                target=target,
            )
        return target

    def _wait_for_turn(self) -> None:
        if self._rate_limiter is None:
            return
        wait = self._rate_limiter.acquire(self._longest_sleep)
        if wait > self._longest_sleep:
            raise RateLimited(
                f"the rate limit allows the next request to {self._redact(self._base_url)} in {wait:.0f} s, a task "
                f"sleeps at most {self._longest_sleep:.0f} s (longest_sleep) and is retried after it",
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
        raise ConfigurationError(
            f"{redact(url)!r} is not the URL of a service: it must start with http:// or https:// and name a host"
        )
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


def _looks_like_html(body: bytes) -> bool:
    return re.search(rb"<(!doctype html|html|head|body)\b", body[:1024], re.IGNORECASE) is not None
