"""Send requests to a service over HTTP: time-outs, retries, rate limit, and errors that say what to do.

One `HttpConnector` stands for one service, which may have several addresses. It retries what is usually temporary (429,
408, 5xx, a connection that failed or was cut, time-outs, a body that cannot be decoded), with exponential back-off and
full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), and obeys `Retry-After`
(https://www.rfc-editor.org/rfc/rfc9110#field.retry-after). It never sleeps longer than `longest_sleep`: a longer wait
is raised as `RateLimited`, so that the caller can release its worker slot.

Requests stay on the service of the connection: a redirect or a link to another one is refused, since the credentials
and headers of the connection would go there.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from threading import Lock
from typing import Any, Generic, Protocol, Self, TypeVar
from urllib.parse import urljoin

import msgspec
import requests

from include.connectors import cancellation
from include.connectors.messages import RawResponse, Request
from include.connectors.redaction import redact_log_record
from include.connectors.refusals import named_connection, refused_by_status, undecodable_body
from include.connectors.third_party import ThirdPartyRule, is_same_service
from include.connectors.transport import Auth, Transport
from include.errors import (
    ConfigurationError,
    ProviderSyncError,
    RateLimited,
    RedirectsElsewhere,
    RequestRefused,
    RetryableError,
    ServiceUnavailable,
    UndecodableBody,
    Unreachable,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_REDIRECTS = 5
REDIRECTS = {301, 302, 303, 307, 308}
UNREACHABLE_ATTEMPTS = 2
"""Attempts for a host that does not exist or cannot prove its identity: waiting hardly ever helps."""


@dataclass(frozen=True, slots=True)
class Response(Generic[T]):
    """A decoded response. `requested_at` is the time just before the request that succeeded, `size` is in bytes."""

    value: T
    requested_at: datetime
    status: int
    size: int


@dataclass(slots=True)
class Stats:
    """What a connector has done so far.

    `seconds` were spent on requests, `waited` on the rate limit, back-off and Retry-After.
    """

    requests: int = 0
    retries: int = 0
    bytes: int = 0
    seconds: float = 0.0
    waited: float = 0.0


class RateLimiter(Protocol):
    """Assigns each request a time slot. Safe to share between threads."""

    def acquire(self, longest: float = ...) -> float:
        """Reserve the next free slot, unless it is more than `longest` seconds away; return the seconds until then."""

    def pause(self, seconds: float) -> None:
        """Assign no slot in the next `seconds`: the service asked all clients to wait."""


class HttpConnector:
    """Sends requests to one service. Safe to share between threads.

    - `conn_id` is the Airflow connection that configures the service: errors name it.
    - `session` is a session that is already set up, for example by Airflow's HttpHook; `close` leaves it open, and its
      adapters should not retry by themselves. By default the connector has its own.
    - `read_timeout` limits the silence within a response, `response_timeout` the whole response; in seconds.
    - `attempts` includes the first one. `longest_sleep` limits every single wait; in seconds.
    - `mirrors` are further addresses of the same service: when one is down or silent, the next is tried at once.
    - `allow_private_networks` is the setting of the connection for the URLs that this service supplies (for example, an
      image in a listing): `third_party` is the rule for them.
    - `rule` is the rule that `base_url` itself must follow, if a third party supplied it.
    - `secrets` are removed from logs and errors, as are the credentials in `auth`, `headers`, `session` and `base_url`,
      and every value with a secret-looking name.
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
        response_timeout: float = 600.0,
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
        self._transport = Transport(
            base_url,
            conn_id=conn_id,
            mirrors=mirrors,
            session=session,
            headers=headers or {},
            auth=auth,
            secrets=secrets,
            rule=rule,
            timeouts=(connect_timeout, read_timeout),
            response_timeout=response_timeout,
            max_body_bytes=max_body_bytes,
        )
        self._redact = self._transport.redact
        self.third_party = ThirdPartyRule(conn_id, self._transport.base_urls, allow_private_networks)
        self._place = named_connection(conn_id)
        self._conn_id = conn_id
        self._attempts = attempts
        self._longest_sleep = longest_sleep
        self._rate_limiter = rate_limiter
        self._sleep = sleep
        self._jitter = jitter
        self._lock = Lock()
        self.stats = Stats()
        # At DEBUG, urllib3 logs every address with its query.
        logging.getLogger("urllib3.connectionpool").addFilter(redact_log_record)

    def get(
        self, path: str = "", params: Mapping[str, Any] | None = None, *, decode: Callable[[bytes], T]
    ) -> Response[T]:
        """Send a GET request for `path` below the base URL, and decode the body of the response.

        `decode` may raise `msgspec.DecodeError`, `UnicodeDecodeError` or `json.JSONDecodeError`: the request is then
        retried. It gets the body of every 2xx response, also an empty one (b""), and decides what that means.
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
    ) -> Response[T]:
        """Send a request of any method, with `body` as it is; `headers` are added to those of the connector.

        Only for requests that may be repeated: if the connection is cut, the service may have processed the request,
        and it is sent again. `path`, `decode` and the errors are those of `get`.
        """
        request = Request(method, path, params, body, headers or {})
        attempt = 1
        mirror = 0
        while True:
            result = self._attempt(request, self._transport.url(path, mirror), decode)
            if isinstance(result, Response):
                return result
            if isinstance(result, ServiceUnavailable | Unreachable):
                mirror += 1
                if mirror % len(self._transport.base_urls):
                    log.warning("%s; trying the next address of the service", result.message)
                    self._count(retries=1)
                    continue
            # Every address has failed once: that is one attempt, and the next one begins with the first address.
            attempts = self._attempts
            if isinstance(result, Unreachable):
                requested_wait, attempts = 0.0, min(attempts, UNREACHABLE_ATTEMPTS)
            else:
                requested_wait = self._requested_wait(result)
            if attempt >= attempts:
                result.message += f" ({attempt} attempts)" if attempt > 1 else ""
                raise result
            backoff = self._jitter() * min(self._longest_sleep, 2.0 ** (attempt - 1))
            wait = max(requested_wait, backoff)
            log.warning("Attempt %d of %d, next in %.1f s: %s", attempt, attempts, wait, result.message)
            self._wait(wait)
            self._count(retries=1)
            attempt += 1

    def close(self) -> None:
        """Close the connections, unless the session was passed in."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _attempt(
        self, request: Request, url: str, decode: Callable[[bytes], T]
    ) -> Response[T] | RetryableError | Unreachable:
        """Try once. Returns errors that may be temporary, raises the others."""
        redirects = 0
        while True:
            self._wait_for_turn()
            cancellation.raise_if_cancelled()
            requested_at = datetime.now(UTC)
            raw = self._send(request, url)
            if isinstance(raw, RetryableError | Unreachable):
                return raw
            if isinstance(raw, ProviderSyncError):
                raise raw
            if raw.status in REDIRECTS and "location" in raw.headers:
                redirects += 1
                if redirects > MAX_REDIRECTS:
                    raise RequestRefused(
                        f"{request.method} {self._redact(url)} redirects more than {MAX_REDIRECTS} times: check the "
                        f"address of {self._place}",
                        status=raw.status,
                    )
                url = self._redirected(request, raw)
                request = replace(request, params=None)  # the new address has a query of its own
                continue
            if 200 <= raw.status < 300:
                return self._decoded(request, raw, requested_at, decode)
            error = refused_by_status(self._shown(request, raw), raw, redact=self._redact, conn_id=self._conn_id)
            if isinstance(error, RetryableError):
                return error
            raise error

    def _send(self, request: Request, url: str) -> RawResponse | ProviderSyncError:
        began = time.perf_counter()
        size = 0
        try:
            raw = self._transport.send(request, url)
            if isinstance(raw, RawResponse):
                size = len(raw.body)
        finally:
            seconds = time.perf_counter() - began
            self._count(requests=1, bytes=size, seconds=seconds)
        if isinstance(raw, RawResponse) and log.isEnabledFor(logging.DEBUG):
            log.debug("%s: %d, %d bytes in %.3f s", self._shown(request, raw), raw.status, size, seconds)
        return raw

    def _decoded(
        self, request: Request, raw: RawResponse, requested_at: datetime, decode: Callable[[bytes], T]
    ) -> Response[T] | UndecodableBody:
        # The error is made after the handler: the decoder's own error quotes the body, and must not hang on ours.
        try:
            return Response(decode(raw.body), requested_at, raw.status, len(raw.body))
        except (msgspec.DecodeError, UnicodeDecodeError, json.JSONDecodeError) as error:
            reason = self._redact(error)
        return undecodable_body(self._shown(request, raw), raw, reason, redact=self._redact, conn_id=self._conn_id)

    def _redirected(self, request: Request, raw: RawResponse) -> str:
        """Return the new address, which must be the same service: headers with keys are sent there too."""
        target = urljoin(raw.url, raw.headers["location"])
        if not is_same_service(raw.url, target):
            raise RedirectsElsewhere(
                f"{self._shown(request, raw)} redirects to another service, {self._redact(target)}, which would get "
                f"the credentials of {self._place}: not followed. If the service moved, change the address there",
                status=raw.status,
                target=target,
            )
        return target

    def _shown(self, request: Request, raw: RawResponse) -> str:
        return f"{request.method} {self._redact(raw.url)}"

    def _requested_wait(self, error: RetryableError) -> float:
        """Return the seconds that the service asks to wait, and make all other connectors to it wait too."""
        wait = error.retry_after or 0.0
        if wait and self._rate_limiter is not None:
            self._rate_limiter.pause(wait)
        if wait > self._longest_sleep:
            raise self._too_long(f"{error.message}; the service asks for a wait of {wait:.0f} s", wait)
        return wait

    def _wait_for_turn(self) -> None:
        if self._rate_limiter is None:
            return
        wait = self._rate_limiter.acquire(self._longest_sleep)
        if wait > self._longest_sleep:
            base_url = self._redact(self._transport.base_urls[0])
            raise self._too_long(f"the rate limit allows the next request to {base_url} in {wait:.0f} s", wait)
        self._wait(wait)

    def _too_long(self, reason: str, wait: float) -> RateLimited:
        limit = f"a task sleeps at most {self._longest_sleep:.0f} s (longest_sleep) and is retried after it"
        return RateLimited(f"{reason}, {limit}", retry_after=wait)

    def _wait(self, seconds: float) -> None:
        if seconds > 0:
            self._sleep(seconds)
            self._count(waited=seconds)

    def _count(self, **amounts: float) -> None:
        with self._lock:
            for name, amount in amounts.items():
                setattr(self.stats, name, getattr(self.stats, name) + amount)
