"""Fetch pictures by their addresses, which may be anywhere: without any provider's credentials.

The addresses come from a listing or a redirect, so each of them has to follow the rule of `third_party`. Each origin
(scheme, host and port) has an `HttpConnector` of its own, for its time-outs, retries and limits.
"""

from __future__ import annotations

import re
from types import TracebackType
from typing import Any, Self

import urllib3
from urllib3.util import Url, parse_url

from include.connectors.http import MAX_REDIRECTS, HttpConnector
from include.connectors.third_party import ThirdPartyRule
from include.errors import (
    AccessRefused,
    BadPicture,
    BodyTooLarge,
    ConfigurationError,
    ProviderSyncError,
    RateLimited,
    RedirectsElsewhere,
    RequestRefused,
    RetryableError,
    ServiceUnavailable,
    Unreachable,
    UntrustedUrl,
)

MAX_ORIGINS = 8
_QUERY = re.compile(r"\?\S+")
_GONE = (404, 410)


class PictureFetcher:
    """Called with the address of a picture, gives its bytes.

    `rule` is that of the service that lists the pictures. `options` go to the connectors. Not for several threads at
    once.
    """

    def __init__(self, rule: ThirdPartyRule | None = None, *, max_body_bytes: int = 10_000_000, **options: Any) -> None:
        self._rule = rule or ThirdPartyRule()
        self._max_body_bytes = max_body_bytes
        self._options: dict[str, Any] = {
            "connect_timeout": 5.0,
            "read_timeout": 15.0,
            "answer_timeout": 60.0,
            "attempts": 3,
            "longest_sleep": 10.0,
            "headers": {"Accept": "image/*"},
            **options,
        }
        self._connectors: dict[str, HttpConnector] = {}

    def __call__(self, url: str) -> bytes:
        """Return the picture at this address.

        Raises:
            BadPicture: the address is not usable or leads into a private network, nothing is there, access is refused,
                or it is too large.
            RetryableError: its host does not respond, or asks for a long wait.
        """
        for _ in range(MAX_REDIRECTS + 1):
            origin, path = _parts(url)
            try:
                return self._connector(origin).get(path, decode=bytes).value
            except RedirectsElsewhere as error:
                url = error.target()
            except BodyTooLarge:
                raise BadPicture(
                    f"the picture has more than {self._max_body_bytes // 1_000_000} MB", address=_shown(url)
                ) from None
            except RateLimited as error:
                raise RateLimited(
                    "the host of the picture asks to wait", retry_after=error.retry_after, detail=_detail(error)
                ) from None
            except RetryableError as error:
                raise ServiceUnavailable("the host of the picture does not respond", detail=_detail(error)) from None
            except AccessRefused:
                raise BadPicture("access to the picture is refused (401 or 403)", address=_shown(url)) from None
            except RequestRefused as error:
                what = "does not exist" if error.status in _GONE else "cannot be fetched"
                raise BadPicture(f"the picture {what} ({error.status})", address=_shown(url)) from None
            except UntrustedUrl as error:
                raise BadPicture(f"the picture is not fetched: {error.message}", address=_shown(url)) from None
            except Unreachable as error:
                raise BadPicture("the host of the picture cannot be reached", detail=_detail(error)) from None
            except ConfigurationError:
                raise BadPicture("the address of the picture cannot be used", address=_shown(url)) from None
        raise BadPicture(f"the picture redirects more than {MAX_REDIRECTS} times", address=_shown(url))

    def close(self) -> None:
        """Close the connections."""
        for connector in self._connectors.values():
            connector.close()
        self._connectors.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _connector(self, origin: str) -> HttpConnector:
        """Return the connector of an origin; the one that was made first goes when there are too many."""
        if origin not in self._connectors:
            if len(self._connectors) == MAX_ORIGINS:
                self._connectors.pop(next(iter(self._connectors))).close()
            self._connectors[origin] = HttpConnector(
                origin, rule=self._rule, max_body_bytes=self._max_body_bytes, **self._options
            )
        return self._connectors[origin]


def _parts(url: str) -> tuple[str, str]:
    """Return the origin of an address, and its path with query."""
    try:
        parsed = parse_url(url)
    except urllib3.exceptions.LocationParseError:
        raise BadPicture("the address of the picture cannot be used") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise BadPicture("the address of the picture does not start with http:// or https://", address=_shown(url))
    if parsed.auth:
        raise BadPicture("the address of the picture has credentials in it", address=_shown(url))
    return Url(parsed.scheme, None, parsed.host, parsed.port).url, parsed.request_uri


def _shown(url: str) -> str:
    """Return an address without what may be secret in it: user, password, query and fragment."""
    try:
        parsed = parse_url(url)
    except urllib3.exceptions.LocationParseError:
        return "?"
    return Url(parsed.scheme, None, parsed.host, parsed.port, parsed.path).url


def _detail(error: ProviderSyncError) -> str:
    return _QUERY.sub("?***", error.message)
