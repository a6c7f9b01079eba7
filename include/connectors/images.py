"""Download images by URL, from any host and without a provider's credentials.

The URLs come from a listing or a redirect, so each must follow the rule of `third_party`. Each origin (scheme, host and
port) has its own `HttpConnector`, for time-outs, retries and limits.
"""

from __future__ import annotations

import re
from typing import Any, Self

import urllib3
from urllib3.util import Url, parse_url

from include.connectors.http import MAX_REDIRECTS, HttpConnector
from include.connectors.third_party import ThirdPartyRule
from include.errors import (
    AccessRefused,
    BadImage,
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
"""Hosts whose connections are kept open."""
_QUERY = re.compile(r"\?\S+")
_GONE = (404, 410)


class ImageFetcher:
    """Called with the URL of an image, returns its bytes.

    `rule` is the rule of the service that lists the images. `options` are passed to `HttpConnector`. Not safe to share
    between threads.
    """

    def __init__(self, rule: ThirdPartyRule | None = None, *, max_body_bytes: int = 10_000_000, **options: Any) -> None:
        self._rule = rule or ThirdPartyRule()
        self._max_body_bytes = max_body_bytes
        self._options: dict[str, Any] = {
            "connect_timeout": 5.0,
            "read_timeout": 15.0,
            "response_timeout": 60.0,
            "attempts": 3,
            "longest_sleep": 10.0,
            "headers": {"Accept": "image/*"},
            **options,
        }
        self._connectors: dict[str, HttpConnector] = {}

    def __call__(self, url: str) -> bytes:
        """Return the image at this URL.

        Raises:
            BadImage: the URL is invalid or leads into a private network, the image does not exist or is too large, or
                access is refused.
            RetryableError: the host does not respond, or asks for a long wait.
        """
        for _ in range(MAX_REDIRECTS + 1):
            origin, path = _parts(url)
            try:
                return self._connector(origin).get(path, decode=bytes).value
            except RedirectsElsewhere as error:
                url = error.target()
            except BodyTooLarge:
                raise BadImage(
                    f"the image has more than {self._max_body_bytes // 1_000_000} MB", address=_public(url)
                ) from None
            except RateLimited as error:
                raise RateLimited(
                    "the host of the image asks to wait", retry_after=error.retry_after, detail=_detail(error)
                ) from None
            except RetryableError as error:
                raise ServiceUnavailable("the host of the image does not respond", detail=_detail(error)) from None
            except AccessRefused:
                raise BadImage("access to the image is refused (401 or 403)", address=_public(url)) from None
            except RequestRefused as error:
                what = "does not exist" if error.status in _GONE else "cannot be fetched"
                raise BadImage(f"the image {what} ({error.status})", address=_public(url)) from None
            except UntrustedUrl as error:
                raise BadImage(f"the image is not fetched: {error.message}", address=_public(url)) from None
            except Unreachable as error:
                raise BadImage("the host of the image cannot be reached", detail=_detail(error)) from None
            except ConfigurationError:
                raise BadImage("the address of the image cannot be used", address=_public(url)) from None
        raise BadImage(f"the image redirects more than {MAX_REDIRECTS} times", address=_public(url))

    def close(self) -> None:
        """Close the connections."""
        for connector in self._connectors.values():
            connector.close()
        self._connectors.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _connector(self, origin: str) -> HttpConnector:
        """Return the connector of an origin; above `MAX_ORIGINS`, close the oldest one."""
        if origin not in self._connectors:
            if len(self._connectors) == MAX_ORIGINS:
                self._connectors.pop(next(iter(self._connectors))).close()
            self._connectors[origin] = HttpConnector(
                origin, rule=self._rule, max_body_bytes=self._max_body_bytes, **self._options
            )
        return self._connectors[origin]


def _parts(url: str) -> tuple[str, str]:
    """Return the origin of a URL, and its path with the query."""
    try:
        parsed = parse_url(url)
    except urllib3.exceptions.LocationParseError:
        raise BadImage("the address of the image cannot be used") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise BadImage("the address of the image does not start with http:// or https://", address=_public(url))
    if parsed.auth:
        raise BadImage("the address of the image has credentials in it", address=_public(url))
    return Url(parsed.scheme, None, parsed.host, parsed.port).url, parsed.request_uri


def _public(url: str) -> str:
    """Return a URL without its user, password, query and fragment."""
    try:
        parsed = parse_url(url)
    except urllib3.exceptions.LocationParseError:
        return "?"
    return Url(parsed.scheme, None, parsed.host, parsed.port, parsed.path).url


def _detail(error: ProviderSyncError) -> str:
    return _QUERY.sub("?***", error.message)
