"""Send one HTTP request over a requests session, and read its response: credentials, time-outs and limits.

`HttpConnector` decides what to send, when, and how often.
"""

from __future__ import annotations

import contextlib
import re
import time
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth
from requests.cookies import RequestsCookieJar
from requests.structures import CaseInsensitiveDict
from requests.utils import get_auth_from_url, urldefragauth

from include.connectors.messages import RawResponse, Request
from include.connectors.redaction import Redactor, looks_secret
from include.connectors.refusals import failed_to_connect, named_connection
from include.connectors.third_party import PinnedAdapter, ThirdPartyRule, is_same_service
from include.errors import BodyTooLarge, ConfigurationError, ProviderSyncError, UntrustedUrl

Auth = AuthBase | tuple[str, str]

READ_SIZE = 256 * 1024
MAX_CONNECTIONS = 64
"""Connections kept open for further requests. By default, requests keeps ten and closes the others."""
MAX_PREPARED = 32
"""Sets of prepared headers kept for further requests."""


class Transport:
    """One requests session with the credentials of one service. Safe to share between threads.

    The parameters are those of `HttpConnector`; `redact` removes all secrets that they contain from a text.
    """

    def __init__(
        self,
        base_url: str,
        *,
        conn_id: str,
        mirrors: Sequence[str],
        session: requests.Session | None,
        headers: Mapping[str, str],
        auth: Auth | None,
        secrets: Iterable[str],
        rule: ThirdPartyRule | None,
        timeouts: tuple[float, float],
        response_timeout: float,
        max_body_bytes: int,
    ) -> None:
        user, password = get_auth_from_url(base_url)
        self._owns_session = session is None
        self._session = session or requests.Session()
        self._headers = dict(headers)
        self._auth = auth or ((user, password) if user or password else None)
        if self._auth is None and self._owns_session:
            self._auth = _NoAuth()
        known = [*_secret_headers(self._headers), *_secret_headers(self._session.headers)]
        self.redact = Redactor([*secrets, *known, *_secrets_of(self._auth), *_secrets_of(self._session.auth)])
        addresses = [urldefragauth(base_url) if user or password else base_url, *mirrors]
        self.base_urls = tuple(_checked_url(address, self.redact) for address in addresses)
        # Proxies and certificates of the environment. Read once: it costs a quarter of a request.
        self._environment = self._session.merge_environment_settings(self.base_urls[0], {}, True, None, None)
        self._has_plain_auth = {type(self._auth), type(self._session.auth)} <= _PLAIN_AUTHS
        self._prepared: dict[tuple[Any, ...], CaseInsensitiveDict[str | bytes]] = {}
        for prefix, adapter in list(self._session.adapters.items()):
            if type(adapter) is HTTPAdapter:
                self._session.mount(prefix, HTTPAdapter(pool_maxsize=MAX_CONNECTIONS, max_retries=adapter.max_retries))
        if rule is not None and not rule.is_exempt(self.base_urls[0]):
            for prefix in ("http://", "https://"):
                self._session.mount(prefix, PinnedAdapter(rule))
        self._conn_id = conn_id
        self._timeouts = timeouts
        self._response_timeout = response_timeout
        self._max_body_bytes = max_body_bytes

    def send(self, request: Request, url: str) -> RawResponse | ProviderSyncError:
        """Send a request to `url` and read the response; redirects are not followed.

        Returns the error of a request without a complete response instead of raising it: errors of requests contain the
        whole address, and must not become the context of ours.

        Raises:
            BodyTooLarge: the body has more than `max_body_bytes`.
        """
        try:
            with self._session.send(
                self._prepare(request, url), timeout=self._timeouts, allow_redirects=False, **self._environment
            ) as response:
                is_good = 200 <= response.status_code < 300
                body = self._read(request, response) if is_good else _beginning(response)
                return RawResponse(response.status_code, response.headers, body, response.url)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            return failed_to_connect(
                self.redact(f"{request.method} {_with_query(url, request.params)}"),
                url,
                error,
                timeouts=self._timeouts,
                redact=self.redact,
                conn_id=self._conn_id,
            )

    def url(self, path: str, mirror: int = 0) -> str:
        """Return the URL of a path below one of the base URLs, taken in turn by `mirror`.

        Raises:
            UntrustedUrl: the path is a URL of another service.
        """
        if re.match(r"https?://", path, re.IGNORECASE):
            if any(is_same_service(own, path) for own in self.base_urls):
                return path
            raise UntrustedUrl(
                f"The service supplied a link to another service, {self.redact(path)}, which would get the "
                f"credentials of {named_connection(self._conn_id)}: not followed. If it moved, change the address there"
            )
        base_url = self.base_urls[mirror % len(self.base_urls)]
        return f"{base_url.rstrip('/')}/{path.lstrip('/')}" if path else base_url

    def close(self) -> None:
        """Close the connections, unless the session was passed in."""
        if self._owns_session:
            self._session.close()

    def _prepare(self, request: Request, url: str) -> requests.PreparedRequest:
        """Prepare a request as requests does, but build headers that stay the same only once: a fifth of the time."""
        session = self._session
        if request.params or session.params or session.cookies or session.hooks["response"] or not self._has_plain_auth:
            return self._prepare_in_full(request, url)
        origin = url[: url.find("/", url.index("//") + 2)]
        key = (origin, *request.headers.items(), None, *session.headers.items())
        headers: Any = self._prepared.get(key)
        if headers is None:
            if len(self._prepared) >= MAX_PREPARED:
                self._prepared.clear()
            headers = self._prepare_in_full(replace(request, method="GET", body=None), url).headers
            if "Cookie" not in headers:  # a cookie set meanwhile may differ the next time
                self._prepared[key] = headers
        prepared: Any = requests.PreparedRequest()
        prepared.prepare_method(request.method)
        prepared.prepare_url(url, None)
        prepared.headers = headers.copy()
        prepared._cookies = RequestsCookieJar()  # requests reads it on redirects
        prepared.body = request.body or None
        prepared.prepare_content_length(prepared.body)
        done: requests.PreparedRequest = prepared
        return done

    def _prepare_in_full(self, request: Request, url: str) -> requests.PreparedRequest:
        headers = {**self._headers, **request.headers}
        whole = requests.Request(
            request.method, url, headers=headers, params=request.params, data=request.body, auth=self._auth
        )
        return self._session.prepare_request(whole)

    def _read(self, request: Request, response: requests.Response) -> bytes:
        """Read the body in large parts. urllib3 decompresses it, and raises if it is shorter than announced."""
        deadline = time.monotonic() + self._response_timeout
        parts = []
        size = 0
        while part := response.raw.read1(READ_SIZE, decode_content=True):
            parts.append(part)
            size += len(part)
            if size > self._max_body_bytes:
                raise BodyTooLarge(
                    f"{request.method} {self.redact(response.url)} responded with more than {self._max_body_bytes:,} "
                    "bytes: request smaller pages, or raise max_body_bytes"
                )
            if time.monotonic() > deadline:
                raise TimeoutError(f"the response took longer than {self._response_timeout:g} s")
        return parts[0] if len(parts) == 1 else b"".join(parts)


class _NoAuth(AuthBase):
    """Keeps requests from replacing the headers with credentials of a .netrc file."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


_PLAIN_AUTHS = {type(None), tuple, HTTPBasicAuth, _NoAuth}
"""Kinds of authentication that add the same header to every request."""


def _checked_url(url: str, redact: Redactor) -> str:
    """Return `url`; raise ConfigurationError if it is not the absolute URL of a service."""
    if not re.match(r"https?://[^/?#]", url, re.IGNORECASE):
        raise ConfigurationError(
            f"{redact(url)!r} is not the URL of a service: it must start with http:// or https:// and name a host"
        )
    return url


def _secret_headers(headers: Mapping[str, str | bytes]) -> list[str]:
    """Return the values of headers with secret-looking names, each also without a leading word such as Bearer."""
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
    # HTTP Basic sends both as Base64, which reveals the password.
    return [str(password), b64encode(f"{user}:{password}".encode()).decode()] if password else []


def _beginning(response: requests.Response) -> bytes:
    """Return the start of a body that only serves an error message."""
    with contextlib.suppress(urllib3.exceptions.HTTPError, OSError):
        return bytes(response.raw.read1(READ_SIZE, decode_content=True))
    return b""


def _with_query(url: str, params: Mapping[str, Any] | None) -> str:
    given = {name: value for name, value in (params or {}).items() if value is not None}
    return f"{url}?{urlencode(given, doseq=True)}" if given else url
